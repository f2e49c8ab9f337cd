"""The training caption nearest to a generated one."""

from itertools import pairwise
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.evaluation.report import TrainingCaptions


def slow_nearest(training, words):
    """The definition, computed naively."""

    def grams(text):
        words = text.split()
        return {*words, *(f"{a} {b}" for a, b in pairwise(words))}

    texts = list(dict.fromkeys(" ".join(caption) for caption in training))

    def weight(found):
        return sum(log(1 + len(texts) / (1 + sum(g in grams(t) for t in texts))) for g in found)

    own, best = grams(" ".join(words)), (0.0, None)
    for text in texts:
        similarity = weight(own & grams(text)) / weight(own | grams(text)) if own | grams(text) else 0.0
        if similarity > best[0] + 1e-9:
            best = (similarity, text)
    return best


CAPTION = st.lists(st.sampled_from(["a", "red", "dog", "on", "kite", "sea"]), min_size=1, max_size=6)


@given(st.lists(CAPTION, min_size=1, max_size=12), CAPTION)
def test_nearest_equals_its_definition(training, words):
    similarity, text = slow_nearest(training, words)
    found = TrainingCaptions(training).nearest(words)
    if text is None:
        assert found is None
    else:
        assert found.caption == text and found.similarity == pytest.approx(similarity)


def test_a_copied_caption_is_its_own_nearest():
    training = TrainingCaptions([["a", "dog"], ["a", "red", "kite"], ["a", "dog", "and", "a", "kite"]])
    assert training.nearest(["a", "red", "kite"]) == ("a red kite", 1.0)
    assert training.nearest(["zebra"]) is None and training.nearest([]) is None
