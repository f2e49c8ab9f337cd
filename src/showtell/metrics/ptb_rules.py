"""The token rules behind `showtell.metrics.ptb`.

A rule has a head, what must follow it (its tail), and a function from the matched text to a token. At every position
the rule with the longest match (tail included) wins, the earlier rule on ties, and only the head is consumed. Rules are
separate expressions, because Python's alternation takes the first matching branch, not the longest one.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from showtell.metrics import ptb_patterns as p


class Rule(NamedTuple):
    """`match(text, place)` matches head and tail, with the head in group 1; `token` turns the head into a token."""

    match: Callable[[str, int], "re.Match[str] | None"]
    token: Callable[[str], str]
    back: int  # number of the head's last characters that are scanned again ("can|not")
    begins: str  # first characters: ASCII letter, digit, sign; any other character is tried with every rule


_QUOTE_SIGNS = str.maketrans(
    {"\u0091": "`", "‘": "`", "‛": "`", "‹": "`", "\u0092": "'", "’": "'", "›": "'", "\u0093": "``", "“": "``",
     "«": "``", "\u0094": "''", "”": "''", "»": "''"}
)  # fmt: skip
_MONEY = {"\u00a2": "cents", "\u00a3": "#", "\u0080": "$", "\u00a4": "$", "\u20a0": "$", "\u20ac": "$"}
_FRACTIONS = {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def _plain(text: str) -> str:
    return text


def _soft(text: str) -> str:
    return text.replace("\u00ad", "")


def _quotes(text: str) -> str:
    return re.sub("(?i)&apos;", "'", text).translate(_QUOTE_SIGNS)


def _ampersand(text: str) -> str:
    return re.sub("(?i)&amp;", "&", text)


def _unbroken(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _brackets(text: str) -> str:
    return _unbroken(text.replace("(", "-lrb-").replace(")", "-rrb-"))


def _rule(
    head: str, token: Callable[[str], str] = _plain, tail: str = "", back: int = 0, begins: str = "letter digit sign"
) -> Rule:
    return Rule(re.compile(f"({head})(?:{tail})" if tail else f"({head})").match, token, back, begins)


def rules() -> list[Rule]:
    """All rules, in order of precedence among matches of equal length."""
    return [*_splits(), *_words(), *_numbers(), *_abbreviations(), *_signs()]


def _splits() -> list[Rule]:
    return [
        _rule(r"(?i:c)\+\+|(?i:[cf])#", begins="letter"),
        _rule("(?i:cannot)", back=3, begins="letter"),
        _rule("(?i:gonna|gotta|lemme|gimme|wanna)", back=2, begins="letter"),
        _rule("(?i:'tis)", back=2, begins="sign"),
        _rule("(?i:'twas)", back=3, begins="sign"),
        _rule(p.SGML, _unbroken, begins="sign"),
        _rule(r"&(?i:md|mdash|ndash);|[\u0096\u0097\u2013-\u2015]", lambda text: "--", begins="sign"),
        _rule("&(?i:amp);", _ampersand, begins="sign"),
        _rule("&(?:(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq)|#[0-9]+);", begins="sign"),
    ]


def _words() -> list[Rule]:
    letter, sign = "letter", "sign"
    return [
        _rule(p.WORD, _soft, p.CLITIC, begins="letter sign"),  # &eacute; is a letter
        _rule(p.BEFORE_NOT, _soft, p.NOT, begins=letter),
        _rule(p.WORD, _soft, begins="letter sign"),
        *(_rule(pattern, begins=sign) for pattern in p.CLIPPED),
        *(_rule(pattern, begins="letter sign") for pattern in p.APOSTROPHE_WORDS),
        _rule(rf"(?i:y){p.APOS}", tail=p.LETTER, begins=letter),
        _rule(p.URL, begins=letter),
        _rule(p.LIKELY_URL),
        _rule(p.EMAIL),
        _rule(rf"@[a-zA-Z_][a-zA-Z_0-9]*|#{p.LETTER}+", begins=sign),
        _rule(p.CLITIC, _quotes, r"[^A-Za-z]", begins=sign),
        _rule(p.NOT, _quotes, r"[^A-Za-z]", begins=letter),
    ]


def _numbers() -> list[Rule]:
    number = "digit sign"
    return [
        _rule(p.DATE, begins="digit"),
        _rule(p.NUMBER, _soft, begins=number),
        _rule(p.SUPERSCRIPT, begins=""),
        _rule(p.FRACTION, _unbroken, begins="digit"),
        _rule(r"[\u00bc-\u00be\u2153-\u215e]", lambda text: _FRACTIONS.get(text, text), begins=""),
        _rule(r"-(?i:rrb|lrb|rcb|lcb|rsb|lsb)-", begins="sign"),
        _rule(r"(?i:c\.d\.s|pro-|anti-)|(?i:s)&(?i:amp;)?(?i:p-500|ls)", _ampersand, begins="letter"),
        _rule(rf"(?i:cap){p.APOS}(?i:n)|(?i:c){p.APOS}(?i:est)", _quotes, begins="letter"),
        _rule(p.SLASHED, begins="letter digit"),
        _rule(r"[A-Z]*\$|#", begins="letter sign"),
        _rule(p.CURRENCY, lambda text: _MONEY.get(text, text), begins=""),
    ]


def _abbreviations() -> list[Rule]:
    letter = "letter"
    return [
        _rule(p.BEFORE_NUMBER, tail=rf"{p.ANY_SPACE}?\d", begins=letter),
        _rule(r"(?i:pt)[eyEY]\.|(?i:co)\.", tail=rf"{p.SPACE}(?i:ltd|lim)", begins=letter),
        _rule(p.ABBREVIATION, tail=p.SENTENCE_END, begins=letter),
        _rule(p.ABBREVIATION, tail=r"[\s\S]{2}", begins=letter),
        _rule(p.ABBREVIATION, begins=letter),
        _rule(r"[A-Za-z]\.", tail=rf"{p.ANY_SPACE}+(?:{p.STARTER}|{p.SGML}){p.ANY_SPACE}", back=1, begins=letter),
        _rule(rf"{p.TITLE}\.", begins=letter),
        _rule(p.TITLE, tail=p.SPACE, begins=letter),
        _rule(p.ACRONYM, tail=p.ANY_SPACE, begins=letter),
        _rule(rf"{p.APOS}[0-9][0-9]", tail=p.ANY_SPACE, begins="sign"),
        _rule(p.FILE, tail=rf"{p.ANY_SPACE}|[.?!,]"),
        _rule(rf"{p.WORD}\.", _soft, r"[,;:\u3001]", begins="letter sign"),
        _rule(p.PHONE, _brackets, begins="digit sign"),
        _rule(p.DOTTED_PHONE, begins="digit sign"),
    ]


def _signs() -> list[Rule]:
    sign, word, insert = "sign", "letter digit", r"[,;:\u3001]"
    return [
        _rule('"|&(?i:quot);', lambda text: "''", begins=sign),
        _rule(p.SMILEY, _brackets, r"[^A-Za-z0-9]", begins=sign),
        _rule(p.FACE, _brackets, begins="letter sign"),
        _rule(r"&(?i:lt);", lambda text: "<", begins=sign),
        _rule(r"&(?i:gt);", lambda text: ">", begins=sign),
        _rule(r"[(){}\[\]]", _BRACKETS.__getitem__, begins=sign),
        _rule("-+", lambda text: "--" if 3 <= len(text) <= 4 else text, begins=sign),
        _rule(r"\.{3,5}|(?:\.[ \u00a0]){2,4}\.|[\u0085\u2026]", lambda text: "...", begins=sign),
        _rule(r"@+|#+|_+|=|\*+|(?:\\\*){1,3}|[?!]+|<<|>>", begins=sign),
        _rule(r"[,;:\u3001.\u00a1\u00bf\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002/<>]", begins=sign),
        _rule(p.HYPHENATED, _soft, begins=word),
        _rule(rf"{p.HYPHENATED}\.", _soft, insert, begins=word),
        _rule(rf"{p.COMPOUND}\.", tail=insert, begins=word),
        _rule(p.COMPOUND, begins=word),
        _rule(rf"{p.WITH_AMPERSAND}\.", _ampersand, insert, begins="letter"),
        _rule(p.WITH_AMPERSAND, _ampersand, begins="letter"),
        _rule("'", tail=f"{p.LETTER}{p.NO_SPACE}", begins=sign),
        _rule(p.QUOTES, _quotes, begins=sign),
        _rule(p.CLITIC, _quotes, begins=sign),
        _rule(p.NOT, _quotes, begins="letter"),
        _rule(p.SYMBOL, begins=sign),
    ]
