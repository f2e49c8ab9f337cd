"""Which dataset, and how it gets here: whatever the choice, the same three artefacts come out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from showtell.datasets import custom, karpathy, scenes
from showtell.datasets.custom import CustomParams
from showtell.datasets.pictures import ARCHIVES, LINK_SUFFIX, Pictures, write_link
from showtell.errors import UserError
from showtell.files import write_json
from showtell.params import Section

DatasetName = Literal["scenes", "coco", "flickr8k", "flickr30k", "custom"]


class DownloadParams(Section):
    source: str | None = Field(description="folder or archive that has the files already; null: download them")
    captions: str | None = Field(description="Karpathy's JSON, or the zip that has it, on this machine; null: download")
    mirror: str | None = Field(description="URL of a folder tried before the known sources; null: none")


def prepare_scenes(folder: Path, download: DownloadParams, params: scenes.ScenesParams) -> None:
    scenes.generate(folder, params)


def prepare_custom(folder: Path, download: DownloadParams, params: CustomParams) -> None:
    found = custom.records(params)
    link_pictures(Path(params.images), folder / "images")
    pictures = Pictures.open(folder / "images")
    missing = [record.file for record in found if record.file not in pictures]
    if missing:
        raise UserError(f"{params.images} lacks {len(missing)} of the {len(found)} pictures that {params.captions} names: "
                        f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}")
    karpathy.write(folder / "captions.json", "custom", found)
    write_json(folder / "objects.json", {})


def link_pictures(source: Path, images: Path) -> None:
    """A link file in the folder `images` that stands for the folder or archive `source`."""
    if not source.exists():
        raise UserError(f"{source} does not exist")
    if source.is_file() and not source.name.endswith(ARCHIVES):
        raise UserError(f"{source} is neither a folder nor an archive ({', '.join(ARCHIVES)})")
    write_link(images / f"{source.resolve().name or 'pictures'}{LINK_SUFFIX}", source)


# Each fills a folder with captions.json, objects.json and images/, from `DownloadParams` and its own section.
PREPARE: dict[str, Callable[[Path, DownloadParams, Any], None]] = {
    "scenes": prepare_scenes,
    "custom": prepare_custom,
}
