"""Words that get a bonus for their agreement with captions of similar training images."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_captioner import picture
from test_neighbour_ngrams import WORDS, Bigrams
from test_neighbour_words import of_pictures, pixels_of
from test_neighbours import CAPTIONS, hypothesis, images_of, remembered
from tiny_model import tiny_captioner

from showtell.core.errors import UserError
from showtell.data.vocabulary import END
from showtell.generation import neighbours
from showtell.generation.bundle import load_bundle, save_model, serve_model
from showtell.generation.captioner import Captioner
from showtell.generation.choices import best_first
from showtell.generation.decoding import search_together
from showtell.generation.graphs.graph_writer import exportable
from showtell.generation.neighbour_bonus import NeighbourBonus
from showtell.generation.neighbours import Neighbours, pooled
from showtell.generation.search_params import PLAIN


def ngrams(words: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]


def by_hand(memory: Neighbours, vector: np.ndarray, said: list[int]) -> np.ndarray:
    """The bonus (word) of the word after `said`, for a weight of 1: a sum over the captions of similar images."""
    weights = memory.weights(vector)
    nearest = [int(i) for i in np.argsort(-weights)[: neighbours.NEAREST] if weights[i] > 0]
    share = {i: weights[i] / sum(weights[j] for j in nearest) / len(CAPTIONS[i]) for i in nearest}  # of a caption
    written = [[[*map(int, caption.split()), END] for caption in of_image] for of_image in CAPTIONS]
    bonus = np.zeros(WORDS)
    for size in range(1, 5):
        images = Counter(gram for captions in written for gram in {g for c in captions for g in ngrams(c, size)})
        idf = {gram: np.log(len(CAPTIONS) / count) for gram, count in images.items()}
        counts = [[Counter(ngrams(caption, size)) for caption in of_image] for of_image in written]
        tfidf = [[{g: n * idf[g] for g, n in caption.items()} for caption in of_image] for of_image in counts]
        norm = [[np.sqrt(sum(value**2 for value in caption.values())) for caption in of_image] for of_image in tfidf]
        mean = sum(share[i] * each for i in nearest for each in norm[i])
        for word in range(WORDS):
            gram = (*said[len(said) - size + 1 :], word) if len(said) >= size - 1 else None
            if gram is None or (size == 1 and word in said):
                continue
            for i in nearest:
                for caption, own in zip(tfidf[i], norm[i], strict=True):
                    if gram in caption and own > 0:
                        bonus[word] += 10 / 4 * share[i] * caption[gram] * idf[gram] / (own * mean)
    return bonus


@given(seed=st.integers(0, 10**6), weight=st.floats(0.1, 20), nearest=st.integers(1, 6))
def test_a_words_bonus_is_its_part_of_cider_d_with_captions_of_similar_images(seed, weight, nearest):
    memory, asked, rng = remembered(images_of(len(CAPTIONS), seed)), images_of(3, seed + 1), np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "NEAREST", nearest)
        bonus = NeighbourBonus.of(memory, torch.from_numpy(asked), weight)
        said = np.zeros((3, 2, 0), int)
        for _ in range(5):
            found = bonus(torch.from_numpy(said), WORDS)
            for image, vector in enumerate(asked):
                for beam in range(2):
                    expected = weight * by_hand(memory, vector, said[image, beam].tolist())
                    np.testing.assert_allclose(found[image, beam].numpy(), expected, rtol=1e-4, atol=1e-5)
            kept = torch.tensor([2, 0])
            assert bonus.keep_images(kept)(torch.from_numpy(said)[kept], WORDS).equal(found[kept])
            said = np.concatenate((said, rng.choice([4, 5, 6, 7, 9, 11], (3, 2, 1))), axis=2)


@given(st.integers(0, 10**6))
def test_the_bonuses_of_a_caption_are_its_agreement_where_norms_and_lengths_are_alike(seed):
    """Three words side by side on a ring of eight: their norms are the same."""
    written = [[" ".join(str(4 + (first + step) % 8) for step in range(3))] for first in range(8)]
    memory, (asked,) = remembered(images_of(len(written), seed), written), images_of(1, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "RIDGE", 0.0)  # which weighs all images, some of them negatively
        bonus = NeighbourBonus.of(memory, torch.from_numpy(asked[None]), 1.0)
        weights = memory.weights(asked)
        for image, (caption,) in enumerate(written):
            words, total = list(map(int, caption.split())), 0.0
            for at, word in enumerate([*words, END]):
                total += float(bonus(torch.tensor([[words[:at]]], dtype=torch.long), 16)[0, 0, word])
            agreement = float(memory.agreement(asked, [hypothesis(words, 0.0)])[0])
            assert agreement > 9.9 * weights[image]  # 10 with itself
            assert total == pytest.approx(agreement, rel=1e-4)


@given(st.integers(0, 10**6))
def test_log_probabilities_are_the_decoders_and_scores_have_the_bonus(seed):
    memory, asked = remembered(images_of(len(CAPTIONS), seed)), torch.from_numpy(images_of(4, seed + 1))
    decoder, search = Bigrams(seed, 4), PLAIN.override(beam=3, max_length=6, length_penalty=0.7, neighbour_bonus=3.0)
    found = search_together([decoder], [asked], search, n_best=3, neighbours=memory)
    bonus = NeighbourBonus.of(memory, asked, 3.0)
    for image, hypotheses in enumerate(found):
        assert hypotheses == best_first(hypotheses)
        for h in hypotheses:
            said = [*h.tokens, *[END] * h.finished]
            rows = [decoder.logits[image, last] for last in [1, *said][: len(said)]]
            alone = [float(torch.log_softmax(row, 0)[word]) for row, word in zip(rows, said, strict=True)]
            assert h.logprobs == pytest.approx(alone, abs=1e-4) and h.logprob == pytest.approx(sum(alone), abs=1e-4)
            more = 0.0
            for at, word in enumerate(said):
                before = torch.tensor(said[:at], dtype=torch.long).expand(4, 1, -1)
                more += float(bonus(before, WORDS)[image, 0, word])
            assert h.score == pytest.approx((sum(alone) + more) / len(said) ** 0.7, abs=1e-4)


SEARCHES = [{"method": "greedy"}, {"beam": 3}, {"method": "diverse_beam", "beam": 4, "groups": 2}]


@pytest.mark.parametrize("settings", SEARCHES)
def test_captions_are_those_of_similar_images_where_the_bonus_is_great(settings):
    plain, images = tiny_captioner(), [picture(seed) for seed in range(4)]
    vectors = pooled(plain.model.encode(pixels_of(plain, images)))
    written = [["kite", "on", "sea"], ["boat", "on", "grass"], ["red", "dog", "runs"], ["the", "blue", "ball"]]
    tokens = [[*map(plain.model.vocabulary.words.index, words), END] for words in written]
    ones = np.ones(len(images), np.int64)
    memory = Neighbours.of(vectors, ones, ones * 4, np.concatenate(tokens))
    captioner = Captioner(plain.model, plain.search, neighbours=memory)
    alone = plain.caption(images, **settings)
    assert [c.words for c in captioner.caption(images, **settings)] == [c.words for c in alone]  # of a bonus of 0
    assert not any(c.words == words for c, words in zip(alone, written, strict=True))
    great = settings | {"neighbour_bonus": 100.0, "block_ngrams": 2}
    said = captioner.caption(images, **great)
    for caption, words in zip(said, written, strict=True):
        assert set(caption.words) <= set(words) and len(caption.words) >= 2
    assert all(c.finished and c.logprob < 0 and max(c.probabilities) <= 1 for c in said)
    two = Captioner(plain.model, plain.search, [plain.model], neighbours=captioner.neighbours)
    assert [c.words for c in two.caption(images, **great)] == [c.words for c in said]


def test_an_image_has_the_same_captions_alone_and_beside_others():
    captioner = tiny_captioner()
    memory = of_pictures(captioner, ["dog", "runs", "on", "grass"])
    captioner = Captioner(captioner.model, PLAIN.override(neighbour_bonus=2.0, beam=3), neighbours=memory)
    images = [picture(seed) for seed in range(5)]
    together, alone = captioner.n_best(images, 3), [captioner.n_best([image], 3)[0] for image in images]
    assert [[c.words for c in best] for best in together] == [[c.words for c in best] for best in alone]


def test_it_needs_training_images_and_a_search(tmp_path):
    captioner = tiny_captioner()
    with pytest.raises(UserError, match=r"neighbour_bonus = 2: this model remembers no training images; set it to 0"):
        captioner.caption([picture()], method="greedy", neighbour_bonus=2.0)
    with pytest.raises(UserError, match=r"neighbour_bonus = 2: samples are drawn without it; choose another"):
        captioner.caption([picture()], method="sample", neighbour_bonus=2.0)
    save_model(captioner.model, tmp_path / "source", notes={})
    search = PLAIN.override(method="greedy", neighbour_bonus=2.0)
    serve_model(tmp_path / "source", tmp_path / "model", search, {})
    with pytest.raises(UserError, match=r"search.neighbour_bonus needs neighbours.safetensors, and none is named"):
        load_bundle(tmp_path / "model")
    assert search.override(method="sample").needs_images is None


def test_an_exported_graph_does_without_it_and_says_so(tmp_path, capfd):
    captioner = tiny_captioner()
    save_model(captioner.model, tmp_path / "source", notes={})
    search, memory = PLAIN.override(neighbour_bonus=2.0), of_pictures(captioner, ["dog"])
    serve_model(tmp_path / "source", tmp_path / "model", search, {}, neighbours=memory)
    assert exportable(load_bundle(tmp_path / "model")).neighbour_bonus == 0
    assert "its captions are those of `showtell caption --neighbour-bonus 0`" in capfd.readouterr().err
