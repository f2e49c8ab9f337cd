"""Captions into words in several languages."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from showtell.data.words import join, nltk_words, unicode_words


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("Two dogs run; one barks!", ["two", "dogs", "run", "one", "barks"]),
        ("A dog's ball, don’t ’touch’ it", ["a", "dog's", "ball", "don't", "touch", "it"]),
        ("a t-shirt with 24 on it", ["a", "t", "shirt", "with", "24", "on", "it"]),
        ("Ein Mädchen läuft über die Straße.", ["ein", "mädchen", "läuft", "über", "die", "straße"]),
        ("cafe\u0301", ["café"]),
        ("一只猫坐在 sofa 上", ["一", "只", "猫", "坐", "在", "sofa", "上"]),
        ("犬がボールで遊ぶ", ["犬", "が", "ボ", "ー", "ル", "で", "遊", "ぶ"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("ไก่", ["ไ", "ก่"]),
        ("กำลัง", ["กำ", "ลั", "ง"]),
        ("ឆ្កែ", ["ឆ្កែ"]),
        ("မန္တလေး", ["မ", "န္တ", "လေး"]),
        ("ﾊﾟﾝ", ["ﾊﾟ", "ﾝ"]),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("개가 공을 쫓는다", ["개가", "공을", "쫓는다"]),
        ("... !?", []),
    ],
)
def test_unicode_words(caption, words):
    assert unicode_words(caption) == words


def test_nltk_words_follow_the_treebank_rules():
    assert nltk_words("A man's dog can't run, (fast).") == ["a", "man", "'s", "dog", "ca", "n't", "run", "fast"]


@given(st.text())
def test_words_are_never_empty_nor_spaced(text):
    assert all(word and len(word.split()) == 1 for word in unicode_words(text))


@given(st.text(alphabet="ab é猫犬ก่ำក្'-."))
@example("a.ำ្ក")  # combining marks after punctuation are dropped and do not belong to the previous word
@example("aำ.ำ្ក")
def test_splitting_joined_words_gives_the_words(text):
    words = unicode_words(text)
    assert unicode_words(join(words)) == words


def test_join_spaces_words_but_not_characters():
    assert join(["a", "red", "dog"]) == "a red dog"
    assert join(["猫", "在", "sofa", "上"]) == "猫在 sofa 上"
    assert join([]) == ""
