"""Text for a terminal: nothing in it steers the terminal, and what it cannot show is replaced."""

import sys
import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SHOWN = 80  # characters of a value, or of another library's words, that a message repeats

# Line and paragraph separators, and marks that turn the direction of all text after them. Joiners, which Persian and
# Hindi are written with, are of the same category as the latter (Cf) and stay.
_STEERING = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """`text` without control characters: words of a vocabulary and names of files may hold some."""
    if text.isprintable():
        return text
    return "".join(REPLACEMENT if c in _STEERING or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def one_line(text: object, limit: int = SHOWN) -> str:
    """`text`, or an error's, as part of a message: printable, in one line of at most `limit` characters."""
    return cut(printable(" ".join(str(text).split())), limit)


def cut(text: str, limit: int = SHOWN) -> str:
    """The beginning of `text`: at most `limit` characters, the last three dots where some are left out."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def replace_what_cannot_be_encoded() -> None:
    """From now on a character that stdout's encoding lacks is printed as `?` (stderr escapes it as it is)."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
