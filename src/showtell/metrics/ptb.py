"""Penn Treebank tokenisation of captions, as the COCO scorer does it before it counts anything.

The scorer runs Stanford's PTB tokeniser (CoreNLP 3.4.1, options -preserveLines -lowerCase) over a file with one
caption per line, then drops a fixed list of punctuation tokens. This module gives the same tokens without Java:
contractions are split ("do n't", "dog 's"), abbreviations keep their period, hyphenated words stay whole, brackets
become "-lrb-" and "-rrb-" (which, being lower case by then, escape the scorer's list and stay in; so they do here).

One property of that tool is kept on purpose: its rules read the beginning of the next line. In "plan B." the period is
dropped or kept depending on how the next caption begins, and the end of the file is special (a last "they're" becomes
"they re"); so `tokenised` gives the official tokens of captions in the order given.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cache

from showtell.metrics import ptb_patterns, ptb_rules

PUNCTUATION = frozenset(
    ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
)
# Line ends inside a caption would shift all later lines of the Java tool, so they become spaces first
_LINE_ENDS = re.compile(r"[\r\n\v\f\u0085\u2028\u2029]")
_SPACES = re.compile(f"(?:{ptb_patterns.ANY_SPACE}|&(?i:nbsp);)*")
_SPLIT = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))
# Most captions are plain words with commas and a last period, where only the simplest rule applies
_NOT_PLAIN = re.compile(r"[^A-Za-z ,.]|,(?! )|\.(?! *$)")
_PLAIN_WORD = re.compile(r"([A-Za-z]+)(?:,? )")
_AHEAD = 40  # characters after a caption that can affect its tokens


def tokenize(caption: str) -> list[str]:
    """The caption's words: lower case, punctuation dropped."""
    return next(tokenised([caption])).split()


def tokenised(captions: Iterable[str]) -> Iterator[str]:
    """Each caption's words joined by single spaces, equal to what the Java tool gives for these captions in order.

    Captions are read one by one, and at most `_AHEAD` further ones where a rule may look at them.
    """
    lines = (_LINE_ENDS.sub(" ", caption) for caption in captions)
    known: deque[str] = deque()  # lines that were looked at and come next
    while (line := known.popleft() if known else next(lines, None)) is not None:
        words = _plain(line)
        if words is None:
            tokens = " ".join(_scan(line + _following(known, lines), len(line))).rstrip().split(" ")
            words = [token for token in tokens if token and token not in PUNCTUATION]
        yield " ".join(words)


def _plain(line: str) -> list[str] | None:
    """The words of a plain caption, by splitting; None when the rules are needed."""
    if _NOT_PLAIN.search(line):
        return None
    words = line.lower().replace(",", " ").replace(".", " ").split()
    if not _SPLIT.isdisjoint(words):
        return None
    if words and "." in line and (len(words[-1]) == 1 or words[-1] in ptb_patterns.ABBREVIATIONS):
        return None
    return words


def _following(known: deque[str], lines: Iterator[str]) -> str:
    """The line end and the part of the following lines that a rule may read; lines that it takes become `known`."""
    ahead = "".join("\n" + line[:_AHEAD] for line in known)
    while len(ahead) <= _AHEAD and (line := next(lines, None)) is not None:
        known.append(line)
        ahead += "\n" + line[:_AHEAD]
    return ahead


def _scan(text: str, end: int) -> list[str]:
    """All tokens, punctuation included, that begin before `end`."""
    tokens: list[str] = []
    place = _SPACES.match(text).end()  # type: ignore[union-attr]  # it also matches the empty string
    while place < end:
        word = _PLAIN_WORD.match(text, place)
        if word and word[1].lower() not in _SPLIT:
            tokens.append(word[1].lower())
            place = word.end(1)
        else:
            place = _longest(text, place, tokens)
        place = _SPACES.match(text, place).end()  # type: ignore[union-attr]
    return tokens


def _longest(text: str, place: int, tokens: list[str]) -> int:
    """Append the token of the longest rule that matches at `place`; returns where it ends."""
    length, best, head = 0, None, 0
    for rule in _rules(_kind(text[place])):
        match = rule.match(text, place)
        if match and match.end() - place > length:
            length, best, head = match.end() - place, rule, match.end(1)
    if best is None:
        return place + 1  # a character unknown to the tokeniser, which drops it
    head -= best.back
    tokens.append(best.token(text[place:head]).lower())
    return head


def _kind(character: str) -> str:
    if not character.isascii():
        return "other"
    return "letter" if character.isalpha() else "digit" if character.isdigit() else "sign"


@cache
def _rules(kind: str) -> list[ptb_rules.Rule]:
    return [rule for rule in ptb_rules.rules() if kind == "other" or kind in rule.begins]
