"""Published datasets: archives of images, and Karpathy's JSON with captions and splits."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from showtell.core.errors import UserError
from showtell.core.files import parse_json, write_json
from showtell.core.params import PathName, Section
from showtell.core.paths import given
from showtell.core.progress import log
from showtell.data.datasets import karpathy
from showtell.data.datasets.archives import open_archive
from showtell.data.datasets.fetch import fetch_all, mismatch
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.picture_files import Pictures, link_pictures
from showtell.data.datasets.transfer import RemoteFile

# Downloads are kept here (hard-linked where the file system supports it), so that neither a change of parameters nor a
# kill before DVC has stored the outputs makes it download 20 GB again.
DOWNLOADS = Path("work/downloads")

# The archive with dataset_coco.json, dataset_flickr8k.json and dataset_flickr30k.json.
CAPTION_DATASETS = RemoteFile(
    "caption_datasets.zip",
    ("https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip",),
    size=36_745_453,
    sha256="4cfd70132527b80933105e5829dc9034eaab9573482e2e680abbab6130244817",
)


class DownloadParams(Section):
    source: PathName | None = Field(description="folder or archive here that has the files; null: download them")
    captions: PathName | None = Field(description="Karpathy's JSON here, or the zip that has it; null: find")
    mirror: str | None = Field(description="URL of a folder tried before the known sources; null: none")
    incomplete: Literal["error", "accept"] = Field(description="pictures missing or other counts than published")


@dataclass(frozen=True)
class Published:
    """A published dataset: its files, their checksums, and the sizes of its splits."""

    name: str
    captions_json: str  # name of its file in CAPTION_DATASETS
    pictures: tuple[RemoteFile, ...]
    folders: tuple[tuple[str, ...], ...]  # per archive: possible names of its unpacked folder
    counts: dict[str, int]
    help: str  # what to do when a download fails
    other_captions: tuple[RemoteFile, ...] = ()  # the same captions in other files
    objects: Callable[[Path, Sequence[Record]], dict] | None = None  # source folder, records -> objects.json


def prepare(dataset: Published, folder: Path, params: DownloadParams) -> None:
    """Fill `folder` with captions.json, objects.json and images/."""
    source = _source(params)
    records = read_captions(dataset, params, source)
    archives = _download_pictures(dataset, params) if source is None else local_pictures(dataset, source)
    records = check_complete(dataset, records, Pictures.of(archives), params.incomplete)
    for archive in archives:
        if source is None:
            place(archive, folder / "images" / archive.name)
        else:
            link_pictures(archive, folder / "images")
    objects = dataset.objects(source, records) if dataset.objects and source and source.is_dir() else {}
    karpathy.write(folder / "captions.json", dataset.name, records)
    write_json(folder / "objects.json", objects, indent=None)


def _source(params: DownloadParams) -> Path | None:
    source = given(params.source) if params.source else None
    if source is not None and not source.exists():
        raise UserError(f"download.source = {params.source!r} does not exist")
    return source


def to_download(dataset: Published, params: DownloadParams) -> list[RemoteFile]:
    """The files that `prepare` takes from the network unless they are in `DOWNLOADS`."""
    source = _source(params)
    captions = [] if _local_captions(dataset, params, source) is not None else [CAPTION_DATASETS]
    return [*captions, *(dataset.pictures if source is None else ())]


def _download_pictures(dataset: Published, params: DownloadParams) -> list[Path]:
    try:
        return fetch_all(dataset.pictures, DOWNLOADS, params.mirror)
    except UserError as error:
        raise UserError(f"{error}. {dataset.help}") from None


def place(downloaded: Path, target: Path) -> None:
    """Hard-link `downloaded` to `target`; where the file system has no hard links, move it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(downloaded, target)
    except OSError:
        os.replace(downloaded, target)


def read_captions(dataset: Published, params: DownloadParams, source: Path | None) -> list[Record]:
    """Karpathy's records: from the given path, else from `source`, else downloaded."""
    local = _local_captions(dataset, params, source)
    if local is not None:
        return _records(dataset, local)
    errors = []
    for choice in (CAPTION_DATASETS, *dataset.other_captions):
        try:
            return _records(dataset, fetch_all([choice], DOWNLOADS, params.mirror)[0])
        except UserError as error:
            errors.append(str(error))
    raise UserError(f"{'; '.join(errors)}. With the file on this machine, set download.captions to its path")


def _local_captions(dataset: Published, params: DownloadParams, source: Path | None) -> Path | None:
    if params.captions is not None:
        path = given(params.captions)
        if not path.is_file():
            raise UserError(f"download.captions = {params.captions!r} is not a file")
        return path
    return _locate(source, (dataset.captions_json, CAPTION_DATASETS.name)) if source is not None else None


def _records(dataset: Published, path: Path) -> list[Record]:
    """The records of a JSON, or of a zip that contains it."""
    if path.suffix.lower() != ".zip":
        return karpathy.read(path)
    archive = open_archive(path, DOWNLOADS)
    inside = [name for name in archive.names if name.rpartition("/")[2] == dataset.captions_json]
    if not inside:
        raise UserError(f"{path} does not hold {dataset.captions_json}")
    return karpathy.parse(parse_json(archive.read(inside[0]), f"{path}: {inside[0]}"), f"{path}: {inside[0]}")


def local_pictures(dataset: Published, source: Path) -> list[Path]:
    """The archives or folders in `source` with the pictures; else `source` itself."""
    if source.is_file():
        return [source]
    found: list[Path] = []
    for remote, folders in zip(dataset.pictures, dataset.folders, strict=True):
        path = _locate(source, (remote.name, *folders))
        if path is not None and path.is_file():
            _check_local(path, remote)
        found += [path] if path is not None else []
    if found and len(found) < len(dataset.pictures):
        known = {name for path in found for name in (path.name, path.stem)}
        missing = [r.name for r, f in zip(dataset.pictures, dataset.folders, strict=True) if not {r.name, *f} & known]
        log(f"{source} has no {', '.join(missing)}")
    return found or [source]


def _locate(source: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` in `source` or in a folder of it."""
    if source.is_file():
        return source if source.name in names else None
    places = [source, *sorted(child for child in source.iterdir() if child.is_dir())]
    return next((place / name for name in names for place in places if (place / name).exists()), None)


def _check_local(path: Path, remote: RemoteFile) -> None:
    """A file of the published size must have the published checksum; one of another size may be repacked."""
    if path.stat().st_size != remote.size and remote.size is not None:
        log(f"{path} is not the published file ({remote.size:,} bytes); using it as it is")
        return
    problem = mismatch(path, remote)
    if problem and remote.size is not None:
        raise UserError(f"{path} is damaged: {problem}")
    if problem:
        log(f"{path} is not the published file; using it as it is")


def check_complete(dataset: Published, records: list[Record], pictures: Pictures, incomplete: str) -> list[Record]:
    """The records with a picture; `UserError` naming missing ones, unless an incomplete dataset is accepted."""
    missing = pictures.missing([record.file for record in records], dataset.captions_json)
    if incomplete == "error":
        karpathy.check_counts(records, dataset.counts, dataset.captions_json)
        if missing:
            raise UserError(
                f"{len(missing)} of the {len(records)} pictures of {dataset.name} are missing, such as "
                f"{', '.join(missing[:3])}. {dataset.help}. To use the others alone set download.incomplete: accept"
            )
    if missing:
        log(f"{len(missing)} of the {len(records)} pictures of {dataset.name} are missing and left out")
    gone = set(missing)
    kept = [record for record in records if record.file not in gone]
    if not kept:
        raise UserError(f"none of the {len(records)} pictures of {dataset.name} is there. {dataset.help}")
    karpathy.check_sizes(Counter(record.split for record in kept), dataset.name, "add the pictures that are missing")
    return kept
