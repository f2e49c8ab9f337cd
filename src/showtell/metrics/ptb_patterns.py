r"""Patterns from which token rules are built: characters, numbers, abbreviations, words, addresses, signs.

Words written out match in either case, letters in [classes] only as written.
"""

import re


def any_of(words: str) -> str:
    """Any of the words, in either case; longest first, since Python takes the first alternative that matches."""
    return "(?i:" + "|".join(re.escape(word) for word in sorted(words.split(), key=len, reverse=True)) + ")"


# ---- characters ----
SPACE = r"[ \t\u00a0\u2000-\u200a\u3000]"
ANY_SPACE = r"[ \t\u00a0\u2000-\u200a\u3000\r\n\u2028\u2029\v\f\u0085]"
NO_SPACE = ANY_SPACE.replace("[", "[^")
_MARKS = (  # signs that count as letters besides Unicode's own letters
    r"\u00ad\u0237-\u024f\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0300-\u036f\u0370-\u037d\u0384\u0385\u03cf\u03f6"
    r"\u03fc-\u03ff\u0483-\u0487\u0510-\u0525\u055a-\u055f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    r"\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06ef\u06fa-\u06ff\u070f\u0711\u0730-\u074f\u07a6-\u07b1\u07eb-\u07f5"
    r"\u0900-\u0903\u093c\u093e-\u094e\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc-\u09c4\u09c7\u09c8\u09cb-\u09cd"
    r"\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc-\u0acf\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8"
    r"\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d44\u0d46-\u0d48\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1-\u0ebc"
    r"\u0ec8-\u0ecd"
)
# Fractions, superscripts, Roman and circled numerals: Python's \w has them, words here do not
_NUMERALS = (
    r"\u00b2\u00b3\u00b9\u00bc-\u00be\u2070\u2074-\u2079\u2080-\u2089\u2150-\u2182\u2185-\u2189\u2460-\u249b\u24ea-\u24ff"
    r"\u2776-\u2793\u3192-\u3195\u3220-\u3229\u3248-\u324f\u3251-\u325f\u3280-\u3289\u32b1-\u32bf"
)
LETTER = rf"(?:[^\W\d_{_NUMERALS}]|(?!\w)[{_MARKS}]|&[aeiouAEIOU]{any_of('acute grave uml')};)"
ALNUM = rf"[^\W_{_NUMERALS}]"
APOS = r"(?:['\u0092\u2019]|&(?i:apos);)"
APOS_LIKE = r"(?:['\u0092\u2019`\u0091\u2018\u201b]|&(?i:apos);)"
HYPHEN = r"[-_\u058a\u2010\u2011]"
WORD = rf"{LETTER}(?:{LETTER}|\d)*(?:[.!?]{LETTER}(?:{LETTER}|\d)*)*"

# ---- numbers ----
NUMBER = r"[-+]?(?:\d+(?:[.:,\u00ad\u066b\u066c]\d+)*|(?:[.:,\u00ad\u066b\u066c]\d+)+)"
DATE = r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}"
SUPERSCRIPT = r"[\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)"
FRACTION = r"(?:\d{1,4}[- \u00a0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}"
PHONE = (
    r"(?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
    r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}"
)
DOTTED_PHONE = r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
CURRENCY = r"[\u00a2-\u00a5\u0080\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]"

# ---- abbreviations, which keep their period ----
DATES_PLACES = (
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri ala ariz calif colo conn ct dak "
    "fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wis wisc wyo"
)
BUSINESS = "inc co cos corp ltd plc rt bancorp bhd assn univ intl sys tel est ext sq jr sr bros ed.d ph.d blvd rd esq"
CAPITALS = "[A](?i:z|rk)|[D](?i:el)|[I](?i:ll)|[L](?i:a)|[M](?i:ass|iss)|[O](?i:re)|[P](?i:a)|[T](?i:ex)|[W](?i:ash)"
ABBREVIATION = rf"(?:{any_of(f'{DATES_PLACES} {BUSINESS} etc al seq bldg')}|{CAPITALS}|(?i:pp?t)[ye](?i:s)?)\."
TITLES = (
    "mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj sgt cpl pvt capt "
    "st ste ave pres lieut hon brig cmdr comdr pfc spc supt supts det mt ft adj adv asst assoc ens insp mlle mme msgr "
    "sfc invt elec natl dept vs alex wm jos cie a.k.a cf treas ph"
)
_NATIONS = rf"{any_of('canada sino korean eu japan non')}-(?i:u\.s)|(?i:u\.s)\.-(?:(?i:u\.s\.s\.r)|(?i:u\.k))"
ACRONYM = rf"(?:{_NATIONS}|[A-Za-z](?:\.[A-Za-z])*)"
_LONG_ACRONYM = rf"(?:{_NATIONS}|[A-Za-z](?:\.[A-Za-z])+)"
TITLE = rf"(?:{any_of(TITLES)}|(?i:m)[ft](?i:g)|{ACRONYM})"
NUMBERED = "art arts ca fig figs no nos op pp prop"
BEFORE_NUMBER = any_of(NUMBERED) + r"\."
# Every word whose period may belong to it, lower case
ABBREVIATIONS = frozenset(
    f"{DATES_PLACES} {BUSINESS} {TITLES} {NUMBERED} etc al seq bldg az ark del ill la mass miss ore pa tex wash "
    "pty ppty pte ppte ptys pptys ptes pptes mfg mtg".split()
)
_STARTERS = (  # words that, capitalised after an abbreviation, begin a sentence
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Mr. Ms. Now "
    "Once One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You"
)
STARTER = "(?:" + "|".join(word[0] + (any_of(word[1:]) if word[1:] else "") for word in _STARTERS.split()) + ")"

# ---- words with hyphens, slashes, apostrophes ----
CLITIC = rf"{APOS}(?:(?i:re|ve|ll)|[msdMSD])"
NOT = rf"(?i:n){APOS_LIKE}(?i:t)"
BEFORE_NOT = r"[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*"
_PART = rf"(?:[dDoOlL]{APOS_LIKE}{ALNUM})?{ALNUM}+"
COMPOUND = rf"{_PART}(?:{HYPHEN}{_PART})*"
HYPHENATED = rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:{_LONG_ACRONYM}\.|[A-Za-z0-9\u00ad]+))+"
SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"
WITH_AMPERSAND = r"[A-Z]+(?:(?:[+&]|&(?i:amp);)[A-Z]+)+"
CLIPPED = (  # words that begin or end with an apostrophe; each alternative is a rule, since the longest must win
    rf"{APOS}(?i:n){APOS}?",
    rf"{APOS}(?i:em|till?|cause)",
    rf"{APOS}[2-9]0(?i:s)",
    r"(?i:'twas)",
)
APOSTROPHE_WORDS = (
    rf"[lLdDjJ]{APOS}",
    rf"(?i:dunkin|somethin|ol){APOS}",
    rf"[A-HJ-XZn]{APOS_LIKE}{LETTER}{{2,}}",
    rf"{LETTER}+[aeiouyAEIOUY]{APOS_LIKE}[aeiouA-Z]{LETTER}*",
    r"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)",
    rf"(?i:o){APOS_LIKE}(?i:o)",
)

# ---- addresses and mark-up ----
URL = r"(?i:https?)://[^ \t\n\f\r\"<>|(){}]+[^ \t\n\f\r\"'<>|.!?(){},\-]"
LIKELY_URL = (
    r"(?:(?i:www)\.(?:[^ \t\n\f\r\"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"
    r"|(?:[^ \t\n\f\r\"`'<>|.!?(){},-_$]+\.)+(?i:com|net|org|edu))"  # ,-_ is a range, as in the original
    r"(?:/[^ \t\n\f\r\"<>|()]+[^ \t\n\f\r\"<>|.!?(){},\-])?"
)
EMAIL = (
    r"(?:&(?i:lt);|<)?[a-zA-Z0-9][^ \t\n\f\r\"<>|(){}\u00a0]*@(?:[^ \t\n\f\r\"<>|(){}.\u00a0]+\.)*"
    r"[^ \t\n\f\r\"<>|(){}.\u00a0]+(?:&(?i:gt);|>)?"
)
_EXTENSION = any_of(
    "bat bmp c class cgi cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql "
    "tar txt wav x xml zip"
)
FILE = rf"(?:{LETTER}|\d)+(?:\.(?:{LETTER}|\d)+)*\.{_EXTENSION}"
_NAME = r"[A-Za-z][A-Za-z0-9_:.-]*"
SGML = (
    rf"<(?:[!?][A-Za-z-][^>\r\n]*"
    rf"|{_NAME}(?:[ ]+(?:{_NAME}[ ]*=[ ]*(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|{_NAME})|{_NAME}))*[ ]*/?|/{_NAME})[ ]*>"
)
SENTENCE_END = rf"{ANY_SPACE}(?:{ANY_SPACE}|[A-Z]|{SGML})"

# ---- signs ----
QUOTES = rf"(?:''|[`\u2018-\u201f\u0091-\u0094\u2039\u203a\u00ab\u00bb]{{1,2}}|{APOS})"
SMILEY = r"[<>]?[:;=][\-o*']?[()DPdpO\\{@|\[\]]"
FACE = r"[\-^x=~<>']_[\-^x=~<>']|\([\-^x=~<>'][_.]?[\-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)"
SYMBOL = (
    r"[+%&~^|\\\u00a6\u00a7\u00a8\u00a9\u00ac\u00ae\u00af\u00b0-\u00ba\u00d7\u00f7\u0387\u05be\u05c0\u05c3\u05c6"
    r"\u05f3\u05f4\u0600-\u0603\u0606-\u060a\u060c\u0614\u061b\u061e\u066a\u066d\u0703-\u070d\u07f6-\u07f8\u0964"
    r"\u0965\u0e4f\u1fbd\u2016\u2017\u2020-\u2023\u2030-\u2038\u203b\u203e-\u2042\u2044\u207a-\u207f"
    r"\u208a-\u208e\u2100-\u214f\u2190-\u2bff\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]"
)
