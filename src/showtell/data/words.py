"""Splitting captions into words, and joining words. Three tokenizers, none of which downloads anything."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Literal

TokenizerName = Literal["given", "nltk", "unicode"]
Tokenizer = Callable[[str], list[str]]

# Scripts written without spaces between words: each character is a word. Unicode blocks, first and last.
SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF), (0x1A20, 0x1AAF), (0xAA80, 0xAADF),  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    (0x1B00, 0x1B7F), (0xA980, 0xA9DF),  # Balinese, Javanese
    (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F),  # Japanese, kana
    (0x3100, 0x312F), (0x31A0, 0x31BF), (0xA000, 0xA4CF),  # Bopomofo, Yi
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),  # Han
    (0x20000, 0x3FFFF),  # Han, later extensions
)  # fmt: skip
TIBETAN = (0x0F00, 0x0FFF)  # without spaces as well, but syllables are separated by a mark
VOWELS = "\u0e33\u0eb3\uff9e\uff9f"  # letters in Unicode, but attached to the one before: Thai and Lao am, kana marks
# the next letter is stacked below: Myanmar, Khmer, Tai Tham, Balinese, Javanese
STACKERS = "\u1039\u17d2\u1a60\u1b44\ua9c0"
APOSTROPHES = "'\u2019"
JOINERS = "\u200c\u200d"  # joiners inside words of Persian, Hindi and others


def unicode_words(caption: str) -> list[str]:
    """Lower-case words of a caption in any language; punctuation is dropped.

    A word is a run of letters, marks and digits, with apostrophes inside (`don't`); a character of a script without
    spaces is a word, together with the marks attached to it.
    """
    words: list[str] = []
    current = ""
    open_ended = False  # the previous character ends words[-1], and marks may be attached to it
    text = unicodedata.normalize("NFC", caption.lower())
    for position, character in enumerate(text):
        kind = _kind(character)
        before, open_ended = open_ended, kind == "alone" or (kind == "mark" and open_ended)
        if before and (kind == "mark" or (kind == "alone" and words[-1][-1] in STACKERS)):
            words[-1] += character
        elif kind == "alone":
            words += [current] if current else []
            current = ""
            words.append(character)
        elif kind == "letter" or (kind == "mark" and current):
            current += character
        elif kind == "inside" and current and _kind(text[position + 1 : position + 2]) == "letter":
            current += "'" if character in APOSTROPHES else character
        elif current:
            words.append(current)
            current = ""
    return [*words, current] if current else words


@lru_cache(maxsize=65536)
def _kind(character: str) -> str:
    if not character:
        return "other"
    category = unicodedata.category(character)
    if category[0] == "M" or character in VOWELS:
        return "mark"
    if category[0] in "LN":
        return "alone" if _spaceless(character) else "letter"
    return "inside" if character in APOSTROPHES or character in JOINERS else "other"


def _spaceless(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in SPACELESS)


@cache
def _without_spaces() -> re.Pattern[str]:
    return re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in (*SPACELESS, TIBETAN)) + "]")


def lacks_spaces(caption: str) -> bool:
    """Whether a caption is mostly of a script without spaces between words, counted in `unicode_words`."""
    if not _without_spaces().search(caption):
        return False
    words = unicode_words(caption)
    return 2 * sum(bool(_without_spaces().match(word)) for word in words) >= max(len(words), 1)


@cache
def _nltk():
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


def nltk_words(caption: str) -> list[str]:
    """Lower-case words by NLTK's Treebank-like rules for English (`don't` is `do`, `n't`); punctuation is dropped."""
    return [word for word in _nltk().tokenize(caption.lower()) if any(c.isalnum() for c in word)]


TOKENIZERS: dict[str, Tokenizer] = {"nltk": nltk_words, "unicode": unicode_words}


def join(words: Sequence[str]) -> str:
    """Words as one line of text: spaces between them, except between characters of scripts that use none."""
    text = ""
    for word in words:
        glued = text and word and _spaceless(text[-1]) and _spaceless(word[0]) and text[-1] not in STACKERS
        text += word if glued or not text else f" {word}"
    return text
