"""Captions files in four formats, detected by content; every entry is read or refused."""

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from showtell.core.errors import UserError
from showtell.core.fields import Fields, is_id, shown
from showtell.core.files import read_json
from showtell.data.datasets import karpathy
from showtell.data.datasets.karpathy import clean, picture_name
from showtell.data.datasets.tables import read_rows
from showtell.data.formats import PICTURE_SUFFIXES
from showtell.data.words import unicode_words

CaptionsFormat = Literal["auto", "karpathy", "coco", "table", "flickr"]


@dataclass
class Captioned:
    """An image and its captions from a file, before its picture and split are known."""

    image_id: int | str
    file: str
    split: str | None = None
    captions: list[str] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)
    blank: int = 0  # captions without any words

    def add(self, caption: str, given: Sequence[str] = ()) -> None:
        """Add a caption with the words that the file gives, else its own. One without any would teach silence."""
        caption = clean(caption)
        if words := list(given) or unicode_words(caption):
            self.captions.append(caption)
            self.words.append(words)
        else:
            self.blank += 1


def read_captions(path: Path, kind: CaptionsFormat = "auto") -> list[Captioned]:
    """Every image that the file names, in its order, those without captions included."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no captions file {path}")
    return READERS[detect(path) if kind == "auto" else kind](path)


def detect(path: Path) -> str:
    """The format of a captions file, detected from its content."""
    if path.suffix.lower() == ".json":
        content = read_json(path)
        if isinstance(content, dict) and "annotations" in content:
            return "coco"
        if isinstance(content, dict) and "images" in content:
            return "karpathy"
        raise UserError(
            f"{path} is neither in Karpathy's format (an object with `images`, each with `sentences`) nor in COCO's "
            "(with `images` and `annotations`)"
        )
    first = next((line for _, line in _lines(path)), "")
    return "flickr" if _token(first) or first.partition("\t")[0].lower().endswith(PICTURE_SUFFIXES) else "table"


def _lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines, each with its number."""
    # Only \n ends a line: str.splitlines would also cut at U+2028 and others, which occur inside captions.
    return [(n, line.rstrip("\r")) for n, line in enumerate(_text(path).split("\n"), 1) if line.strip()]


def _text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}, line {line}); convert it, for instance with iconv"
        ) from None


def read_karpathy(path: Path) -> list[Captioned]:
    """Karpathy's JSON; splits may be missing, and are then assigned."""
    found = []
    for entry in karpathy.entries(read_json(path), str(path)):
        image = Captioned(entry.image_id, entry.file, entry.split, blank=entry.blank)
        for caption, given in zip(entry.captions, entry.words, strict=True):
            image.add(caption, given)
        found.append(image)
    return _distinct(found, path)


def read_coco(path: Path) -> list[Captioned]:
    """COCO's captions JSON: `images` (id, file_name) and `annotations` (image_id, caption)."""
    content = Fields(read_json(path), str(path))
    listed = []
    for position, entry in enumerate(content.list("images")):
        image = Fields(entry, f"{path}: images[{position}]")
        name = image.text("file_name")
        if not name:
            raise image.refuse("file_name", "the name of a picture")
        listed.append(Captioned(image.image_id("id"), picture_name(name)))
    images = {str(image.image_id): image for image in _distinct(listed, path)}
    for position, entry in enumerate(content.list("annotations")):
        annotation = Fields(entry, f"{path}: annotations[{position}]")
        image_id = annotation.image_id("image_id")
        if str(image_id) not in images:
            some = ", ".join(shown(image.image_id) for image in listed[:3])
            raise UserError(
                f"{annotation.where} belongs to image {shown(image_id)}, which is not listed; `images` has {some}"
                f"{', ...' if len(listed) > 3 else ''}"
            )
        images[str(image_id)].add(annotation.text("caption"))
    return listed


def _distinct(images: list[Captioned], path: Path) -> list[Captioned]:
    """The images, whose ids and files must be unique."""
    files: dict[str, str] = {}
    ids: dict[str, str] = {}
    for position, image in enumerate(images):
        key, where = str(image.image_id), f"{path}: images[{position}]"
        if key in files:
            raise UserError(f"{where}: id {shown(image.image_id)} occurs twice, for {files[key]} and {image.file}")
        if image.file in ids:
            raise UserError(f"{where}: file {image.file} occurs twice, with ids {ids[image.file]} and {key}")
        files[key], ids[image.file] = image.file, key
    return images


SPLIT_NAMES = {**karpathy.SPLIT_OF, "valid": "val", "validation": "val", "dev": "val", "training": "train"}


def read_table(path: Path) -> list[Captioned]:
    """CSV or TSV (or `|`, `;`), one caption a row: columns image, caption, and optionally split and image_id."""
    images: dict[str, Captioned] = {}
    files: dict[str, str] = {}  # by id
    for line, cells in read_rows(_text(path), str(path)):
        where = f"{path}: line {line}"
        if not cells["file"]:
            raise UserError(f"{where} names no image")
        file, split = picture_name(cells["file"]), _split(cells["split"], where)
        image_id = cells["id"] or file
        if not is_id(image_id):
            raise UserError(f"{where}: {shown(image_id)} is not an image id: it has control characters")
        image = images.setdefault(file, Captioned(image_id, file, split))
        if image.image_id != image_id:
            raise UserError(
                f"{where}: {file} has the ids {shown(image.image_id)} and {shown(image_id)}; they are ids of images: a "
                "column that numbers the rows must have another name"
            )
        if files.setdefault(image_id, file) != file:
            raise UserError(f"{where}: id {shown(image_id)} belongs to {files[image_id]} and to {file}")
        if image.split != split:
            raise UserError(f"{where}: {file} is in split {image.split} and in split {split}")
        image.add(cells["caption"])
    return list(images.values())


def _split(name: str, where: str) -> str | None:
    if name and name.lower() not in SPLIT_NAMES:
        raise UserError(f"{where}: split is {shown(name)}, not one of {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES[name.lower()] if name else None


# `name.jpg#0` and a tab; the Chinese translations insert a language and end in a space (`name.jpg#zhm#0 `), and one
# image of Flickr8k's own file is called `.jpg.1`.
TOKEN = re.compile(r"(?P<file>.+?)(?:\.\d)?(?:#[A-Za-z]\w*)*#(?:[A-Za-z]+)?\d+\s*?(?:[\t ,|])\s*(?P<caption>.*)")


def _token(line: str) -> tuple[str, str] | None:
    """File and caption of a line of a Flickr token file."""
    name, tab, caption = line.partition("\t")
    file, mark, number = name.rpartition("#")
    if tab and mark and number.strip().isdigit() and not re.search(r"#|\.\d$", file):
        return file, caption  # nearly all
    if tab and name.strip().lower().endswith(PICTURE_SUFFIXES):  # without a number
        return name, caption
    found = TOKEN.fullmatch(line)
    return (found["file"], found["caption"]) if found else None


def read_flickr(path: Path) -> list[Captioned]:
    """Flickr's token file: `name.jpg#0<tab>caption` on each line, or `name.jpg<tab>caption`."""
    images: dict[str, Captioned] = {}
    for number, line in _lines(path):
        found = _token(line)
        if found is None:
            raise UserError(f"{path}: line {number} is not `image#number<tab>caption`: {shown(line)}")
        file = picture_name(found[0])
        images.setdefault(file, Captioned(file, file)).add(found[1])
    return list(images.values())


READERS: dict[str, Callable[[Path], list[Captioned]]] = {
    "karpathy": read_karpathy, "coco": read_coco, "table": read_table, "flickr": read_flickr,
}  # fmt: skip
