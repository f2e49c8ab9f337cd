"""Reading images by name from archives and linked folders; nothing is unpacked.

`data/raw/images` may contain zip and tar archives, image files, link files and indexes of shards. A link file is a
small JSON that names a folder or an archive elsewhere on this machine, so that COCO need not be stored twice; an index
has the offset of each image in the tars of a crawl (`shards.py`).
"""

import array
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from showtell.core.errors import UserError
from showtell.core.fields import shown
from showtell.core.files import fingerprint, read_json, write_json
from showtell.core.texts import Index, Texts
from showtell.data.datasets.archive_entries import FILE, Address, read
from showtell.data.datasets.archives import ARCHIVES, Archive, open_archive
from showtell.data.datasets.outside import regular_files, state_of
from showtell.data.datasets.shards import INDEX_SUFFIX, Shards

LINK_SUFFIX = ".link.json"
SCRATCH = Path("work")


class Container(Protocol):
    """The interface of an archive or a folder."""

    @property
    def names(self) -> Sequence[str]: ...

    def address(self, position: int) -> Address: ...

    def stamp(self) -> str: ...  # changes when the content does


class Folder:
    """Every regular file below `root`, links followed."""

    def __init__(self, root: Path):
        self.root = root
        self.names: Sequence[str] = Texts.of(name for name, _ in regular_files(root))

    def address(self, position: int) -> Address:
        return Address(str(self.root / self.names[position]), self.names[position])

    def stamp(self) -> str:
        return state_of(self.root)


class Pictures:
    """`read(file)` returns an image's bytes. No file is kept open, so it can be used in any thread."""

    def __init__(self, containers: dict[str, Container]):
        self.containers = containers
        counts = [len(container.names) for container in containers.values()]
        # index of each container's first picture
        self._starts = [sum(counts[:number]) for number in range(len(counts))]
        self._by_end, self._by_last = (
            Index(key(name) for container in containers.values() for name in container.names) for key in (_end, _last)
        )

    @classmethod
    def open(cls, path: Path, scratch: Path = SCRATCH) -> "Pictures":
        """The pictures of a folder (with archives and link files in it), of one archive, or of one link file.

        A compressed tar cannot be read at an offset: it is expanded once into a plain tar in the folder `scratch`,
        which is reused.
        """
        path = Path(path)
        if not path.exists():
            raise UserError(f"{path} does not exist; run `dvc repro download`")
        if path.is_file():
            return cls({path.name: _open_file(path, scratch)})
        containers: dict[str, Container] = {}
        for child in sorted(path.iterdir()):
            if child.is_file() and child.name.lower().endswith((*ARCHIVES, LINK_SUFFIX)):
                containers[child.name] = _open_file(child, scratch)
            elif child.name.endswith(INDEX_SUFFIX):
                containers[child.name] = Shards.open(child)
        loose = Folder(path)
        loose.names = Texts.of(name for name in loose.names if name not in containers)
        return cls({**containers, "": loose})

    @classmethod
    def of(cls, paths: Sequence[Path], scratch: Path = SCRATCH) -> "Pictures":
        """The pictures of several folders and archives anywhere."""
        return cls({str(path): Folder(path) if path.is_dir() else open_archive(path, scratch) for path in paths})

    def find(self, file: str) -> int | None:
        """The index of `file`: the exact path, else the only one that ends in it, else the only one with its last
        folder and name, else the only one with its name."""
        file = str(PurePosixPath(file))
        candidates = self._by_end.find(_end(file))
        for alike in (str, _composed):  # names of two files may differ in the normal form only
            exact = [position for position in candidates if alike(self._name(position)) == alike(file)]
            if exact:
                return exact[0]
        longer = [c for c in candidates if _composed(self._name(c)).endswith(f"/{_composed(file)}")]
        candidates = longer or [c for c in candidates if _end(self._name(c)) == _end(file)]
        if not candidates:
            last = _last(file)
            candidates = [place for place in self._by_last.find(last) if _last(self._name(place)) == last]
        if len(candidates) > 1:
            some = ", ".join(map(self._describe, candidates[:3]))
            raise UserError(f"{file} could be any of {len(candidates)} pictures ({some}); the captions must say which")
        return candidates[0] if candidates else None

    def _place(self, position: int) -> tuple[str, Container, int]:
        """Label of the container, the container, and the position in it."""
        number = max(n for n, start in enumerate(self._starts) if start <= position)
        label, container = list(self.containers.items())[number]
        return label, container, position - self._starts[number]

    def _name(self, position: int) -> str:
        _, container, inside = self._place(position)
        return container.names[inside]

    def _describe(self, position: int) -> str:
        label, container, inside = self._place(position)
        return f"{label}:{container.names[inside]}" if label else container.names[inside]

    def __contains__(self, file: str) -> bool:
        return self.find(file) is not None

    def missing(self, files: Sequence[str], where: str) -> list[str]:
        """Those of `files` that do not exist; `UserError` when two of them are the same picture, spelt in two ways.

        Otherwise the same picture could be in train and in test. `where` names the captions file.
        """
        absent: list[str] = []
        # (picture): index of the file that names it
        spelt = np.full(sum(len(container.names) for container in self.containers.values()), -1)
        for number, file in enumerate(files):
            found = self.find(file)
            if found is None:
                absent.append(file)
            elif spelt[found] < 0:
                spelt[found] = number
            elif files[spelt[found]] != file:
                raise UserError(
                    f"{where}: {shown(files[spelt[found]])} and {shown(file)} are the same picture, "
                    f"{shown(self._describe(found))}; spell it in one way"
                )
        return absent

    def check_links(self, files: Sequence[str], where: str) -> None:
        """`UserError` when two of `files`, which exist, are links (hard or symbolic) to the same file.

        Otherwise the same picture could be in train and in test. `where` names the captions file.
        """
        addresses = [address for file in files if (address := self.locate(file)).method == FILE]
        inodes = (os.stat(address.path) for address in addresses)
        hashes = np.array(array.array("q", (hash((state.st_dev, state.st_ino)) for state in inodes)), np.int64)
        order = np.argsort(hashes, kind="stable")
        for place in np.flatnonzero(np.diff(hashes[order]) == 0):
            one, other = (addresses[number] for number in order[place : place + 2])
            if os.path.samefile(one.path, other.path):
                raise UserError(
                    f"{where}: {shown(one.name)} and {shown(other.name)} are links to the same picture; keep one of "
                    "them, with the captions of both"
                )

    def example(self) -> str:
        """An example of a name here, for the error when no file is found."""
        files = self.files()
        return f"; it has {shown(files[0])}{' and the like' if len(files) > 1 else ''}" if files else "; it is empty"

    def locate(self, file: str) -> Address:
        """The location of the picture `file`; `UserError` when there is none, or several match."""
        found = self.find(file)
        if found is None:
            raise UserError(f"there is no picture {file} in {', '.join(filter(None, self.containers)) or 'the folder'}")
        _, container, inside = self._place(found)
        return container.address(inside)

    def read(self, file: str) -> bytes:
        """Bytes of the picture `file`."""
        return read(self.locate(file))

    def discard_scratch(self) -> None:
        """Delete the plain copies of compressed tars that `open` made."""
        for container in self.containers.values():
            if isinstance(container, Archive) and container.path != container.source:
                container.path.unlink(missing_ok=True)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a hash of archives, names, sizes and times of change."""
        return fingerprint({label: container.stamp() for label, container in self.containers.items()})

    def files(self) -> list[str]:
        """The names of all files, by index."""
        return [name for container in self.containers.values() for name in container.names]


def _composed(name: str) -> str:
    """The name in NFC: macOS and some archives store decomposed names."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _last(name: str) -> str:
    return _composed(name.rpartition("/")[2])


def _end(name: str) -> str:
    """The last folder and the name in it: many folders have a picture `0.jpg`, few of them the same name."""
    return _composed("/".join(name.rsplit("/", 2)[-2:]))


def write_link(path: Path, target: Path) -> None:
    """Write a link file at `path` (ending in `.link.json`) for the folder or archive `target`."""
    target = Path(target).resolve()
    write_json(path, {"link": str(target), "state": state_of(target)})


def link_pictures(source: Path, images: Path) -> None:
    """Write a link file in the folder `images` for the folder or archive `source`."""
    check_pictures(source)
    write_link(images / f"{source.resolve().name or 'pictures'}{LINK_SUFFIX}", source)


def check_pictures(source: Path) -> None:
    """`UserError` unless `source` is a folder or an archive."""
    if not source.exists():
        raise UserError(f"{source} does not exist")
    if source.is_file() and not source.name.lower().endswith(ARCHIVES):
        raise UserError(f"{source} is neither a folder nor an archive ({', '.join(ARCHIVES)})")


def _open_file(path: Path, scratch: Path) -> Container:
    if not path.name.endswith(LINK_SUFFIX):
        return open_archive(path, scratch)
    link = read_json(path)
    if not isinstance(link, dict) or not isinstance(link.get("link"), str):
        raise UserError(f"{path} is not a link file")
    target = Path(link["link"])
    if not target.exists():
        raise UserError(f"{path} stands for {target}, which is not there; bring it back and run `dvc repro`")
    if state_of(target) != link.get("state"):
        raise UserError(f"{target} has changed since it was linked; run `dvc repro`")
    return Folder(target) if target.is_dir() else open_archive(target, scratch)
