import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.metrics.diversity import diversity

REFERENCES = [[["a", "dog", "runs"], ["the", "dog"]], [["a", "boat", "at", "sea"]], [["red", "kite"]]]
WORDS = st.lists(st.sampled_from(["a", "dog", "boat", "sea", "kite", "new"]), min_size=1, max_size=6)


def test_equal_captions_have_no_diversity():
    found = diversity([[["a", "dog"]] * 4], REFERENCES)
    assert found["self_cider"] == pytest.approx(0.0, abs=1e-6)
    assert found["distinct_words"] == 2 / 8 and found["distinct_pairs"] == 1 / 8 and found["captions_an_image"] == 4


def test_disjoint_captions_have_full_diversity():
    captions = [["dog", "runs", "at", "night"], ["red", "kite", "up", "high"]]
    found = diversity([captions], REFERENCES)
    assert found["self_cider"] == pytest.approx(1.0)
    assert found["distinct_words"] == 1.0 and found["distinct_pairs"] == 6 / 8


def test_two_captions_by_hand():
    """Cosine c of two captions' vectors, of single words alone: eigenvalues 1 + c and 1 - c of the kernel / 4 ..."""
    found = diversity([[["dog"], ["dog", "kite"]]], REFERENCES)["self_cider"]
    cosine = math.log(3) / math.hypot(math.log(3), math.log(3))  # both in one image of three
    kernel = np.array([[1.0, cosine], [cosine, 1.0 + 1.0]]) / 4  # the second has a pair of words besides
    high, low = np.sqrt(np.linalg.eigvalsh(kernel)[::-1])
    assert found == pytest.approx(-math.log(high / (high + low)) / math.log(2))


def test_one_caption_an_image_has_no_diversity():
    assert set(diversity([[["a"]], [["b"]]], REFERENCES).values()) == {None}
    assert set(diversity([], REFERENCES).values()) == {None}


@given(st.lists(WORDS, min_size=2, max_size=5), st.randoms())
def test_it_lies_between_0_and_1_whatever_the_order(captions, random):
    found = diversity([captions], REFERENCES)
    assert -1e-6 <= found["self_cider"] <= 1 + 1e-6
    shuffled = list(captions)
    random.shuffle(shuffled)
    assert diversity([shuffled], REFERENCES)["self_cider"] == pytest.approx(found["self_cider"], abs=1e-6)
