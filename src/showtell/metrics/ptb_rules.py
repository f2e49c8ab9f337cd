"""The token rules behind `showtell.metrics.ptb`, as regular expressions.

Each rule is a head, what must follow it (its tail), and how the matched text becomes a token. At every place the rule
with the longest match (tail included) wins, the earlier rule on ties; only the head is consumed. That is how the
scanner behind the COCO scorer works, so rules are kept apart instead of being folded into one expression: Python's
alternation takes the first branch that fits, not the longest.

Letters in literal strings match both cases, letters in character classes only themselves; `_any` spells the former.
"""

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import NamedTuple


class Rule(NamedTuple):
    """`match` matches head and tail, with the head in group 1; `token` makes the token of the head's text."""

    name: str
    match: Callable[[str, int], "re.Match[str] | None"]
    token: Callable[[str], str]
    split: int = 0  # how many characters of the head are given back to be scanned again


def _any(words: str) -> str:
    """`words` separated by blanks, as an expression that matches any of them in either case, longest first."""
    ordered = sorted(words.split(), key=len, reverse=True)
    return "(?:" + "|".join(f"(?i:{re.escape(word)})" for word in ordered) + ")"


def _class(test: Callable[[str], bool]) -> str:
    """The inside of a character class of the basic multilingual plane's characters that pass `test`."""
    ranges: list[list[int]] = []
    for code in range(0x80, 0x10000):
        if test(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)


# Marks and signs inside words of many scripts that count as letters besides Unicode's own
_MARKS = (
    "\u00ad\u0237-\u024f\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0300-\u036f\u0370-\u037d\u0384\u0385\u03cf\u03f6"
    "\u03fc-\u03ff\u0483-\u0487\u04cf\u04f6-\u04ff\u0510-\u0525\u055a-\u055f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4"
    "\u05c5\u05c7\u0615-\u061a\u063b-\u063f\u064b-\u065e\u0670\u06d6-\u06ef\u06fa-\u06ff\u070f\u0711\u0730-\u074f"
    "\u0750-\u077f\u07a6-\u07b1\u07ca-\u07f5\u07fa\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955\u0962\u0963"
    "\u0981-\u0983\u09bc-\u09c4\u09c7\u09c8\u09cb-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f"
    "\u0a81-\u0a83\u0abc-\u0acf\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56"
    "\u0d3e-\u0d44\u0d46-\u0d48\u0e30-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ecd"
)
SPACE = r"[ \t\u00a0\u2000-\u200a\u3000]"
BREAK = r"[ \t\u00a0\u2000-\u200a\u3000\r\n\u2028\u2029\v\f\u0085]"
