"""How captions are split into words for scoring: one choice for a corpus, made from its references.

The COCO protocol tokenises by Penn Treebank rules (`ptb.py`), whatever the language. Without spaces between words those
rules make a whole sentence one token, or drop its vowels, and every score is 0. Such a corpus is scored on characters,
as sacreBLEU does for Chinese (Post 2018, "A Call for Clarity in Reporting BLEU Scores", and its tokeniser `zh`); words
of other scripts in it stay words. Hypotheses do not affect the choice, so that all are scored alike.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from showtell.data.words import lacks_spaces, unicode_words
from showtell.metrics import ptb

# Share of captions without spaces from which a corpus is scored on characters. A foreign name now and then leaves an
# English corpus with the standard protocol; a second language among the captions does not.
SHARE = 0.1


class Tokenisation(NamedTuple):
    """`tokenised` yields each caption's words joined by single spaces; `text` describes the words for people.

    How a caption is split can depend on those after it (`ptb.py`): all captions of a corpus are one sequence.
    """

    name: str
    text: str
    tokenised: Callable[[Iterable[str]], Iterator[str]]


def _by_characters(captions: Iterable[str]) -> Iterator[str]:
    return (" ".join(unicode_words(caption)) for caption in captions)


PTB = Tokenisation("ptb", "PTB tokens, the COCO protocol", ptb.tokenised)
CHARACTERS = Tokenisation("characters", "characters where a script has no spaces, else words", _by_characters)


def tokenisation_for(references: Iterable[str]) -> Tokenisation:
    """The tokenisation for these captions: `CHARACTERS` where a tenth of them or more is written without spaces between
    words, else `PTB`."""
    captions = without = 0
    for caption in references:
        captions += 1
        without += lacks_spaces(caption)
    return CHARACTERS if without and without >= SHARE * captions else PTB
