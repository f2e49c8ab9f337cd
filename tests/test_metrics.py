"""BLEU, ROUGE-L and CIDEr-D against the reference scorer, where it is installed, and against worked examples."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu

from showtell.metrics.bleu import Bleu, bleu, nltk_bleu, nltk_statistics
from showtell.metrics.cider import CiderD
from showtell.metrics.ngrams import NgramIds, References
from showtell.metrics.rouge import rouge_l

CAPTION = st.lists(st.sampled_from(["a", "b", "c", "d", "the", "dog"]), max_size=12).map(" ".join)
CORPUS = st.lists(st.tuples(CAPTION, st.lists(CAPTION, min_size=1, max_size=4)), min_size=2, max_size=6)

Corpus = tuple[dict[int, list[str]], dict[int, str]]


def corpus(pairs: list[tuple[str, list[str]]]) -> Corpus:
    references = {number: captions for number, (_, captions) in enumerate(pairs)}
    return references, {number: caption for number, (caption, _) in enumerate(pairs)}


def corners() -> list[Corpus]:
    long = " ".join(f"w{i % 97}" for i in range(1500))
    return [
        corpus([("", ["a b c"]), ("a b", ["a b", ""])]),
        corpus([("a", ["a"]), ("b", ["c d e"])]),
        corpus([("", [""]), ("", ["", "x"])]),
        corpus([(long, [long + " x", "w1 w2"]), ("w1 w2 w3 w4", [long])]),
        corpus([("a a a a a", ["a a b", "a"]), ("a b c d", ["d c b a", "a b c d e f"])]),
        corpus([("a b c", ["a b", "a b c d"]), ("a b c", ["a b c d", "a b"])]),  # closest length, a tie
        corpus([("new words only", ["a b c d"]), ("a b c d", ["a b c d"])]),
    ]


def assert_equals_reference_scorer(references: dict[int, list[str]], hypotheses: dict[int, str]) -> None:
    official_bleu = pytest.importorskip("pycocoevalcap.bleu.bleu").Bleu
    official_rouge = pytest.importorskip("pycocoevalcap.rouge.rouge").Rouge
    official_cider = pytest.importorskip("pycocoevalcap.cider.cider").Cider
    lists = {image_id: [caption] for image_id, caption in hypotheses.items()}
    prepared = References(references)
    for (score, per_image), (expected, expected_images) in (
        (Bleu(prepared).score(hypotheses), official_bleu(4).compute_score(references, lists, verbose=0)),
        (rouge_l(prepared, hypotheses), official_rouge().compute_score(references, lists)),
        (CiderD(prepared).score(hypotheses), official_cider().compute_score(references, lists)),
    ):
        np.testing.assert_allclose(score, expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(per_image, np.array(expected_images), rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", corners())
def test_corners_equal_the_reference_scorer(case: Corpus) -> None:
    assert_equals_reference_scorer(*case)


@settings(max_examples=60)
@given(CORPUS)
def test_any_corpus_equals_the_reference_scorer(pairs: list[tuple[str, list[str]]]) -> None:
    assume(any(caption for _, captions in pairs for caption in captions))  # it fails on captions without words
    assert_equals_reference_scorer(*corpus(pairs))


def test_bleu_sums_over_the_corpus_with_the_brevity_penalty() -> None:
    references, hypotheses = corpus([("the dog", ["the dog runs", "a dog runs fast now"]), ("a cat", ["a cat"])])
    scores, _ = Bleu(references).score(hypotheses)
    # 4 words of 4 match, 2 pairs of 2; 4 words against 3 + 2
    assert scores[:2] == pytest.approx([math.exp(1 - 5 / 4)] * 2)
    assert scores[3] < 0.01  # no smoothing except a tiny constant of the scorer against division by zero


def test_bleu_counts_a_repeated_word_as_often_as_one_reference_has_it() -> None:
    references, hypotheses = corpus([("the the the the", ["the cat the", "the dog"]), ("x", ["y"])])
    statistics = Bleu(references).statistics(hypotheses)
    assert statistics[0].tolist() == [4, 3, 4, 3, 2, 1, 2, 0, 0, 0]


def test_rouge_takes_precision_and_recall_from_different_references() -> None:
    _, per_image = rouge_l({0: ["a b c d", "a x"]}, {0: "a b"})
    precision, recall = 1.0, 0.5  # both from the first; the second has recall 1/2 and precision 1/2
    assert per_image[0] == pytest.approx((1 + 1.44) * precision * recall / (recall + 1.44 * precision))


def test_cider_of_the_reference_itself_is_ten() -> None:
    references = {0: ["a dog runs on grass"], 1: ["two cats sleep under tables"]}
    score, per_image = CiderD(references).score({0: references[0][0], 1: references[1][0]})
    assert per_image == pytest.approx([10, 10])
    assert score == pytest.approx(10)


def test_cider_weighs_words_by_rarity_and_clips_repetition() -> None:
    cider = CiderD({0: ["a dog"], 1: ["a cat"], 2: ["a bird"]})
    _, common = cider.score({0: "a", 1: "a", 2: "a"})
    assert common.tolist() == [0, 0, 0]  # "a" is in every image, so its weight is zero
    _, rare = cider.score({0: "dog", 1: "dog", 2: "dog dog dog dog"})
    assert rare[0] > 0 and rare[1] == rare[2] == 0


def test_cider_scores_again_without_touching_its_references() -> None:
    references = {0: ["a dog runs"], 1: ["a cat"]}
    cider = CiderD(references)
    first = cider.score({0: "a dog", 1: "new words"})[1]
    cider.score({0: "something else", 1: "entirely"})
    np.testing.assert_array_equal(cider.score({0: "a dog", 1: "new words"})[1], first)


def test_cider_refuses_one_image() -> None:
    with pytest.raises(ValueError, match=r"log\(1/1\)"):
        CiderD({0: ["a dog"]})


def test_captions_without_words_score_zero() -> None:
    references, hypotheses = corpus([("", [""]), ("", ["", ""])])
    assert CiderD(references).score(hypotheses)[0] == 0
    assert Bleu(references).score(hypotheses)[0].max() < 1e-9


@pytest.mark.parametrize("hypotheses", [{0: "a"}, {0: "a", 1: "b", 2: "c"}, {0: "a", 3: "b"}])
def test_other_images_than_the_references_are_refused(hypotheses: dict[int, str]) -> None:
    with pytest.raises(ValueError, match=r"hypotheses missing for|without references"):
        Bleu({0: ["a"], 1: ["b"]}).score(hypotheses)


@settings(max_examples=40)
@given(CORPUS)
@pytest.mark.filterwarnings("ignore:(?s).*The hypothesis contains 0 counts:UserWarning")
def test_nltk_bleu_equals_nltk(pairs: list[tuple[str, list[str]]]) -> None:
    references, hypotheses = corpus(pairs)
    ours = nltk_bleu(nltk_statistics(Bleu(references).statistics(hypotheses)).sum(axis=0))
    weights = [tuple([1 / n] * n) for n in range(1, 5)]
    theirs = corpus_bleu(
        [[caption.split() for caption in captions] for captions in references.values()],
        [caption.split() for caption in hypotheses.values()],
        weights,
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@given(CORPUS)
def test_bleu_of_one_image_is_that_of_its_statistics(pairs: list[tuple[str, list[str]]]) -> None:
    references, hypotheses = corpus(pairs)
    scorer = Bleu(references)
    _, per_image = scorer.score(hypotheses)
    np.testing.assert_array_equal(per_image, bleu(scorer.statistics(hypotheses)).T)
    assert ((per_image >= 0) & (per_image <= 1)).all()


def test_document_frequencies_of_a_larger_set_apply_to_any_subset() -> None:
    references = {0: ["a dog runs", "the dog"], 1: ["a cat sleeps on a mat"], 2: ["two dogs run on the lawn"]}
    hypotheses = {0: "a dog on a mat", 1: "a cat sleeps", 2: "two zebras run"}
    prepared = References(references)
    _, whole = CiderD(prepared).score(hypotheses)
    for part in ([0, 1], [2], [2, 0]):
        of_part = CiderD({i: references[i] for i in part}, others=prepared)
        assert of_part.score({i: hypotheses[i] for i in part})[1] == pytest.approx(whole[part], abs=1e-12)


def test_words_that_the_larger_set_lacks_still_match() -> None:
    others = References({0: ["a dog"], 1: ["a cat"], 2: ["the bird"]})
    cider = CiderD({0: ["a zebra runs over here"]}, others=others)
    assert cider.score({0: "a zebra runs over here"})[0] == pytest.approx(10)
    assert cider.score({0: "a zebu stays over there"})[0] < 5
    assert 0 < cider.score({0: "a unicorn"})[0] < 1  # "a" is in two of three images' captions: a small weight


def test_stored_tokens_of_32_bits_have_the_n_grams_of_their_words() -> None:
    words, lengths = np.array([4, 5, 6, 2, 6, 5, 6, 2]), np.array([4, 4])
    stored, plain = NgramIds(words.astype(np.uint32), lengths), NgramIds(words, lengths)
    for ours, theirs in zip(stored.counts, plain.counts, strict=True):
        assert [x.tolist() for x in ours] == [x.tolist() for x in theirs]
