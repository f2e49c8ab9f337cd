import pytest

from showtell.metrics.behaviour import behaviour, repeats


def test_figures_of_a_few_captions() -> None:
    captions = [["a", "dog"], ["a", "dog"], ["a", "cat", "on", "a"], ["<unk>"]]
    figures = behaviour(
        captions, [["a", "dog"], ["a", "cat"]], ["a", "dog", "cat", "tree"], [False, False, True, False]
    )
    assert figures == {
        "captions": 4,
        "distinct_captions": 3,
        "distinct": 0.5,
        "copied": 0.5,
        "words_used": 5,
        "vocabulary_used": 0.75,
        "mean_length": 9 / 4,
        "function_word_endings": 0.25,
        "repeated_ngrams": 0,
        "empty": 0,
        "unknown": 1 / 9,
        "unfinished": 0.25,
    }


@pytest.mark.parametrize(
    ("caption", "expected"),
    [("a dog and a dog", True), ("a very very big dog", True), ("a dog and a cat", False), ("", False), ("dog", False)],
)
def test_repetition_is_a_doubled_word_or_pair(caption: str, expected: bool) -> None:
    assert repeats(caption.split()) is expected


def test_no_captions_and_empty_captions() -> None:
    assert behaviour([], [], [])["mean_length"] == 0
    assert behaviour([[]], [], [])["empty"] == 1
