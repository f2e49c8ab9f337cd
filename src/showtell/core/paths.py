"""Path of every artefact, relative to the repository's root, which is the working directory of every stage."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")

# check
CHECKED = Path("data/checked.txt")

# source
SOURCE = Path("data/raw/source.json")

# download
CAPTIONS_RAW = Path("data/raw/captions.json")
OBJECTS = Path("data/raw/objects.json")
IMAGES_RAW = Path("data/raw/images")

# vocab
CAPTIONS = Path("data/captions")
VOCAB = Path("data/vocab.json")

# resize, features
IMAGES = Path("data/images")
SKIPPED = Path("data/skipped.json")
NEAR_DUPLICATES = Path("data/near_duplicates.json")
FEATURES = Path("data/features")

# encoder (as it was used for the features), train, finetune
ENCODER = Path("data/models/encoder")
TRAIN_MODEL = Path("data/models/train")
FINETUNE_MODEL = Path("data/models/finetune")
REINFORCE_MODEL = Path("data/models/reinforce")

# evaluate
MODEL = Path("data/model")  # the bundle that is served
HYPOTHESES = Path("data/hypotheses/test.json")
ATTENTION = Path("data/attention")
METRICS = Path("metrics")
REPORT = Path("metrics/report")

LEARNING = ("train", "finetune", "reinforce")  # stages that write a learning curve, metrics/<stage>.tsv

SPLITS = ("train", "val", "test")


def given(path: str | Path) -> Path:
    """The absolute path of a file or folder, or pattern of files, that params.yaml names; relative paths start at the
    repository's root.

    DVC runs a queued experiment in a copy of the repository below `.dvc/tmp`, which has only the tracked files. A path
    that does not exist in the copy is looked up in the repository itself.
    """
    path, here = Path(path), Path.cwd()
    original = next((folder.parent for folder in here.parents if folder.name == ".dvc"), None)
    if original is not None and not _is_there(path) and _is_there(original / path):
        return (original / path).resolve()
    return path.absolute()


def _is_there(path: Path) -> bool:
    return path.exists() or bool(matches(path))


def matches(pattern: Path) -> list[Path]:
    """The regular files that a pattern such as `crawl/*.tar` or `crawl/{00000..00099}.tar` matches, by name."""
    return [path for text in _numbered(str(pattern)) for path in _files(text)]


def unmatched(pattern: Path) -> list[str]:
    """The numbers of a pattern such as `crawl/{00000..00099}.tar`, written out, of which there is no file."""
    return [text for text in _numbered(str(pattern)) if not _files(text)]


def _numbered(text: str) -> Iterator[str]:
    """`text` with every number of its spans {first..last}; leading zeros as in the first."""
    span = re.search(r"\{(\d+)\.\.(\d+)\}", text)
    if span is None:
        yield text
        return
    for number in range(int(span[1]), int(span[2]) + 1):
        yield from _numbered(text.replace(span[0], f"{number:0{len(span[1])}d}", 1))


def _files(pattern: str) -> list[Path]:
    return sorted(Path(name) for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))


def split_json(split: str) -> Path:
    return CAPTIONS / f"{split}.json"


def split_images(split: str) -> Path:
    return IMAGES / f"{split}.h5"


def split_features(split: str) -> Path:
    return FEATURES / f"{split}.h5"
