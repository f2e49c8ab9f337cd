"""data/captions/<split>.json: one image a line, so that a stage can go through all without holding them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from showtell.core.errors import UserError
from showtell.core.files import atomic

Entry = dict[str, Any]  # image_id, file, references, words, tokens: see `showtell.data.vocabulary.build_captions`


def write_captions(path: Path, entries: Iterable[Entry]) -> None:
    """A JSON list with one entry on each line."""
    with atomic(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        separator = "[\n"
        for entry in entries:
            file.write(separator + json.dumps(entry, ensure_ascii=False))
            separator = ",\n"
        file.write("\n]\n")


def iter_captions(path: Path) -> Iterator[Entry]:
    """The entries of a file that `write_captions` wrote, one by one."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            for line in file:
                if line not in ("[\n", "]\n"):
                    yield json.loads(line.rstrip("\n").removesuffix(","))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run `dvc repro vocab`") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not a captions file: {error}; run `dvc repro -f vocab`") from None
