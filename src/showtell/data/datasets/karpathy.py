"""Karpathy's split format: one JSON for pictures, splits and captions, whatever the dataset.

Source: A. Karpathy, L. Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions" (2015), the data
files published with it. COCO's file has `filepath` and `cocoid`, those of Flickr8k and Flickr30k have neither.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from showtell.core.errors import UserError
from showtell.core.files import read_json, write_json
from showtell.data.words import unicode_words

# `restval` are the pictures of COCO's val2014 that Karpathy's splits use neither for val nor for test: they train.
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

    A `\\r`, U+2028 or their kin inside a caption would shift every later line of a tool that reads one caption a line.
    """
    if text.isascii() and text.isprintable():  # nearly all there is; what follows takes ten times as long
        return " ".join(text.split())
    text = text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate could never be written
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text.replace("\ufeff", ""))
    return " ".join(unicodedata.normalize("NFC", text).split())


def read(path: Path, strict: bool = True) -> list[Record]:
    """The records of a Karpathy JSON in file order; `UserError` names the first entry that is wrong.

    `strict=False` accepts images without captions and repeated images, for a file that is yet to be cleaned.
    """
    return parse(read_json(path), str(path), strict)


def parse(content: Any, where: str, strict: bool = True) -> list[Record]:
    """`read` for a JSON that is parsed already; `where` names it in errors."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not images:
        raise UserError(f"{where}: not in Karpathy's format (no list `images`)")
    records = [_record(f"{where}: images[{position}]", image) for position, image in enumerate(images)]
    if strict:
        check(records, where)
    return records


def _record(where: str, image: Any) -> Record:
    if not isinstance(image, dict):
        raise UserError(f"{where} is not an object")
    name, image_id = image.get("filename"), image.get("cocoid", image.get("imgid"))
    if not isinstance(name, str) or not name:
        raise UserError(f"{where} has no `filename`")
    if not isinstance(image_id, int | str) or isinstance(image_id, bool):
        raise UserError(f"{where} ({name}) has no `imgid`")
    if image.get("split") not in SPLIT_OF:
        raise UserError(f"{where} ({name}): split is {image.get('split')!r}, not one of {', '.join(SPLIT_OF)}")
    sentences = image.get("sentences")
    if not isinstance(sentences, list):
        raise UserError(f"{where} ({name}) has no list `sentences`")
    captions, words = [], []
    for sentence in sentences:
        caption, given = _sentence(f"{where} ({name})", sentence)
        if caption:
            captions.append(caption)
            words.append(given)
    file = str(PurePosixPath(image.get("filepath") or "") / name)
    return Record(image_id, file, SPLIT_OF[image["split"]], captions, words)


def _sentence(where: str, sentence: Any) -> tuple[str, list[str]]:
    if not isinstance(sentence, dict):
        raise UserError(f"{where}: a sentence is not an object")
    raw, tokens = sentence.get("raw"), sentence.get("tokens")
    if raw is None and isinstance(tokens, list):
        raw = " ".join(str(token) for token in tokens)
    if not isinstance(raw, str):
        raise UserError(f"{where}: a sentence has neither `raw` text nor `tokens`")
    caption = clean(raw)
    if not isinstance(tokens, list):
        return caption, unicode_words(caption)
    return caption, [word for token in tokens for word in clean(str(token)).split()]


def check(records: Sequence[Record], where: str) -> None:
    """Refuse a repeated image id, a repeated file, a file outside its folder and an image without captions."""
    ids, files = set(), set()
    for record in records:
        if str(record.image_id) in ids:  # stores keep ids as text, so 1 and "1" are the same
            raise UserError(f"{where}: image id {record.image_id!r} occurs twice")
        if record.file in files:
            raise UserError(f"{where}: file {record.file} occurs twice")
        path = PurePosixPath(record.file)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(f"{where}: file {record.file} lies outside the folder of pictures")
        if not record.captions:
            raise UserError(f"{where}: image {record.image_id} ({record.file}) has no captions")
        ids.add(str(record.image_id))
        files.add(record.file)


def check_counts(records: Sequence[Record], expected: dict[str, int], where: str) -> None:
    """Refuse a file whose splits are not of the sizes that the field reports its results on."""
    found = Counter(record.split for record in records)
    wrong = [
        f"{found[split]} {split} images where {count} are expected"
        for split, count in expected.items()
        if found[split] != count
    ]
    if wrong:
        raise UserError(f"{where}: {'; '.join(wrong)}; the file is incomplete or of another split")


def write(path: Path, dataset: str, records: Sequence[Record]) -> None:
    """Write records as Karpathy's JSON; `read` gives the same records back."""
    images, sentid = [], 0
    for record in records:
        sentences = []
        for caption, words in zip(record.captions, record.words, strict=True):
            sentences.append({"raw": caption, "tokens": words, "sentid": sentid})
            sentid += 1
        images.append(
            {
                "imgid": record.image_id,
                "filename": record.file,
                "split": record.split,
                "sentences": sentences,
                "sentids": [sentence["sentid"] for sentence in sentences],
            }
        )
    write_json(path, {"dataset": dataset, "images": images}, indent=None)
