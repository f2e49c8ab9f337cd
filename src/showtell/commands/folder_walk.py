"""What lies below a folder: its image files, the files that are passed over, and the folders that cannot be read."""

import errno
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from showtell.core.errors import explained
from showtell.core.progress import log
from showtell.data.formats import PICTURE_SUFFIXES, passed_over

MOST_REASONS = 5  # reasons for passing over files, in one line

# Formats of photographs that are not among `PICTURE_SUFFIXES`: those of phones, and of cameras (raw).
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".hif", ".avifs", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"
)  # fmt: skip
SIDECARS = (".xmp", ".txt")  # written by `describe` beside a picture


class Unreadable(NamedTuple):
    """A folder that the system does not let us read, and the line that says so."""

    folder: str
    problem: str


def image_files(
    root: Path, on_refusal: Callable[[Unreadable], None], other: Counter[str] | None = None
) -> Iterator[Path]:
    """Every image file of `root` by name, then those of the folders below it; hidden folders are left out.

    Linked folders are left out as well: they may be outside `root`, or lead back to it. `on_refusal` gets each folder
    that cannot be read; `other` counts what else is there by the reason why it is passed over, sidecars of images left
    out.
    """
    for folder, names, left_out in _folders(root, on_refusal, follow_links=False):
        if other is not None:
            other.update(left_out)
        for name in sorted(names):
            path = Path(folder, name)
            reason = _reason_against(path)
            if reason is None:
                yield path
            elif other is not None and not _is_sidecar(path):
                other[reason] += 1


def comes_by(root: Path, path: Path) -> bool:
    """Whether `image_files(root)` yields `path`, or all that it yields for the folder `path`. Both are absolute."""
    if root not in path.parents or (not path.is_dir() and _reason_against(path) is not None):
        return False
    folders = [path, *path.parents] if path.is_dir() else list(path.parents)
    below = folders[: folders.index(root)]
    return all(_reason_against_folder(str(f.parent), f.name, follow_links=False) is None for f in below)


def unreadable_folders(root: Path) -> list[Unreadable]:
    """The folders from `root` on that cannot be read, links followed; hidden ones do not count."""
    found: list[Unreadable] = []
    for _ in _folders(root, found.append, follow_links=True):
        pass
    return found


def log_passed_over(name: str, other: Counter[str]) -> None:
    """Log the number of files that were passed over in `name`, with the most frequent reasons."""
    if other:
        why = ", ".join(f"{count} {reason}" for reason, count in other.most_common(MOST_REASONS))
        log(f"{name}: {other.total()} passed over: {why}")


def matching(pattern: str, other: Counter[str]) -> set[Path]:
    """The files and folders whose paths match a glob, `**` for any number of folders.

    Hidden folders are not entered by `**`, nor linked ones, since they may lead back; `other` counts them.
    """
    parts = Path(pattern).parts
    if "**" not in parts:
        return set(map(Path, glob.glob(pattern)))
    place = parts.index("**")
    rest = parts[place + 1 :] or ("*",)
    found: set[Path] = set()
    for start in glob.glob(os.path.join(*parts[:place])) if place else ["."]:
        for folder, _, left_out in _folders(Path(start), lambda refused: None, follow_links=False):
            other.update(left_out)
            found |= matching(os.path.join(glob.escape(folder), *rest), other)
    return found


def images_among(paths: Iterable[Path], other: Counter[str]) -> Iterator[Path]:
    """The image files among `paths`; `other` counts the other files by the reason why they are passed over,
    sidecars of images left out."""
    for path in paths:
        if path.is_dir():
            continue
        reason = _reason_against(path)
        if reason is None:
            yield path
        elif not _is_sidecar(path):
            other[reason] += 1


def _folders(
    root: Path, on_refusal: Callable[[Unreadable], None], follow_links: bool
) -> Iterator[tuple[str, list[str], Counter[str]]]:
    """Every folder from `root` on that can be read, with the names of its files and the numbers of folders that are
    left out, by reason: hidden ones and, unless `follow_links`, linked ones."""
    visited = set()
    for folder, below, names in os.walk(root, onerror=lambda e: on_refusal(_refusal(e)), followlinks=follow_links):
        if follow_links:
            real = os.path.realpath(folder)
            if real in visited:  # a link to a parent folder
                below.clear()
                continue
            visited.add(real)
        if not os.access(folder, os.X_OK):  # its names can be read, the files cannot
            on_refusal(_refusal(PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)))
            below.clear()
            continue
        reasons = {name: _reason_against_folder(folder, name, follow_links) for name in below}
        below[:] = sorted(name for name, reason in reasons.items() if reason is None)
        yield folder, names, Counter(reason for reason in reasons.values() if reason is not None)


def _reason_against_folder(parent: str, name: str, follow_links: bool) -> str | None:
    if name.startswith("."):
        return "hidden"
    return None if follow_links or not os.path.islink(os.path.join(parent, name)) else "a linked folder"


def _refusal(error: OSError) -> Unreadable:
    folder = os.fsdecode(error.filename)
    return Unreadable(folder, explained(error) or f"{folder}: {str(error.strerror).lower()}")


def _reason_against(path: Path) -> str | None:
    """As `passed_over`, and with advice for photographs in a format that is not read."""
    suffix = path.suffix.lower()
    unread = suffix in UNREAD_SUFFIXES or (suffix == ".avif" and not _reads_avif())
    if unread and not path.name.startswith("."):
        return f"{suffix}, a format that is not read; convert to JPEG or PNG"
    return passed_over(path)


def _reads_avif() -> bool:
    """Whether Pillow is built with AVIF; versions before 11.3 do not know it."""
    from PIL import features  # imported late: for one rare format

    return "avif" in features.modules and bool(features.check_module("avif"))


def _is_sidecar(path: Path) -> bool:
    return path.suffix.lower() in SIDECARS and path.stem.lower().endswith(PICTURE_SUFFIXES)
