"""Karpathy's split format: one JSON for images, splits and captions of any dataset.

Source: A. Karpathy, L. Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (2015), the data
files published with it. COCO's file has `filepath` and `cocoid`, those of Flickr8k and Flickr30k have neither.
"""

import array
import json
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from showtell.core.errors import UserError
from showtell.core.fields import Fields, is_id, shown
from showtell.core.files import atomic, parse_json, read_json
from showtell.data.words import unicode_words

# `restval` are the images of COCO's val2014 in neither val nor test of Karpathy's splits: they are used for training.
SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its captions. `words[i]` are the words that the file gives for `captions[i]`."""

    image_id: int | str
    file: str
    split: str
    captions: list[str]
    words: list[list[str]]


def clean(text: str) -> str:
    """The caption in NFC on one line: every run of white space and control characters becomes one space.

    A `\\r`, U+2028 or similar inside a caption would shift all later lines of a tool that reads one caption a line.
    """
    if text.isascii() and text.isprintable():  # nearly all captions; the rest takes ten times as long
        return " ".join(text.split())
    text = text.encode("utf-8", "replace").decode("utf-8")  # an unpaired surrogate cannot be encoded
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text.replace("\ufeff", ""))
    return " ".join(unicodedata.normalize("NFC", text).split())


def read(path: Path) -> list[Record]:
    """The records of a Karpathy JSON in file order; `UserError` names the first entry that is wrong."""
    return parse(read_json(path), str(path))


def parse(content: Any, where: str) -> list[Record]:
    """`read` for a JSON that is parsed already; `where` names it in errors."""
    records = [_record(entry) for entry in entries(content, where)]
    check(records, where)
    return records


def _record(entry: "Entry") -> Record:
    if entry.split is None:
        raise entry.fields.refuse("split", f"one of {', '.join(SPLIT_OF)}")
    return Record(entry.image_id, entry.file, entry.split, entry.captions, entry.words)


def stream(path: Path) -> Iterator[Record]:
    """The records of `read` one by one: of a file written by `write` only one is in memory. Repeated ids and files are
    reported at the end."""
    with _open(path) as file:
        by_line = LINED.match(file.readline()) is not None
        names = array.array("q"), array.array("q")
        for position, line in enumerate(file if by_line else ()):
            if line == b"]}\n":
                break
            content = parse_json(line.rstrip(b"\n").removesuffix(b","), f"{path}: images[{position}]")
            record = _record(_entry(Fields(content, f"{path}: images[{position}]")))
            check([record], str(path))
            for seen, name in zip(names, (str(record.image_id), record.file), strict=True):
                seen.append(hash(name))
            yield record
    if not by_line:
        yield from read(path)
    elif any(len(np.unique(np.array(seen, np.int64))) < len(seen) for seen in names):
        read(path)  # raises the error for repeated ones; hash collisions are not errors


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class Entry:
    """An image as in the file; its split may be missing."""

    image_id: int | str
    file: str
    split: str | None
    captions: list[str]
    words: list[list[str]]
    blank: int  # captions without any text
    fields: Fields


def entries(content: Any, where: str) -> Iterator[Entry]:
    """The images of a Karpathy JSON; only the types of fields are checked."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise UserError(f"{where}: not in Karpathy's format (no list `images`)")
    if not images:
        raise UserError(f"{where}: the list `images` is empty")
    for position, image in enumerate(images):
        yield _entry(Fields(image, f"{where}: images[{position}]"))


def _entry(image: Fields) -> Entry:
    name = image.text("filename")
    if not name:
        raise image.refuse("filename", "the name of a picture")
    image_id = image.image_id("cocoid", "imgid")
    split = SPLIT_OF[image.choice("split", tuple(SPLIT_OF))] if "split" in image else None
    captions, words, blank = [], [], 0
    for number, sentence in enumerate(image.list("sentences")):
        caption, given = _sentence(Fields(sentence, f"{image.where} ({shown(name)[1:-1]}): sentences[{number}]"))
        if not caption:
            blank += 1
            continue
        captions.append(caption)
        words.append(given)
    folder = image.text("filepath") if "filepath" in image else ""
    return Entry(image_id, picture_name(f"{folder}/{name}" if folder else name), split, captions, words, blank, image)


def _sentence(sentence: Fields) -> tuple[str, list[str]]:
    """The caption and its words, from `tokens` or else split from `raw`."""
    if "tokens" not in sentence:
        caption = clean(sentence.text("raw"))
        return caption, unicode_words(caption)
    tokens = sentence.list("tokens")
    if not all(isinstance(token, str) for token in tokens):
        raise sentence.refuse("tokens", "a list of text")
    caption = clean(sentence.text("raw") if "raw" in sentence else " ".join(tokens))
    return caption, [word for token in tokens for word in clean(token).split()]


def picture_name(text: str) -> str:
    """A normalised path of a picture in a captions file: `/` between parts, no `.` and no `..` inside.

    Backslashes, the separators of Windows, are replaced.
    """
    return posixpath.normpath(text.strip().replace("\\", "/"))


def check(records: Sequence[Record], where: str) -> None:
    """Refuse a repeated image id, a repeated file, a file outside its folder and an image without captions."""
    file_of: dict[str, str] = {}  # by id, as text: stores keep ids as text, so 1 and "1" are the same
    id_of: dict[str, int | str] = {}
    for record in records:
        known = file_of.setdefault(str(record.image_id), record.file)
        if record.file in id_of:
            other = id_of[record.file]
            raise UserError(
                f"{where}: {shown(record.file)} occurs twice, as image {shown(other)} and {shown(record.image_id)}"
            )
        if known != record.file:
            raise UserError(
                f"{where}: image id {shown(record.image_id)} occurs twice, for {shown(known)} and {shown(record.file)}"
            )
        check_inside(record.file, where)
        if not record.captions:
            raise UserError(f"{where}: image {shown(record.image_id)} ({shown(record.file)}) has no captions")
        id_of[record.file] = record.image_id


def check_inside(file: str, where: str) -> None:
    """Refuse a picture name outside its folder."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:/", file):
        raise UserError(f"{where}: file {shown(file)} lies outside the folder of pictures")
    if not is_id(file):
        raise UserError(f"{where}: file {shown(file)} has control characters in its name")


# CIDEr's idf is 0 when there is one image only, so that every score is 0.
LEAST = {"train": 1, "val": 2, "test": 2}


def check_sizes(found: Mapping[str, int], where: str, remedy: str) -> None:
    """Refuse splits with too few images for training or scoring; `remedy` is for the message."""
    found = Counter(found)
    small = [split for split, least in LEAST.items() if found[split] < least]
    if small:
        sizes = ", ".join(f"{split} {found[split]}" for split in LEAST)
        least = ", ".join(f"{split} {LEAST[split]}" for split in small)
        raise UserError(
            f"{where}: too few images to split: {sizes}; at least {least} (CIDEr-D needs two images); {remedy}"
        )


def check_counts(records: Sequence[Record], expected: dict[str, int], where: str) -> None:
    """Refuse a file whose splits differ in size from the published ones."""
    found = Counter(record.split for record in records)
    wrong = [
        f"{found[split]} {split} images where {count} are expected"
        for split, count in expected.items()
        if found[split] != count
    ]
    if wrong:
        raise UserError(f"{where}: {'; '.join(wrong)}; the file is incomplete or of another split")


def write(path: Path, dataset: str, records: Iterable[Record]) -> None:
    """Write records as Karpathy's JSON, one image a line; `read` and `stream` return equal records."""
    sentid = 0
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        separator = f'{{"dataset": {json.dumps(dataset)}, "images": [\n'
        for record in records:
            sentences = []
            for caption, words in zip(record.captions, record.words, strict=True):
                sentences.append({"raw": caption, "tokens": words, "sentid": sentid})
                sentid += 1
            image = {
                "imgid": record.image_id,
                "filename": record.file,
                "split": record.split,
                "sentences": sentences,
                "sentids": [sentence["sentid"] for sentence in sentences],
            }
            file.write(separator + json.dumps(image, ensure_ascii=False))
            separator = ",\n"
        file.write("\n]}\n")


LINED = re.compile(rb'\{"dataset": ".*", "images": \[\n')  # the first line of a file by `write`
