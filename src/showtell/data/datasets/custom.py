"""Your own pictures and captions: a folder (or archive) of images and one file of captions, in four formats."""

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from showtell.core.errors import UserError
from showtell.core.files import read_json, write_json
from showtell.core.params import Section
from showtell.core.paths import given
from showtell.data.datasets import karpathy
from showtell.data.datasets.karpathy import Record, clean
from showtell.data.datasets.picture_files import Pictures, check_pictures, link_pictures
from showtell.data.words import unicode_words

CaptionsFormat = Literal["auto", "karpathy", "coco", "table", "flickr"]


class CustomParams(Section):
    images: str | None = Field(description="folder or archive of pictures; null unless dataset is custom")
    captions: str | None = Field(description="file of captions; null unless dataset is custom")
    format: CaptionsFormat = Field(description="of the captions file; auto: told from its content")
    val: float = Field(gt=0, lt=0.5, description="fraction of the images for val, where the file names none")
    test: float = Field(gt=0, lt=0.5, description="fraction of the images for test, where the file names none")
    split_seed: int = Field(ge=0, description="another seed, another split")


@dataclass
class Captioned:
    """An image as a captions file has it, before it is known to exist and to which split it goes."""

    image_id: int | str
    file: str
    split: str | None = None
    captions: list[str] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)

    def add(self, caption: str, words: list[str] | None = None) -> None:
        caption = clean(caption)
        if caption:
            self.captions.append(caption)
            self.words.append(unicode_words(caption) if words is None else words)


def read_captions(path: Path, kind: CaptionsFormat = "auto") -> list[Captioned]:
    """Every image that the file names, in its order, those without captions included."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no captions file {path}")
    return READERS[detect(path) if kind == "auto" else kind](path)


def detect(path: Path) -> str:
    """The format of a captions file, told from its content."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if isinstance(content, dict) and "annotations" in content:
            return "coco"
        if isinstance(content, dict) and "images" in content:
            return "karpathy"
        raise UserError(f"{path} is neither in Karpathy's format (`sentences`) nor in COCO's (`annotations`)")
    lines = _lines(path)
    first = lines[0].split("\t")[0] if lines else ""
    return "flickr" if "#" in first and first.rpartition("#")[2].isdigit() else "table"


def _lines(path: Path) -> list[str]:
    # Only \n ends a line: str.splitlines would also cut at U+2028 and others, which occur inside captions.
    return [line.rstrip("\r") for line in _text(path).split("\n") if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); convert it, for instance with iconv") from None


def read_karpathy(path: Path) -> list[Captioned]:
    return [Captioned(r.image_id, r.file, r.split, r.captions, r.words) for r in karpathy.read(path, strict=False)]


def read_coco(path: Path) -> list[Captioned]:
    """COCO's captions JSON: `images` (id, file_name) and `annotations` (image_id, caption)."""
    content = read_json(path)
    try:
        images = {image["id"]: Captioned(image["id"], image["file_name"]) for image in content["images"]}
        for annotation in content["annotations"]:
            if annotation["image_id"] not in images:
                raise UserError(f"{path}: a caption belongs to image {annotation['image_id']!r}, which is not listed")
            images[annotation["image_id"]].add(annotation["caption"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a COCO captions file: {error!r}") from None
    return list(images.values())


COLUMNS = {
    "file": ("image", "file", "filename", "file_name", "image_name", "path"),
    "caption": ("caption", "comment", "text", "sentence", "raw"),
    "split": ("split", "set", "subset"),
    "id": ("image_id", "id"),
}


def read_table(path: Path) -> list[Captioned]:
    """CSV or TSV (or `|`, `;`), one caption a row: columns image, caption, and if you like split and image_id."""
    text = _text(path)
    header = text.split("\n", 1)[0]
    delimiter = max(",\t|;", key=header.count)
    rows = csv.reader(text.split("\n"), delimiter=delimiter, skipinitialspace=True)
    names = [name.strip().lower() for name in next(rows, [])]
    where = {key: next((names.index(n) for n in options if n in names), None) for key, options in COLUMNS.items()}
    if where["file"] is None or where["caption"] is None:
        raise UserError(f"{path}: the first line must name the columns, among them `image` and `caption`, not {names}")
    images: dict[str, Captioned] = {}
    try:
        for row in rows:
            if any(cell.strip() for cell in row):
                _add_row(path, rows.line_num, row, where, images)
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.line_num}: {error}") from None
    return list(images.values())


def _add_row(path: Path, line: int, row: list[str], where: dict[str, int | None], images: dict[str, Captioned]) -> None:
    cells = {key: row[at].strip() if at is not None and at < len(row) else "" for key, at in where.items()}
    file, split = cells["file"], cells["split"].lower() or None
    if not file:
        raise UserError(f"{path}: line {line} names no image")
    if split is not None and split not in SPLIT_NAMES:
        raise UserError(f"{path}: line {line}: split is {split!r}, not one of {', '.join(SPLIT_NAMES)}")
    split = SPLIT_NAMES[split] if split else None
    image = images.setdefault(file, Captioned(cells["id"] or file, file, split))
    if image.split != split:
        raise UserError(f"{path}: line {line}: {file} is in split {image.split} and in split {split}")
    image.add(cells["caption"])


SPLIT_NAMES = {**karpathy.SPLIT_OF, "valid": "val", "validation": "val", "dev": "val", "training": "train"}


def read_flickr(path: Path) -> list[Captioned]:
    """Flickr's token file: `name.jpg#0<tab>caption` on each line."""
    images: dict[str, Captioned] = {}
    for line in _lines(path):
        name, tab, caption = line.partition("\t")
        file, mark, number = name.rpartition("#")
        if not tab or not mark or not number.strip().isdigit():
            raise UserError(f"{path}: not `image#number<tab>caption`: {line[:60]!r}")
        images.setdefault(file, Captioned(file, file)).add(caption)
    return list(images.values())


READERS: dict[str, Callable[[Path], list[Captioned]]] = {
    "karpathy": read_karpathy, "coco": read_coco, "table": read_table, "flickr": read_flickr,
}  # fmt: skip


def assign_splits(images: Sequence[Captioned], params: CustomParams) -> list[Record]:
    """Records with a split each. A split that the file names nowhere is drawn from the train (or unnamed) images.

    The draw ranks images by a hash of seed and id: it does not depend on their order, and an image that is added
    or removed moves few others.
    """
    named = {image.split for image in images} - {None}
    free = [image for image in images if image.split in (None, "train")]
    ranked = sorted(free, key=lambda image: _rank(params.split_seed, image.image_id))
    drawn: dict[int, str] = {}
    for split, fraction in (("test", params.test), ("val", params.val)):
        if split not in named:
            count = min(max(1, round(fraction * len(images))), len(ranked))
            drawn.update({id(image): split for image in ranked[:count]})
            ranked = ranked[count:]
    return [Record(i.image_id, i.file, drawn.get(id(i)) or i.split or "train", i.captions, i.words) for i in images]


def _rank(seed: int, image_id: Any) -> str:
    return hashlib.sha256(f"{seed}:{image_id}".encode()).hexdigest()


def records(params: CustomParams) -> list[Record]:
    """The records of `params`' captions file, images without captions left out."""
    if params.captions is None or params.images is None:
        raise UserError("dataset is custom: set custom.images and custom.captions, or run `showtell import`")
    images = [image for image in read_captions(given(params.captions), params.format) if image.captions]
    if not images:
        raise UserError(f"{params.captions} holds no captions")
    found = assign_splits(images, params)
    karpathy.check(found, params.captions)
    return found


def prepare(folder: Path, params: CustomParams) -> None:
    """Fill `folder` with captions.json, an empty objects.json and images/ (a link file)."""
    found = records(params)
    source = given(params.images)
    check_pictures(source)
    pictures = Pictures.of([source])
    missing = [record.file for record in found if record.file not in pictures]
    if missing:
        raise UserError(
            f"{params.images} lacks {len(missing)} of the {len(found)} pictures that {params.captions} names: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )
    link_pictures(source, folder / "images")
    karpathy.write(folder / "captions.json", "custom", found)
    write_json(folder / "objects.json", {})
