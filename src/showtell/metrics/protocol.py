"""The COCO protocol: captions against references, tokenised and scored as everyone publishes them.

Captions in scripts without spaces between words are scored on characters instead of PTB tokens (`tokenisation.py`).

Chen et al. 2015, "Microsoft COCO Captions: Data Collection and Evaluation Server". BLEU-1..4, ROUGE-L and CIDEr-D
equal the reference scorer, METEOR is that scorer's own; see their modules. All scores are fractions, CIDEr-D is not
scaled to percent (it ranges from 0 to 10).
"""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, tee
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np

from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.metrics.bleu import BleuTargets, bleu
from showtell.metrics.bootstrap import Measured, mean
from showtell.metrics.cider import Targets, Vectors
from showtell.metrics.meteor import MeteorScores, from_statistics
from showtell.metrics.meteor import meteor as run_meteor
from showtell.metrics.ngram_table import NgramTable, in_blocks
from showtell.metrics.ngrams import IMAGES_PER_BLOCK, ORDER
from showtell.metrics.rouge import rouge_l_of
from showtell.metrics.tokenisation import PTB, Tokenisation, tokenisation_for

KEYS = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider", "meteor")


@dataclass(frozen=True)
class Scores:
    """Scores of one set of captions: `corpus` by key, None where not computed, and per image. `notes`
    by key: why not computed, or with which model.

    `images[key]` (image) follows `image_ids`; `bleu_statistics` (image, column) are the sufficient statistics of BLEU.
    """

    image_ids: list[Hashable]
    corpus: dict[str, float | None]
    images: dict[str, np.ndarray]
    bleu_statistics: np.ndarray
    meteor_statistics: np.ndarray | None = None
    notes: dict[str, str] = field(default_factory=dict)
    tokenisation: Tokenisation = PTB
    more: dict[str, Measured] = field(default_factory=dict)  # further metrics

    def measured(self) -> dict[str, Measured]:
        """The metrics that were computed, in the form that `bootstrap` resamples."""
        metrics = {
            f"bleu{order + 1}": Measured(self.bleu_statistics, partial(_bleu_of_order, order)) for order in range(ORDER)
        }
        metrics |= {key: mean(self.images[key]) for key in ("rouge_l", "cider")}
        if self.meteor_statistics is not None:
            metrics["meteor"] = Measured(self.meteor_statistics, from_statistics)
        return metrics | self.more

    def with_more(self, more: Mapping[str, Measured], note: str = "") -> "Scores":
        """The same scores with further metrics; `note` is shown beside each of them."""
        corpus = {**self.corpus, **{key: metric.score for key, metric in more.items()}}
        notes = {**self.notes, **(dict.fromkeys(more, note) if note else {})}
        return replace(self, corpus=corpus, notes=notes, more={**self.more, **more})


def _bleu_of_order(order: int, sums: np.ndarray) -> np.ndarray:
    return bleu(sums)[..., order]


class Protocol:
    """Scores hypotheses against fixed raw references {image_id: [caption]}, whose n-grams are counted once.

    The references are iterated over for every scoring, in blocks of images: values read from a file are not kept in
    memory.
    """

    def __init__(self, references: Mapping[Any, Sequence[str]]) -> None:
        """`UserError` when there are fewer than two images, or an image has no reference."""
        if len(references) < 2:
            raise UserError(
                f"cannot score a corpus of {len(references)} image(s): CIDEr-D weighs words by how few images' "
                "references have them, and with one image every weight is log(1/1) = 0; give at least two"
            )
        bare = [i for i, captions in zip(references, references.values(), strict=True) if not captions]
        if bare:
            raise UserError(f"no reference caption for {_names(bare)}")
        self.tokenisation = tokenisation_for(caption for captions in references.values() for caption in captions)
        self._references, self.image_ids = references, list(references)
        self._table = NgramTable(tokens for block in self._blocks() for tokens in block)

    def _blocks(self) -> Iterator[list[list[str]]]:
        """Tokenised references of some images at a time, in order."""
        texts, counted = tee(self._references.values())
        tokens = self.tokenisation.tokenised(caption for captions in texts for caption in captions)
        for numbers in in_blocks(map(len, counted), IMAGES_PER_BLOCK):
            yield [list(islice(tokens, number)) for number in numbers]

    def _hypotheses(self, hypotheses: Mapping[Any, str]) -> Iterator[str]:
        """Tokenised hypotheses of all images, in order."""
        return self.tokenisation.tokenised(hypotheses[image_id] for image_id in self.image_ids)

    def score(self, hypotheses: Mapping[Any, str], meteor: bool = True) -> Scores:
        """Scores of one raw caption for each image; `UserError` names missing and extra images."""
        check_images(self.image_ids, hypotheses)
        image_ids, parts = self.image_ids, []
        said = self._hypotheses(hypotheses)
        words = dict(self._table.words)  # numbered, and those of the hypotheses after them
        for references in self._blocks():
            parts.append(self._of_block(references, list(islice(said, len(references))), words))
        statistics, rouge, cider = (np.concatenate(part) for part in zip(*parts, strict=True))
        images = {f"bleu{order + 1}": scores for order, scores in enumerate(bleu(statistics).T)}
        images |= {"rouge_l": rouge, "cider": cider}
        corpus: dict[str, float | None] = {
            f"bleu{order + 1}": float(score) for order, score in enumerate(bleu(statistics.sum(axis=0)))
        }
        corpus |= {key: float(images[key].mean()) for key in ("rouge_l", "cider")}
        corpus["meteor"], meteor_statistics, notes = None, None, {}
        outcome = self._meteor(hypotheses) if meteor else "not computed: not asked for"
        if isinstance(outcome, str):
            notes["meteor"] = outcome
        else:
            corpus["meteor"], images["meteor"], meteor_statistics = outcome
        return Scores(image_ids, corpus, images, statistics, meteor_statistics, notes, self.tokenisation)

    def _of_block(
        self, references: Sequence[Sequence[str]], captions: Sequence[str], words: dict[str, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """BLEU statistics (image, column), ROUGE-L and CIDEr-D (image) of some images' captions, all tokenised."""
        number = np.array([len(of_image) for of_image in references], np.int64)
        flat = [caption for of_image in references for caption in of_image]
        counts, lengths = self._table.count_texts([*flat, *captions], words)
        parts = [of_order.split(len(flat)) for of_order in counts]
        known, said = [known for known, _ in parts], [said for _, said in parts]
        theirs, own, image = lengths[: len(flat)], lengths[len(flat) :], np.arange(len(captions))
        layout = np.repeat(image, number), number
        statistics = BleuTargets(known, theirs, *layout).statistics(said, own, image)
        targets = Targets(Vectors.of(known, theirs, self._table), *layout)
        cider = targets.scores(Vectors.of(said, own, self._table), image)
        return statistics, np.array([rouge_l_of(c, r) for c, r in zip(captions, references, strict=True)]), cider

    def _meteor(self, hypotheses: Mapping[Any, str]) -> MeteorScores | str:
        return run_meteor((tokens for block in self._blocks() for tokens in block), self._hypotheses(hypotheses))

    @property
    def tokens(self) -> dict[Any, list[str]]:
        """The tokenised references of each image, computed at each call."""
        return dict(zip(self.image_ids, (tokens for block in self._blocks() for tokens in block), strict=True))


def evaluate(references: Mapping[Any, Sequence[str]], hypotheses: Mapping[Any, str], meteor: bool = True) -> Scores:
    """Score raw captions against raw references once; for repeated scoring keep a `Protocol`."""
    return Protocol(references).score(hypotheses, meteor)


def check_images(references: Collection[Hashable], hypotheses: Collection[Hashable]) -> None:
    """`UserError` unless both have the same images; where ids differ on both sides, it shows one of each."""
    if len(references) == len(hypotheses) and all(map(eq, references, hypotheses)):
        return  # the usual case, without tables of all ids
    wanted, given = dict.fromkeys(references), dict.fromkeys(hypotheses)
    missing = [image_id for image_id in wanted if image_id not in given]
    extra = [image_id for image_id in given if image_id not in wanted]
    if missing and extra:
        raise UserError(
            f"image ids differ: the references have {str(missing[0])!r}, the hypotheses {str(extra[0])!r} "
            f"({len(missing)} references without a hypothesis, {len(extra)} hypotheses without references)"
        )
    if missing:
        raise UserError(f"no hypothesis for {_names(missing)}")
    if extra:
        raise UserError(f"hypotheses without references: {_names(extra)}")


def _names(image_ids: Sequence[Hashable]) -> str:
    shown = ", ".join(map(str, image_ids[:5]))
    more = f" and {len(image_ids) - 5} more" if len(image_ids) > 5 else ""
    return f"image{'s' if len(image_ids) > 1 else ''} {shown}{more}"


def read_hypotheses(path: Path) -> dict[str, str]:
    """{image id as text: caption} of a COCO results file; `UserError` for other content or a repeated image."""
    return parse_hypotheses(str(path), read_json(path))


def parse_hypotheses(path: str, content: object) -> dict[str, str]:
    """`read_hypotheses` of content already read; `path` names it in messages."""
    result: dict[str, str] = {}
    repeated = []
    if not isinstance(content, list):
        raise UserError(f"{path} is not a COCO results file, a list of {{image_id, caption}}")
    for number, entry in enumerate(content, start=1):
        image_id = _image_id(f"{path}: entry {number}", entry, "image_id")
        if image_id in result:
            repeated.append(image_id)
        result[image_id] = _caption(f"{path}: entry {number}", entry)
    if repeated:
        raise UserError(f"{path} has more than one caption for {_names(repeated)}")
    return result


def read_references(path: Path) -> dict[str, list[str]]:
    """{image id as text: captions} of a COCO captions annotations file, or of one of the pipeline's caption files."""
    content = read_json(path)
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        return _from_annotations(path, content)
    if isinstance(content, list) and all(isinstance(entry, dict) and "references" in entry for entry in content):
        return _from_entries(path, content)
    raise UserError(f"{path} is not a COCO captions file: an object with `images` and `annotations`")


def _from_entries(path: Path, content: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for number, entry in enumerate(content, start=1):
        references = entry["references"]
        if not isinstance(references, list) or not all(isinstance(text, str) for text in references):
            raise UserError(f"{path}: entry {number}: references must be a list of texts")
        image_id = _image_id(f"{path}: entry {number}", entry, "image_id")
        if image_id in result:
            raise UserError(f"{path} lists image {image_id} twice")
        result[image_id] = references
    return result


def _from_annotations(path: Path, content: Mapping[str, Any]) -> dict[str, list[str]]:
    images = content.get("images", [])
    if not isinstance(images, list):
        raise UserError(f"{path}: `images` must be a list, each of its entries with an id")
    result: dict[str, list[str]] = {}
    for number, entry in enumerate(images, start=1):
        image_id = _image_id(f"{path}: images: entry {number}", entry, "id")
        if image_id in result:
            raise UserError(f"{path} lists image {image_id} twice")
        result[image_id] = []
    for number, entry in enumerate(content["annotations"], start=1):
        where = f"{path}: annotations: entry {number}"
        image_id, caption = _image_id(where, entry, "image_id"), _caption(where, entry)
        if images and image_id not in result:
            raise UserError(f"{where}: image {image_id} is not among `images`")
        result.setdefault(image_id, []).append(caption)
    return result


def _image_id(where: str, entry: object, key: str) -> str:
    """The image id of a file's entry as text; ids are text or numbers, NaN is refused."""
    if not isinstance(entry, dict) or key not in entry:
        raise UserError(f"{where} lacks {key}: {str(entry)[:80]}")
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value != value:
        raise UserError(f"{where}: {key} must be a number or text, not {str(value)[:80]}")
    return id_text(value)


def id_text(value: object) -> str:
    """An image id as text, 5.0 as 5."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _caption(where: str, entry: Mapping[str, Any]) -> str:
    if "caption" not in entry:
        raise UserError(f"{where} lacks caption: {str(entry)[:80]}")
    if not isinstance(entry["caption"], str):
        found = "null" if entry["caption"] is None else str(entry["caption"])[:80]
        raise UserError(f"{where} (image {str(entry.get('image_id'))[:80]}): caption must be text, not {found}")
    return entry["caption"]


def score_files(hypotheses: Path, references: Path, meteor: bool = True, subset: bool = False) -> Scores:
    """Score a COCO results file against a COCO captions file; image ids may be numbers or text.

    Every image must have a hypothesis; with `subset`, images without one are left out of the references (then the
    document frequencies of CIDEr-D are the subset's).
    """
    captions, truth = read_hypotheses(hypotheses), read_references(references)
    if subset:
        shared = {image_id: texts for image_id, texts in truth.items() if image_id in captions}
        truth = shared or truth  # where none is shared, the error shows an id of each side
    return evaluate(truth, captions, meteor)
