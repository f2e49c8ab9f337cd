"""Penn Treebank tokenisation of captions as the COCO scorer does it (first version)."""

import re
from collections.abc import Iterable

PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)
_TOKEN = re.compile(
    r"\.\.\.|--+|[a-z]+(?=n't\b)|n't|'(?:s|re|ve|ll|d|m)\b|(?:[a-z0-9]+(?:[-./,'_](?=[a-z0-9]))?)+?"
    r"(?=n't|'(?:s|re|ve|ll|d|m)\b)|[a-z0-9]+(?:[-./,_][a-z0-9]+)*|\S"
)


def tokenize(caption: str) -> list[str]:
    """The caption's words, lower case, without punctuation."""
    return [token for token in _TOKEN.findall(" ".join(caption.lower().split())) if token not in PUNCTUATION]


def tokenize_all(captions: Iterable[str]) -> list[str]:
    """Each caption's words joined by single spaces."""
    return [" ".join(tokenize(caption)) for caption in captions]
