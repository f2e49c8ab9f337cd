"""Rewards equal the metrics, with the document frequencies of the training captions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.core.errors import UserError
from showtell.data.caption_writer import write_captions
from showtell.data.captions import CaptionFile
from showtell.data.vocabulary import END, START, Vocabulary
from showtell.generation.neighbours import Nearest
from showtell.learning.rewards import Rewards, Weights
from showtell.metrics.annotations import Annotations
from showtell.metrics.bleu import Bleu
from showtell.metrics.cider import CiderD
from showtell.metrics.ngrams import References

VOCABULARY = Vocabulary(["a", "dog", "cat", "runs", "sleeps", "ball", "red", "blue", "balls", "dogs", "two"], [1] * 11)
TRAIN = {
    "1": ["a dog runs", "the dog runs fast"],
    "2": ["a cat sleeps"],
    "3": ["a red ball", "a ball", "a dog sleeps on a red ball"],
}


@pytest.fixture(scope="module")
def train(tmp_path_factory) -> CaptionFile:
    return write_captions(tmp_path_factory.mktemp("captions") / "train.json", entries(TRAIN))


def entries(captions: dict[str, list[str]]) -> list[dict]:
    return [
        {"image_id": key, "tokens": [[START, *VOCABULARY.encode(text.split()), END] for text in texts]}
        for key, texts in captions.items()
    ]


def texts(sequences: list[list[int]]) -> list[str]:
    """Tokens as words for the metrics, with the end token."""
    return [" ".join(f"w{token}" for token in tokens) for tokens in sequences]


TOKENS = st.lists(st.sampled_from([*range(4, 11)]), max_size=7)
SAMPLES = st.lists(st.tuples(TOKENS, st.booleans()), min_size=2, max_size=2)


@given(st.lists(st.tuples(st.sampled_from(list(TRAIN)), SAMPLES), min_size=1, max_size=4, unique_by=lambda x: x[0]))
def test_rewards_equal_the_metrics_with_document_frequencies_of_train(train, images):
    references = {entry["image_id"]: texts([tokens[1:] for tokens in entry["tokens"]]) for entry in entries(TRAIN)}
    ids = [image_id for image_id, _ in images]
    captions = [[[*tokens, END] if ended else tokens for tokens, ended in samples] for _, samples in images]
    part = {image_id: references[image_id] for image_id in ids}
    cider, bleu = CiderD(part, others=References(references)), Bleu(part)
    found = Rewards(train, VOCABULARY, Weights(1.0, 0.5))(ids, captions)
    for sample in range(2):
        said = {image_id: texts([of_image[sample]])[0] for image_id, of_image in zip(ids, captions, strict=True)}
        expected = cider.score(said)[1] + 0.5 * bleu.score(said)[1][3]
        np.testing.assert_allclose(found[:, sample], expected, atol=1e-9)


def test_the_end_token_counts_where_it_was_generated(train):
    dog = VOCABULARY.encode(["a", "dog", "runs"])
    whole, cut = Rewards(train, VOCABULARY, Weights(1.0))(["1"], [[[*dog, END], dog]])[0]
    assert whole > cut
    broken_off = VOCABULARY.encode(["a", "dog", "runs", "a"])
    ended, unended = Rewards(train, VOCABULARY, Weights(1.0))(["1"], [[[*dog, END], [*broken_off, END]]])[0]
    assert ended > unended


def test_absent_objects_lower_the_reward(train):
    objects = {
        "names": {"dog": ["dog"], "cat": ["cat"]},
        "images": {key: {"objects": [{"kind": "dog", "colour": None}]} for key in TRAIN},
    }
    dog, cat, both = (VOCABULARY.encode(text.split()) for text in ("a dog", "a cat", "a dog a cat"))
    rewards = Rewards(train, VOCABULARY, Weights(0.0, 0.0, 2.0), Annotations.of(objects))
    assert rewards(["1"], [[dog, cat, both, []]]).tolist() == [[0.0, -2.0, -1.0, 0.0]]
    with pytest.raises(UserError, match=r"reinforce\.chair.*nothing is known of image 1"):
        Rewards(train, VOCABULARY, Weights(1.0, 0.0, 1.0))


def test_right_colours_and_numbers_pay_and_wrong_ones_and_naming_twice_cost(train):
    things = [{"kind": "ball", "colour": "blue"}, *[{"kind": "dog", "colour": "red"}] * 2]
    objects = {
        "names": {"dog": ["dog", "dogs"], "ball": ["ball", "balls"], "cat": ["cat"]},
        "colours": {"red": ["red"], "blue": ["blue"]},
        "images": {key: {"objects": things} for key in TRAIN}
        | {"2": {"objects": [{"kind": "dog", "colour": colour} for colour in ("red", "blue")]}},
    }
    expected = {
        "a ball": 0.0, "a red ball": -2.0, "blue balls": -2.0, "a blue ball": 1.0, "a blue ball a cat": 0.0,
        "a ball a ball": -1.0, "a red dog": -2.0, "two red dogs": 1.0, "red dogs a blue ball": 2.0,
        "two red dogs two red dogs": 0.0, "red dogs red dogs red dogs": 2 * (1 / 2 - 2 / 3),
    }  # fmt: skip
    rewards = Rewards(train, VOCABULARY, Weights(0.0, truth=2.0), Annotations.of(objects))
    said = [VOCABULARY.encode(text.split()) for text in expected]
    assert dict(zip(expected, rewards(["1"], [said])[0].tolist(), strict=True)) == expected
    expected = {"a red dog a red dog": 0.0, "two dogs a red dog": -1.0, "a red dog a blue dog": 2.0}
    said = [VOCABULARY.encode(text.split()) for text in expected]
    assert dict(zip(expected, rewards(["2"], [said])[0].tolist(), strict=True)) == expected


def test_function_words_before_words_that_they_never_precede_cost(train):
    expected = {"a dog runs": 0.0, "dog cat runs": 0.0, "a runs": -0.5, "a": -0.5, "a a a": -1.5, "": 0.0}
    rewards = Rewards(train, VOCABULARY, Weights(0.0, odd_pairs=0.5))
    said = [[*VOCABULARY.encode(text.split()), END] for text in expected]
    assert dict(zip(expected, rewards(["1"], [said])[0].tolist(), strict=True)) == expected
    unended = [VOCABULARY.encode([word]) for word in ("a", "runs")]  # side by side, but not one caption
    assert rewards(["1"], [unended]).tolist() == [[0.0, 0.0]]


def test_words_above_and_below_the_mean_of_the_references_cost(train):
    rewards = Rewards(train, VOCABULARY, Weights(0.0, length=0.5))
    said = [[*[4] * words, END] for words in (3, 1, 7)]
    # the references have 4 and 5 tokens, 4, and 4, 3 and 8
    expected = [[-0.25, -1.25, -1.75], [0.0, -1.0, -2.0], [-0.5, -1.5, -1.5]]
    assert rewards(list(TRAIN), [said] * 3).tolist() == expected


def test_agreement_with_similar_images_is_cider_with_their_captions_by_weight(train):
    similar = Nearest(np.array([[1, 2], [2, 0], [0, 1]]), np.array([[0.75, 0.25], [1.0, 0.0], [0.5, 0.5]]))
    said = [[*VOCABULARY.encode(text.split()), END] for text in ("a cat sleeps", "a dog sleeps on a red ball")]
    found = Rewards(train, VOCABULARY, Weights(0.0, consensus=2.0), similar=similar)(["1", "3"], [said, said])
    references = {entry["image_id"]: texts([tokens[1:] for tokens in entry["tokens"]]) for entry in entries(TRAIN)}
    everyone = References(references)
    of_image = {
        key: np.array([CiderD({0: captions}, others=everyone).score({0: text})[0] for text in texts(said)])
        for key, captions in references.items()
    }
    np.testing.assert_allclose(found[0], 2 * (0.75 * of_image["2"] + 0.25 * of_image["3"]), atol=1e-9)
    np.testing.assert_allclose(found[1], of_image["1"] + of_image["2"], atol=1e-9)
    with pytest.raises(ValueError, match="needs the similar images"):
        Rewards(train, VOCABULARY, Weights(0.0, consensus=2.0))


def test_images_without_references_are_named(train, tmp_path):
    rewards = Rewards(train, VOCABULARY, Weights(1.0))
    with pytest.raises(UserError, match="image 9 is none of the training images"):
        rewards(["9"], [[[4], [5]]])
    with pytest.raises(UserError, match="two training images or more"):
        Rewards(write_captions(tmp_path / "train.json", entries({"1": ["a dog"]})), VOCABULARY, Weights(1.0))
