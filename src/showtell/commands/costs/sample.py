"""A small part of the dataset, on which the stages are run to estimate the cost of the whole.

The sample keeps all settings that determine the cost per image: sizes, networks, updates, vocabulary size. It has fewer
images and epochs, and random weights, which cost the same and need no download. Captions generated with random weights
would never end, so what is generated ends after as many words as captions have on average.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from showtell.core import paths
from showtell.core.files import read_json, write_bytes, write_json
from showtell.core.params import load_all
from showtell.core.yaml_files import set_values
from showtell.data.datasets import custom, karpathy
from showtell.data.datasets.coco import COCO
from showtell.data.datasets.flickr import FLICKR8K, FLICKR30K
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.picture_files import Pictures
from showtell.data.datasets.published import to_download
from showtell.encoders import pretrained

PUBLISHED = {dataset.name: dataset for dataset in (COCO, FLICKR8K, FLICKR30K)}
# Number of words that occur five times or more in the train captions, rounded.
WORDS = {"coco": 9_500, "flickr8k": 2_600, "flickr30k": 7_700, "scenes": 600}
UPDATES = 3  # number of updates per epoch, with the largest update
HELD_OUT = 32  # maximum number of images of the sample's val and test
FEW = 4  # images of each split in a smaller sample
ATTENTION = 2  # test images whose attention is drawn

Counts = dict[str, int]  # images of each split


@dataclass(frozen=True)
class Whole:
    """Size of the dataset that the sample is taken from."""

    counts: Counts
    words: int  # of the vocabulary
    records: list[Record] | None = None  # for the user's own images
    pictures: Pictures | None = None
    archives: int = 0  # bytes of pictures that are downloaded, as far as known


def look(params: Mapping[str, Any]) -> Whole:
    """The size of the dataset: counted in the user's captions file, known for published datasets."""
    name = params["dataset"]
    if name == "scenes":
        scenes = params["scenes"]
        return Whole({split: getattr(scenes, split) for split in paths.SPLITS}, WORDS[name])
    if (dataset := PUBLISHED.get(name)) is not None:
        archives = sum(file.size or 0 for file in to_download(dataset, params["download"]) if file in dataset.pictures)
        words = min(WORDS[name], params["vocab"].max_size or WORDS[name])
        return Whole(dict(dataset.counts), words, archives=archives)
    records, pictures = custom.source_of(params["custom"])
    counts = Counter(record.split for record in records)
    occurring = Counter(word for r in records if r.split == "train" for words in r.words for word in words)
    words = sum(count >= params["vocab"].min_count for count in occurring.values())
    words = min(words, params["vocab"].max_size or words)
    return Whole(dict(counts), words, records, pictures)


def sizes(whole: Whole, params: Mapping[str, Any]) -> tuple[Counts, Counts]:
    """Number of images in the splits of two samples: for a few updates, and as few as possible."""
    most = max(params[stage].images_per_update for stage in ("pretrain", "train", "finetune", "reinforce"))
    wanted = {"train": max(FEW, UPDATES * most), "val": HELD_OUT, "test": HELD_OUT}
    large = {split: min(wanted[split], whole.counts[split]) for split in paths.SPLITS}
    return large, {split: min(FEW, count) for split, count in large.items()}


def make_sample(folder: Path, whole: Whole, counts: Counts) -> None:
    """Write a project to `folder`: params.yaml, and captions and images of so many images per split."""
    folder.mkdir(parents=True, exist_ok=True)
    params = load_all(paths.PARAMS)
    changes: dict[str, Any] = {"pretrain.epochs": 1, "vocab.min_count": 1}
    changes |= {"evaluate.pictures": min(ATTENTION, params["evaluate"].pictures)}
    both = 0 < params["pretrain"].front_epochs < params["pretrain"].epochs and params["pretrain"].trainable_from
    changes |= {"pretrain.epochs": 2, "pretrain.front_epochs": 1} if both else {}
    changes |= {f"{stage}.epochs": 1 for stage in ("train", "finetune", "reinforce") if params[stage].epochs}
    changes |= {"detection.min_images": 1, "detection.max_share": 1.0}
    if params["encoder"].weights not in ("none", *pretrained.SHIPPED):
        changes |= {"encoder.weights": "none", "pretrain.enabled": params["pretrain"].enabled is True}
    if params["decoder"].model_dump().get("embeddings"):
        changes["decoder.embeddings"] = None
    if params["evaluate"].ensemble:
        changes["evaluate.ensemble"] = None
    if params["evaluate"].clip_model:  # its weights would be downloaded
        changes |= {"evaluate.clip_model": None, "evaluate.clip_weights": None}
    if params["dataset"] == "scenes":
        changes |= {f"scenes.{split}": count for split, count in counts.items()}
    else:
        records = _some(whole.records, counts) if whole.records else _made_up(counts)
        source = whole.pictures
        for number, record in enumerate(records):
            write_bytes(folder / "pictures" / record.file, source.read(record.file) if source else _noise(number))
        karpathy.write(folder / "sample.json", "custom", records)
        changes |= {"dataset": "custom", "custom.images": "pictures", "custom.captions": "sample.json"}
        changes |= {"custom.format": "karpathy", "resize.broken": "skip"}
        changes |= {"reinforce.chair": 0.0, "reinforce.truth": 0.0}  # these images have no annotated objects
    (folder / "params.yaml").write_text(paths.PARAMS.read_text(encoding="utf-8"), encoding="utf-8")
    set_values(folder / "params.yaml", changes)


def _some(records: Sequence[Record], counts: Counts) -> list[Record]:
    """So many records of each split, spread evenly."""
    chosen = []
    for split, count in counts.items():
        of_split = [record for record in records if record.split == split]
        chosen += [of_split[int(row)] for row in np.linspace(0, len(of_split) - 1, count)]
    return chosen


def _made_up(counts: Counts) -> list[Record]:
    """Records that stand for a published dataset not downloaded yet: five captions of 7 to 14 words."""
    rng = np.random.default_rng(0)
    records: list[Record] = []
    for split, count in counts.items():
        for _ in range(count):
            words = [[f"w{word}" for word in rng.integers(0, 300, rng.integers(7, 15))] for _ in range(5)]
            number = len(records)
            records.append(Record(number, f"{number}.jpg", split, [" ".join(caption) for caption in words], words))
    return records


def _noise(number: int) -> bytes:
    """A JPEG of 640 x 480 pixels and about 100 kB, typical of published photographs."""
    from io import BytesIO

    from PIL import Image

    soft = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(soft).resize((640, 480), Image.Resampling.BICUBIC).save(out, "JPEG", quality=92)
    return out.getvalue()


def shorten(folder: Path, splits: Collection[str], words: int | None = None) -> int:
    """Cut the captions of these splits to so many words (None: the mean of the train captions), which is returned.

    Captions are generated for val, and drawn in `reinforce`, until all have ended or are as long as the longest of the
    split. A trained model ends them after about as many words as given captions have; with random weights it does not.
    """
    path = folder / paths.CAPTIONS_RAW
    records = list(karpathy.stream(path))
    if words is None:
        lengths = [len(caption) for record in records if record.split == "train" for caption in record.words]
        words = max(1, round(sum(lengths) / len(lengths)))
    for row, record in enumerate(records):
        if record.split in splits:
            cut = [caption[:words] for caption in record.words]
            texts = [" ".join(short) or text for short, text in zip(cut, record.captions, strict=True)]
            records[row] = replace(record, captions=texts, words=cut)
    karpathy.write(path, "sample", records)
    return words


def fill_vocabulary(folder: Path, words: int) -> None:
    """Extend the vocabulary to `words` words: the cost of the vocabulary layer depends on it."""
    content = read_json(folder / paths.VOCAB)
    missing = max(0, words - len(content["words"]))
    content["words"] += [f"more{number}" for number in range(missing)]
    content["counts"] += [1] * missing
    write_json(folder / paths.VOCAB, content)
