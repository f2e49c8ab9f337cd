"""Captions that are generated with n-grams of similar training images."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_captioner import picture
from test_neighbour_words import of_pictures
from test_neighbours import CAPTIONS, images_of, remembered
from tiny_model import tiny_captioner

from showtell.core.errors import UserError
from showtell.data.vocabulary import END, START
from showtell.decoders import Decoder, State
from showtell.generation import neighbours
from showtell.generation.bundle import load_bundle, save_model, serve_model
from showtell.generation.captioner import Captioner
from showtell.generation.decoding import search_together
from showtell.generation.graphs.graph_writer import exportable
from showtell.generation.neighbour_ngrams import LONGEST_SHARE, UNSURE, with_ngrams
from showtell.generation.neighbours import Neighbours
from showtell.generation.search_params import PLAIN

WORDS = 13  # in the vocabulary; 11 and 12 are in no caption


class Bigrams(Decoder):
    """Logits that depend on the image and on the last word alone."""

    def __init__(self, seed: int, images: int):
        super().__init__()
        self.logits = torch.randn(images, WORDS, WORDS, generator=torch.Generator().manual_seed(seed)) * 2

    def start(self, features):
        return State((self.logits[: len(features)],), ())

    def step(self, state, tokens):
        return state.image[0].gather(1, tokens.unsqueeze(2).expand(-1, -1, WORDS)), state


def by_hand(memory: Neighbours, vector: np.ndarray, plain: np.ndarray, said: list[int], share: float) -> np.ndarray:
    """The probabilities (word) of the word after `said`, which begins with START, from those of the decoder."""
    weights = memory.weights(vector)
    nearest = sorted(range(len(weights)), key=lambda image: -weights[image])[: neighbours.NEAREST]
    total = sum(weights[image] for image in nearest if weights[image] > 0)
    after: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for image in nearest:
        for caption in CAPTIONS[image] if weights[image] > 0 else []:
            words = [START, START, *map(int, caption.split()), END]
            for before, last, word in zip(words, words[1:], words[2:], strict=False):
                for context in ((last,), (before, last)):
                    after[context][word] += weights[image] / total / len(CAPTIONS[image])
    before, last = [START, *said][-2:]
    one, two = after[last,], after[before, last]
    longer = LONGEST_SHARE * two.total() / (two.total() + UNSURE)
    taken = share * one.total() / (one.total() + UNSURE)
    mixed = (1 - taken) * plain
    for counts, part in ((one, 1 - longer), (two, longer)):
        for word, count in counts.items():
            mixed[word] += taken * part * count / counts.total()
    return mixed


@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 0.95), nearest=st.integers(1, 6))
def test_each_next_word_is_mixed_with_those_of_the_captions_of_similar_images(seed, share, nearest):
    memory, asked, rng = remembered(images_of(len(CAPTIONS), seed)), images_of(3, seed + 1), np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "NEAREST", nearest)
        decoder, features = Bigrams(seed, 3), torch.from_numpy(asked)
        step, state = with_ngrams(decoder.step, decoder.start(features), memory, features, share)
        state = state.select(torch.zeros(3, 2, dtype=torch.long))
        said = np.full((3, 2, 1), START)
        for _ in range(4):
            found, state = step(state, torch.from_numpy(said[:, :, -1]))
            for image, vector in enumerate(asked):
                for beam in range(2):
                    plain = torch.softmax(decoder.logits[image, said[image, beam, -1]], 0).double().numpy()
                    expected = by_hand(memory, vector, plain, said[image, beam].tolist(), share)
                    np.testing.assert_allclose(found[image, beam].exp().numpy(), expected, rtol=1e-4, atol=1e-7)
            said = np.concatenate((said, rng.choice([4, 5, 6, 7, 11], (3, 2, 1))), axis=2)


@given(st.integers(0, 10**6))
def test_a_search_with_them_scores_captions_as_they_are_said_alone(seed):
    memory, asked = remembered(images_of(len(CAPTIONS), seed)), torch.from_numpy(images_of(4, seed + 1))
    decoder, search = Bigrams(seed, 4), PLAIN.override(beam=3, max_length=6, neighbour_ngrams=0.6)
    found = search_together([decoder], [asked], search, n_best=3, neighbours=memory)
    for image, hypotheses in enumerate(found):
        for h in hypotheses:
            step, state = with_ngrams(decoder.step, decoder.start(asked), memory, asked, 0.6)
            alone = []
            for last, word in zip([START, *h.tokens], [*h.tokens, END][: len(h.logprobs)], strict=False):
                logprobs, state = step(state, torch.full((4, 1), last))
                alone.append(float(logprobs[image, 0, word]))
            assert h.logprobs == pytest.approx(alone, abs=1e-4)


def test_an_image_has_the_same_captions_alone_and_beside_others():
    captioner = tiny_captioner()
    memory = of_pictures(captioner, ["dog", "runs", "on", "grass"])
    captioner = Captioner(captioner.model, PLAIN.override(neighbour_ngrams=0.5, beam=3), neighbours=memory)
    images = [picture(seed) for seed in range(5)]
    together, alone = captioner.n_best(images, 3), [captioner.n_best([image], 3)[0] for image in images]
    assert [[c.words for c in best] for best in together] == [[c.words for c in best] for best in alone]


@pytest.mark.parametrize("settings", [{"method": "greedy"}, {"beam": 3}, {"method": "sample", "top_k": 1}])
def test_captions_follow_those_of_training_images_where_their_share_is_great(settings):
    plain, images = tiny_captioner(), [picture(seed) for seed in range(4)]
    written = ["kite", "on", "sea", "ball"]
    captioner = Captioner(plain.model, plain.search, neighbours=of_pictures(plain, written))
    alone = plain.caption(images, **settings)
    assert [c.words for c in captioner.caption(images, **settings)] == [c.words for c in alone]  # of share 0
    assert not any(c.words == written for c in alone)
    said = captioner.caption(images, neighbour_ngrams=0.99, **settings)
    assert [c.words for c in said] == [written] * 4
    assert all(c.finished and min(c.probabilities) > 0.8 for c in said)
    assert all(len(c.attention) == len(written) for c in said)
    two = Captioner(plain.model, plain.search, [plain.model], neighbours=captioner.neighbours)
    twice = two.caption(images, neighbour_ngrams=0.99, **settings)  # in an ensemble their share is of the mean
    assert [c.words for c in twice] == [written] * 4
    assert [c.logprob for c in twice] == pytest.approx([c.logprob for c in said], abs=1e-4)


def test_of_words_that_no_similar_image_has_they_change_nothing():
    memory, asked = remembered(images_of(len(CAPTIONS))), torch.from_numpy(images_of(2, 1))
    decoder = Bigrams(0, 2)
    step, state = with_ngrams(decoder.step, decoder.start(asked), memory, asked, 0.9)
    found, _ = step(step(state, torch.full((2, 1), START))[1], torch.full((2, 1), 11))
    torch.testing.assert_close(found[:, 0], torch.log_softmax(decoder.logits[:, 11], dim=1))


def test_no_word_becomes_impossible():
    memory, asked, decoder = remembered(images_of(len(CAPTIONS))), torch.from_numpy(images_of(2, 1)), Bigrams(0, 2)
    decoder.logits *= 100  # many probabilities are 0 in single precision
    step, state = with_ngrams(decoder.step, decoder.start(asked), memory, asked, 0.5)
    assert step(state, torch.full((2, 1), START))[0].isfinite().all()


def test_similar_images_of_an_ensemble_are_those_of_its_first_model():
    memory, decoder = remembered(images_of(len(CAPTIONS))), Bigrams(0, 3)
    search = PLAIN.override(beam=3, max_length=6, neighbour_ngrams=0.6)
    asked, other = torch.from_numpy(images_of(3, 1)), torch.from_numpy(images_of(3, 2))
    alone, both, swapped = (
        search_together([decoder] * len(features), features, search, neighbours=memory)
        for features in ([asked], [asked, other], [other, asked])
    )
    assert [h.logprob for (h,) in both] == pytest.approx([h.logprob for (h,) in alone], abs=1e-4)
    assert [h.logprob for (h,) in swapped] != pytest.approx([h.logprob for (h,) in alone], abs=1e-2)


def test_they_need_training_images(tmp_path):
    captioner = tiny_captioner()
    with pytest.raises(UserError, match=r"neighbour_ngrams = 0\.5: this model remembers no training images; set it to"):
        captioner.caption([picture()], method="greedy", neighbour_ngrams=0.5)
    with pytest.raises(UserError, match=r"neighbour_ngrams = 1\.0: input should be less than 1"):
        PLAIN.override(neighbour_ngrams=1.0)
    save_model(captioner.model, tmp_path / "source", notes={})
    search = PLAIN.override(method="greedy", neighbour_ngrams=0.5)
    serve_model(tmp_path / "source", tmp_path / "model", search, {})
    with pytest.raises(UserError, match=r"search.neighbour_ngrams needs neighbours.safetensors, and none is named"):
        load_bundle(tmp_path / "model")


def test_an_exported_graph_does_without_them_and_says_so(tmp_path, capfd):
    captioner = tiny_captioner()
    save_model(captioner.model, tmp_path / "source", notes={})
    search, memory = PLAIN.override(neighbour_ngrams=0.5), of_pictures(captioner, ["dog"])
    serve_model(tmp_path / "source", tmp_path / "model", search, {}, neighbours=memory)
    bundle = load_bundle(tmp_path / "model")
    assert bundle.search.uses_images(detects=True) and not PLAIN.uses_images(detects=True)
    assert exportable(bundle).neighbour_ngrams == 0
    assert "its captions are those of `showtell caption --neighbour-ngrams 0`" in capfd.readouterr().err
    with pytest.raises(UserError, match="neighbour_ngrams: exported graphs hold no training images"):
        exportable(bundle, neighbour_ngrams=0.2)
