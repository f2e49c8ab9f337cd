"""Text for a terminal: control characters removed, characters that its encoding lacks replaced."""

import sys
import unicodedata

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SHOWN = 80  # characters of a value, or of another library's message, that an error message repeats

# Line and paragraph separators, and bidirectional controls, which reorder all text after them. Joiners (ZWJ, ZWNJ),
# which Persian and Hindi need, have the same category as those controls (Cf) and stay.
_STEERING = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """`text` without control characters, which words of a vocabulary and file names may contain."""
    if text.isprintable():
        return text
    return "".join(REPLACEMENT if c in _STEERING or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def one_line(text: object, limit: int = SHOWN) -> str:
    """`text`, or an error's message, as part of a message: printable, on one line of at most `limit` characters."""
    return cut(printable(" ".join(str(text).split())), limit)


def cut(text: str, limit: int = SHOWN) -> str:
    """The first `limit` characters of `text`; the last three are dots where something was left out."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def replace_what_cannot_be_encoded() -> None:
    """Make stdout print `?` for a character that its encoding lacks (stderr already escapes it)."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
