"""N-grams on disk: the same ids, frequencies and scores as in memory."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from showtell.metrics import bleu, ngram_table, protocol
from showtell.metrics.bleu import Bleu, word_statistics
from showtell.metrics.cider import CiderD, DocumentFrequencies
from showtell.metrics.ngram_table import NgramTable
from showtell.metrics.ngrams import References
from showtell.metrics.protocol import Protocol
from showtell.metrics.rouge import rouge_l

TEXT = st.lists(st.sampled_from(["a", "red", "dog", "runs", "on", "sand", "boat"]), max_size=9).map(" ".join)
IMAGES = st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=2, max_size=8)


@given(IMAGES, st.lists(TEXT, max_size=5), st.integers(1, 6), st.integers(1, 3))
def test_ids_and_weights_equal_those_in_memory(images, others, at_once, of_images):
    references = References(dict(enumerate(images)))
    frequencies = DocumentFrequencies.of(references)
    said = [*others, "new words here", *images[0]]
    counts, lengths = references.count(said)
    with patch.multiple(ngram_table, NGRAMS_AT_ONCE=at_once, IMAGES_AT_ONCE=of_images):
        table = NgramTable(images)
        found, words = table.count_texts(said, dict(table.words))
        weights = [table.weigh(order, of_order) for order, of_order in enumerate(found)]
    assert np.array_equal(words, lengths)
    for order, (ours, theirs) in enumerate(zip(found, counts, strict=True)):
        assert np.array_equal(ours.caption, theirs.caption) and np.array_equal(ours.count, theirs.count)
        assert np.array_equal(weights[order], frequencies.weigh(order, theirs))


@given(IMAGES, st.data())
def test_scores_of_a_few_images_at_a_time_are_those_of_all_at_once(images, data):
    hypotheses = {number: data.draw(TEXT) for number in range(len(images))}
    references = dict(enumerate(images))
    with patch.object(protocol, "IMAGES_PER_BLOCK", 2), patch.object(bleu, "IMAGES_PER_BLOCK", 2):
        scores = Protocol(references).score(hypotheses, meteor=False)
        words = word_statistics([[c.split() for c in captions] for captions in images],
                                [text.split() for text in hypotheses.values()])  # fmt: skip
    assert np.array_equal(scores.images["cider"], CiderD(references).score(hypotheses)[1])
    assert np.array_equal(scores.images["rouge_l"], rouge_l(references, hypotheses)[1])
    assert np.array_equal(scores.bleu_statistics, Bleu(references).statistics(hypotheses))
    assert np.array_equal(words, Bleu(references).statistics(hypotheses))


def test_captions_at_the_end_of_a_block_are_tokenised_like_all_others():
    """What follows decides how "they're" and "plan B." are split; only the last of a corpus ends it."""
    captions = ["a dog and they're", "plan B.", "The plan", "say no.", "2 dogs", "here they're"]
    references = {number: [caption, f"{caption} here"] for number, caption in enumerate(captions)}
    hypotheses = dict(enumerate(captions))
    whole = Protocol(references).score(hypotheses, meteor=False)
    for size in (1, 2, 3):
        with patch.object(protocol, "IMAGES_PER_BLOCK", size):
            few = Protocol(references)
            assert few.tokens == Protocol(references).tokens and few.tokens[0][0] == "a dog and they 're"
            assert np.array_equal(few.score(hypotheses, meteor=False).bleu_statistics, whole.bleu_statistics)


@given(IMAGES)
def test_document_frequencies_of_n_grams(images):
    table = NgramTable(images)
    for ngram in (["a"], ["red", "dog"], ["a", "red", "dog"], ["whale"], ["a", "whale"], ["dog", "runs", "on", "sand"]):
        text = f" {' '.join(ngram)} "
        wanted = sum(any(text in f" {caption} " for caption in captions) for captions in images)
        assert table.images_with(len(ngram), [ngram]).tolist() == [wanted]
