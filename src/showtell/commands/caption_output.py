"""Captioning a row of pictures, few at a time: read, caption, print, draw."""

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from showtell.commands.inputs import Source
from showtell.core.errors import UserError
from showtell.core.files import atomic
from showtell.core.progress import log
from showtell.core.terminal import printable
from showtell.data.transform import Transform, load_image

if TYPE_CHECKING:  # an exported graph is run without torch and matplotlib, which take seconds to import
    from showtell.generation.captioner import Caption
    from showtell.generation.onnx_captioner import GraphCaption

LARGEST = 1024  # pixels, the longer side of a picture that attention is drawn on


class Asked(NamedTuple):
    """What is wanted of the captioner. `settings` of the search replace the model's own."""

    n_best: int
    min_confidence: float | None
    settings: Mapping[str, Any]


def caption_photos(
    folders: Sequence[Path], sources: Sequence[Source], asked: Asked, drawings: Sequence[Path] | None, as_json: bool,
    head: int | None = None,
) -> bool:  # fmt: skip
    """Print the captions of `sources`, and draw them at the paths `drawings`; whether all of them could be read.

    Several models in `folders` speak together, with the settings of the first. `head`: the attention head to draw, else
    their mean. What is wrong with a picture goes to stderr, as does why one has no caption, and the others go on.
    """
    from showtell.generation.captioner import Captioner

    captioner = Captioner.load(*folders)
    captioner.show_head(head)
    captioner.search.override(**asked.settings).check_n_best(asked.n_best)
    captioner.check_confidence(asked.min_confidence, **asked.settings)
    read = Pictures(sources, captioner.model.transform if drawings is not None else None)
    wanted = asked.n_best, drawings is not None, asked.min_confidence
    for captions in captioner.stream(read, *wanted, **asked.settings):
        for photo in read.up_to_a_whole_one():
            tell(photo, captions, drawings, as_json)
    for photo in read.up_to_a_whole_one():
        tell(photo, [], drawings, as_json)
    return read.whole


class Photo(NamedTuple):
    """A picture that was asked for, made small, to be drawn on; or why it could not be read."""

    index: int  # type: ignore[assignment]  # hides the method of tuples, which nobody calls
    source: Source
    picture: Image.Image | None = None
    problem: str | None = None


class Pictures:
    """Iterates over the pictures that can be read, and remembers all of them until they are told of."""

    def __init__(self, sources: Sequence[Source], draws_on: Transform | None):
        self._sources, self._draws_on = sources, draws_on
        self._waiting: deque[Photo] = deque()
        self.whole = True

    def __iter__(self) -> Iterator[Image.Image]:
        for index, source in enumerate(self._sources):
            try:
                picture = load_image(source.load())
            except UserError as error:
                message = str(error).replace(source.name, source.shown)
                message = message if source.shown in message else f"{source.shown}: {message}"
                self._waiting.append(Photo(index, source, problem=message))
                self.whole = False
                continue
            small = None
            if self._draws_on is not None:
                from showtell.evaluation.attention_pictures import seen

                small = seen(picture, self._draws_on).copy()
                small.thumbnail((LARGEST, LARGEST))  # a batch of photographs at their full size may not fit the memory
            self._waiting.append(Photo(index, source, small))
            yield picture

    def up_to_a_whole_one(self) -> Iterator[Photo]:
        """Those that wait, the first that could be read being the last."""
        while self._waiting:
            photo = self._waiting.popleft()
            yield photo
            if photo.problem is None:
                return


def tell(
    photo: Photo, captions: "Sequence[Caption | GraphCaption]", drawings: Sequence[Path] | None, as_json: bool
) -> None:
    """Print what was found for a picture, and draw it."""
    if photo.problem is not None:
        log(f"error: {photo.problem}")
    reason = captions[0].abstained if captions else None
    if reason is not None:
        log(f"{photo.source.shown}: no caption: {reason}")
    for line in lines(photo.source.shown, captions, as_json, photo.problem):
        print(line, flush=True)
    if photo.picture is not None and drawings is not None and reason is None:
        _draw(drawings[photo.index], photo.picture, captions[0])


def lines(
    name: str, captions: "Sequence[Caption | GraphCaption]", as_json: bool, problem: str | None = None
) -> Iterator[str]:
    """What is printed for one image: `name: caption`, with the log probability where there are several; or JSON.

    Of an image with a `problem`, or without a caption, only JSON says so.
    """
    if as_json:
        entries = [_entry(caption) for caption in captions]
        more = {"captions": entries} if len(entries) > 1 else {}
        content = {"error": problem} if problem is not None else {**entries[0], **more}
        yield _json({"image": name, **content})
    elif problem is None and captions[0].abstained is None:
        many = len(captions) > 1
        shown = (f"{name}: {c.text}" + (f"  ({c.logprob:.2f})" if many else "") for c in captions)
        yield from (printable(line).replace("\n", "\\n") for line in shown)


def _entry(caption: "Caption | GraphCaption") -> dict[str, Any]:
    """One caption for JSON. Confidence and truth are the first caption's alone."""
    if caption.abstained is not None:
        return {"caption": None, "abstained": caption.abstained, "confidence": caption.confidence}
    said = {"caption": caption.text, "logprob": caption.logprob, "score": caption.score, "finished": caption.finished}
    chances = {"confidence": caption.confidence, "truth": caption.truth}
    return {**said, **chances, "words": caption.words, "probabilities": list(caption.probabilities)}


def _json(content: Mapping[str, Any]) -> str:
    """One line; what would steer a terminal, and what its encoding lacks, is escaped."""
    text = json.dumps(content, ensure_ascii=False)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(content)
    return text if printable(text) == text else json.dumps(content)


def _draw(path: Path, picture: Image.Image, best: "Caption | GraphCaption") -> None:
    if best.attention is None:
        raise UserError("this model does not attend to parts of the image: there is nothing to draw (--attention)")
    from showtell.evaluation.attention_pictures import draw_attention

    with atomic(path) as temporary:
        draw_attention(picture, best).save(temporary, Image.registered_extensions()[path.suffix.lower()])
