"""Crawls in shards, as img2dataset writes them: WebDataset tars of images and captions, read in place.

A sample consists of consecutive files with the same name up to the first dot: `000000123.jpg`, `000000123.txt` (the
caption) and `000000123.json` (metadata; its `caption` is used where there is no text file). A sample's id is the
shard's name and its own, so that ids are unique over shards: `00000/000000123` in `00000.tar`.
"""

import array
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

import h5py
import numpy as np

from showtell.core.errors import UserError
from showtell.core.fields import is_id, shown
from showtell.core.files import atomic, fingerprint, parse_json
from showtell.core.paths import given, matches, unmatched
from showtell.core.progress import log, track
from showtell.core.texts import Texts
from showtell.data.datasets.archive_entries import TAR, Address
from showtell.data.datasets.archives import tar_members
from showtell.data.datasets.karpathy import clean
from showtell.data.datasets.outside import state_of
from showtell.data.formats import PICTURE_SUFFIXES

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
INDEX_SUFFIX = ".shards.h5"
MAX_TEXT_BYTES = 1 << 20  # greatest size of a sample's caption or metadata; captions are far smaller


def shard_paths(images: str | Path) -> list[Path]:
    """The tars of a folder, or those that a pattern such as `crawl/*.tar` matches; `UserError` when there are none."""
    path = given(images)
    named = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else matches(path)
    named = [one for one in named if one == path or not one.name.startswith(".")]
    found = [one for one in named if one.suffix.lower() == ".tar" and one.is_file()]
    packed = [one for one in named if one.name.lower().endswith(PACKED)]
    if packed:
        log(f"{images}: compressed tars are not read ({len(packed)}, the first is {packed[0]}); unpack them to .tar")
    absent = unmatched(path) if found and not path.exists() else []
    if absent:
        log(f"{images}: numbered shards are not there ({len(absent)}, the first is {absent[0]})")
    if not found:
        raise UserError(
            f"custom.images = {str(images)!r} holds no tars (shards such as 00000.tar); for other pictures name a "
            "captions file"
        )
    return found


class Sample(NamedTuple):
    """A sample with a picture and a caption."""

    name: str  # of its picture: shard/file
    caption: str

    @property
    def image_id(self) -> str:
        return _key(self.name)


class Shards:
    """The pictures of shards that have a caption, by name; a container of `Pictures`."""

    def __init__(self, paths: Sequence[str], names: Texts, places: np.ndarray):
        """`places`: shard, offset and size in bytes of each picture, int64 (picture, 3)."""
        self.paths, self.names, self._places = paths, names, places

    def address(self, position: int) -> Address:
        shard, offset, size = map(int, self._places[position])
        return Address(self.paths[shard], self.names[position], TAR, offset, size, size)

    def stamp(self) -> str:
        return fingerprint([state_of(Path(path)) for path in self.paths])

    def write(self, path: Path) -> None:
        """Write an index of the pictures to `path`, which ends in `INDEX_SUFFIX`."""
        with atomic(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["paths"] = json.dumps(list(self.paths))
            file.attrs["state"] = self.stamp()
            for name, values in (("names", self.names.content), ("ends", self.names.ends), ("places", self._places)):
                file.create_dataset(name, data=values)

    @classmethod
    def open(cls, path: Path) -> "Shards":
        """The content of an index; `UserError` when a shard has changed since."""
        with h5py.File(path, "r") as file:
            names = Texts(file["names"][()], file["ends"][()])
            shards = cls(json.loads(file.attrs["paths"]), names, file["places"][()])
            state = file.attrs["state"]
        gone = next((tar for tar in shards.paths if not Path(tar).is_file()), None)
        if gone is not None:
            raise UserError(f"{path} stands for {gone}, which is not there; bring it back and run `dvc repro`")
        if shards.stamp() != state:
            raise UserError(f"shards have changed since {path} was made of them; run `dvc repro`")
        return shards


class Crawl:
    """All samples of some shards, read once: pictures by name, captions on disk."""

    def __init__(self, paths: Sequence[Path]):
        """`UserError` names a damaged tar, or a sample that occurs twice."""
        self.without_picture = self.without_caption = 0
        with ExitStack() as stack:
            # one a line; an unnamed file, removed by the system
            self._captions = stack.enter_context(tempfile.TemporaryFile())
            self.shards = self._gone_through(paths)
            names = self.shards.names
            if len(np.unique(np.fromiter((hash(_key(name)) for name in names), np.int64, len(names)))) < len(names):
                _refuse_twice(names)
            self.close = stack.pop_all().close

    def __len__(self) -> int:
        return len(self.shards.names)

    def __iter__(self) -> Iterator[Sample]:
        self._captions.seek(0)
        for name, caption in zip(self.shards.names, self._captions, strict=True):
            yield Sample(name, caption.decode("utf-8").rstrip("\n"))

    def left_out(self) -> str | None:
        """The number of samples that are left out, for the log; None when none are."""
        gone = {"no picture": self.without_picture, "no caption": self.without_caption}
        said = " and ".join(f"{count:,} with {what}" for what, count in gone.items() if count)
        return f"of {len(self) + sum(gone.values()):,} samples {said} are left out" if said else None

    def _gone_through(self, paths: Sequence[Path]) -> Shards:
        places = array.array("q")

        def names() -> Iterator[str]:
            for number, (path, label) in enumerate(track(list(zip(paths, _labels(paths), strict=True)), "shards")):
                for sample, address in self._samples(path, label):
                    places.extend((number, address.offset, address.size))
                    self._captions.write(sample.caption.encode("utf-8") + b"\n")
                    yield sample.name

        found = Texts.of(names())
        return Shards([str(path.resolve()) for path in paths], found, np.array(places, np.int64).reshape(-1, 3))

    def _samples(self, path: Path, label: str) -> Iterator[tuple[Sample, Address]]:
        """The usable samples of a shard, and the locations of their pictures."""
        with open(path, "rb") as file:
            for members in _grouped(tar_members(path)):
                picture = next((m for m in members if m.name.lower().endswith(PICTURE_SUFFIXES)), None)
                texts = _texts(path, members)
                caption = ""
                if "txt" in texts:
                    caption = clean(_content(file, texts["txt"]).decode("utf-8", "replace"))
                if not _has_words(caption) and "json" in texts:
                    facts = parse_json(_content(file, texts["json"]), f"{path}: {shown(texts['json'].name)}")
                    said = facts.get("caption") if isinstance(facts, dict) else None
                    caption = clean(said) if isinstance(said, str) else ""
                told = _has_words(caption)
                self.without_picture += picture is None
                self.without_caption += picture is not None and not told
                if picture is not None and told:
                    _check_name(path, picture.name)
                    yield Sample(f"{label}/{picture.name}", caption), picture


def _labels(paths: Sequence[Path]) -> list[str]:
    """Unique names of the shards: the paths without their common prefix, and without `.tar`."""
    folders = [path.absolute().parent.parts for path in paths]
    common = 0
    while all(len(parts) > common and parts[common] == folders[0][common] for parts in folders):
        common += 1
    return ["/".join((*parts[common:], path.stem)) for parts, path in zip(folders, paths, strict=True)]


def _key(name: str) -> str:
    """A file's name up to the first dot of its last part, which all files of a sample share."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _grouped(members: Iterable[Address]) -> Iterator[list[Address]]:
    """Consecutive files of the same sample, grouped."""
    group: list[Address] = []
    for member in members:
        if group and _key(group[0].name) != _key(member.name):
            yield group
            group = []
        group.append(member)
    if group:
        yield group


def _check_name(path: Path, name: str) -> None:
    """`UserError` for a picture's name that would not be found again, where it is part of an id or of a path."""
    if not is_id(name) or "\\" in name:
        raise UserError(
            f"{path}: the name {shown(name)} has a backslash or control characters, or is not UTF-8; rename it"
        )


def _texts(path: Path, members: Sequence[Address]) -> dict[str, Address]:
    """A sample's caption and metadata, by suffix; `UserError` when it has two of one kind.

    Then it is several samples, whose names are equal up to their first dot.
    """
    texts: dict[str, Address] = {}
    for member in members:
        suffix = member.name.rpartition(".")[2].lower()
        if suffix in ("txt", "json") and texts.setdefault(suffix, member) is not member:
            raise UserError(
                f"{path}: {shown(texts[suffix].name)} and {shown(member.name)} are both of sample "
                f"{shown(_key(member.name))}: files of a sample have the name up to the first dot in common, those of "
                "others have not; rename them"
            )
    return {suffix: member for suffix, member in texts.items() if member.size <= MAX_TEXT_BYTES}


def _has_words(caption: str) -> bool:
    """Whether a caption has a letter or a digit, without which no tokenizer finds a word."""
    return any(map(str.isalnum, caption))


def _content(file: IO[bytes], member: Address) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _refuse_twice(names: Texts) -> None:
    seen: set[str] = set()
    for name in names:
        key = _key(name)
        if key in seen:
            raise UserError(f"the shards hold sample {shown(key)} twice; its files must be neighbours in one tar")
        seen.add(key)
