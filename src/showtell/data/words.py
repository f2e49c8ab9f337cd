"""Captions into words, and back. Three tokenizers, none of which downloads anything."""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Literal

TokenizerName = Literal["given", "nltk", "unicode"]
Tokenizer = Callable[[str], list[str]]

# Scripts written without spaces between words: each character stands for itself. Unicode blocks, first and last.
SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF),  # Japanese signs, hiragana, katakana
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF),  # Han
    (0x20000, 0x3FFFF),  # Han, later extensions
)  # fmt: skip
APOSTROPHES = "'\u2019"
JOINERS = "\u200c\u200d"  # they shape letters in Persian, Hindi and others without ending the word


def unicode_words(caption: str) -> list[str]:
    """Lower-case words of a caption in any language; punctuation is dropped.

    A word is a run of letters, marks and digits, with apostrophes inside (`don't`); characters of scripts that do not
    put spaces between words stand alone, with the marks that belong to them.
    """
    words, current = [], ""
    text = unicodedata.normalize("NFC", caption.lower())
    for position, character in enumerate(text):
        kind = _kind(character)
        if kind == "alone":
            words += [current] if current else []
            current = ""
            words.append(character)
        elif kind == "mark" and not current and words and position and _kind(text[position - 1]) in ("alone", "mark"):
            words[-1] += character
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
    if category[0] == "M":
        return "mark"
    if category[0] in "LN":
        return "alone" if _spaceless(character) else "letter"
    return "inside" if character in APOSTROPHES or character in JOINERS else "other"


def _spaceless(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in SPACELESS)


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
        glued = text and word and _spaceless(text[-1]) and _spaceless(word[0])
        text += word if glued or not text else f" {word}"
    return text
