"""Fields of JSON files that people and programs write: each is read as its required type, or refused by file and name.

A wrong field that is accepted ends in a wrong result, or in an error about a file that the user never saw.
"""

import json
import math
import unicodedata
from collections.abc import Sequence
from typing import Any

from showtell.core.errors import UserError
from showtell.core.terminal import cut


def shown(value: Any) -> str:
    """A value as JSON on one line, cut: values in files may be of any length."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # not JSON, or a number of thousands of digits
        text = f"a {type(value).__name__}"
    return cut(text)


class Fields:
    """An object of a JSON file; `where` names it in errors: the file and the entry."""

    def __init__(self, content: Any, where: str):
        if not isinstance(content, dict):
            raise UserError(f"{where} is {shown(content)}, not an object")
        self.content, self.where = content, where

    def __contains__(self, name: str) -> bool:
        """Whether the field exists and is not null."""
        return self.content.get(name) is not None

    def refuse(self, name: str, what: str) -> UserError:
        """The error for a field that is missing or is not `what`."""
        if name not in self.content:
            return UserError(f"{self.where} has no `{name}`; it must be {what}")
        return UserError(f"{self.where}: `{name}` is {shown(self.content[name])}, not {what}")

    def text(self, name: str) -> str:
        """A string, which may be empty."""
        value = self.content.get(name)
        if not isinstance(value, str):
            raise self.refuse(name, "text")
        return value

    def list(self, name: str) -> list[Any]:
        value = self.content.get(name)
        if not isinstance(value, list):
            raise self.refuse(name, "a list")
        return value

    def number(self, name: str) -> float:
        """A finite number."""
        value = self.content.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.refuse(name, "a number")
        return value

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        """One of `allowed`, which are lower case; the file may have it in any case."""
        value = self.content.get(name)
        found = value.strip().lower() if isinstance(value, str) else ""
        if found not in allowed:
            raise self.refuse(name, f"one of {', '.join(allowed)}")
        return found

    def image_id(self, *names: str) -> int | str:
        """The first of these fields that exists, as an image id: a whole number (5.0 is 5) or text.

        Ids are compared as text: 1, 1.0 and "1" are the same image.
        """
        name = next((name for name in names if name in self), names[-1])
        value = self.content.get(name)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and is_id(value):
            return value
        raise self.refuse(name, "a whole number, or text without control characters")


def is_id(text: str) -> bool:
    """Whether the text can be an image id. Ids are stored in HDF5 and file names: no NUL and no unpaired surrogate."""
    return bool(text) and all(unicodedata.category(character) not in ("Cc", "Cs") for character in text)
