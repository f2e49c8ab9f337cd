"""Files of captions that are refused before they are parsed: their parsers would complain of something else."""

import json
from pathlib import Path

from showtell.core.errors import UserError

# The formats of `score` and `compare`.
HYPOTHESES = "a COCO results file, one JSON list of {image_id, caption}"
REFERENCES = "a COCO captions file, one JSON object with `images` and `annotations`"

LONGEST_LINE = 1 << 20  # bytes; an image and its captions are far fewer
SUFFIXES = (".jsonl", ".ndjson")


def check_caption_file(path: Path, wanted: str) -> None:
    """`UserError` when `path` is a folder or JSON lines; `wanted` are the formats that are read there."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected is a file: {wanted}")
    if path.is_file() and _holds_json_lines(path):
        raise UserError(f"{path} holds JSON lines, which are not read; expected is {wanted}")


def _holds_json_lines(path: Path) -> bool:
    """Whether the first line is a JSON object and not all of a JSON document."""
    try:
        with open(path, "rb") as file:
            line = file.readline(LONGEST_LINE)
            more = file.read(LONGEST_LINE).strip()
    except OSError:  # told by whoever reads the file
        return False
    try:
        return isinstance(json.loads(line), dict) and (bool(more) or path.suffix.lower() in SUFFIXES)
    except (ValueError, RecursionError):
        return False
