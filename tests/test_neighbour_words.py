"""Words in an image that captions of similar training images have, and captions that are generated with them."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_captioner import picture, with_detector
from test_neighbours import CAPTIONS, images_of, remembered
from tiny_model import tiny_captioner

from showtell.core.errors import UserError
from showtell.data.transform import load_image
from showtell.data.vocabulary import END, UNK
from showtell.generation.captioner import Captioner
from showtell.generation.choices import Hypothesis
from showtell.generation.image_inputs import as_picture
from showtell.generation.neighbour_words import LEAST, NeighbourWords
from showtell.generation.neighbours import Neighbours, pooled

WORDS = 13  # in the vocabulary; 11 and 12 are in no caption


@given(st.integers(0, 10**6))
def test_a_words_probability_is_its_share_of_the_images_weighted_by_similarity(seed):
    memory, asked = remembered(images_of(len(CAPTIONS), seed)), images_of(3, seed + 1)
    has = np.zeros((len(CAPTIONS), WORDS))
    for image, captions in enumerate(CAPTIONS):
        has[image, [int(word) for caption in captions for word in caption.split()]] = 1
    has[:, END] = 1
    share = (has.sum(axis=0) + 1) / (len(CAPTIONS) + 1)
    words = NeighbourWords(memory, WORDS)
    np.testing.assert_allclose(words.log_share.exp().numpy(), share, rtol=1e-5)
    found = words.log_probabilities(torch.from_numpy(asked))
    assert found.dtype == torch.float32
    for row, image in zip(found.exp().numpy(), asked, strict=True):
        expected = np.clip(memory.weights(image) @ has, LEAST * share, 1)
        np.testing.assert_allclose(row[UNK + 1 :], expected[UNK + 1 :], rtol=1e-4)
        np.testing.assert_allclose(row[: UNK + 1], share[: UNK + 1], rtol=1e-4)  # no words, that images could have
    alone = [words.log_probabilities(torch.from_numpy(asked[i : i + 1])) for i in range(len(asked))]
    assert torch.cat(alone).equal(found)


def test_a_word_of_the_most_similar_images_is_probable_and_grids_are_averaged():
    features = np.eye(6, 5, dtype=np.float32) + np.eye(6, 5, -1, dtype=np.float32)
    words = NeighbourWords(remembered(features), WORDS)
    found = words.log_probabilities(torch.from_numpy(features)).exp()
    assert all(found[image, word] > words.log_share[word].exp() for image, word in ((0, 9), (4, 8), (5, 10)))
    grid = torch.from_numpy(features[:2])[:, None] + torch.tensor([[-1.0], [1.0]])  # (image, cell, channel)
    torch.testing.assert_close(words.log_probabilities(grid).exp(), found[:2])


def pixels_of(captioner: Captioner, images: list[Image.Image]) -> torch.Tensor:
    """Images as the captioner's model takes them."""
    transform = captioner.model.transform
    return torch.from_numpy(np.stack([transform(load_image(as_picture(image))) for image in images]))


def of_pictures(captioner: Captioner, words: list[str], number: int = 6) -> Neighbours:
    """Training images: `number` tiny pictures, of which each has a caption of all `words`."""
    pixels = pixels_of(captioner, [picture(seed) for seed in range(number)])
    tokens = [*map(captioner.model.vocabulary.words.index, words), END]
    ones = np.ones(number, np.int64)
    return Neighbours.of(pooled(captioner.model.encode(pixels)), ones, ones * len(tokens), np.array(tokens * number))


def test_without_a_detector_words_of_training_images_are_preferred():
    plain, images = tiny_captioner(), [picture(seed) for seed in range(6)]
    alone = plain.caption(images, beam=3)
    missing = alone[0].words[0]
    others = [word for word in plain.model.vocabulary.words[UNK + 1 :] if word != missing]
    captioner = Captioner(plain.model, plain.search, neighbours=of_pictures(plain, others))
    assert [c.words for c in captioner.caption(images, beam=3)] == [c.words for c in alone]  # of weight 0
    said = captioner.caption(images, beam=3, detection_weight=10.0)
    assert said and not any(missing in c.words for c in said)
    greedy = captioner.caption(images, method="greedy", detection_weight=10.0)
    assert not any(missing in c.words for c in greedy)
    first = Captioner(plain.model, plain.search, [plain.model], neighbours=of_pictures(plain, others))
    both = first.caption(images, beam=3, detection_weight=10.0)  # half of the weight is enough
    assert not any(missing in c.words for c in both)


def test_a_detector_comes_before_training_images():
    plain, images = tiny_captioner(), [picture(seed) for seed in range(4)]
    missing = plain.caption(images, beam=3)[0].words[0]
    detecting = with_detector(missing)
    memory = of_pictures(plain, [missing])
    beside = Captioner(detecting.model, detecting.search, neighbours=memory)
    weighed, alone = (c.caption(images, beam=3, detection_weight=10.0) for c in (beside, detecting))
    assert [c.words for c in weighed] == [c.words for c in alone]
    assert [c.logprob for c in weighed] == [c.logprob for c in alone]
    without = Captioner(replace(detecting.model, detector=None), detecting.search)
    with pytest.raises(UserError, match="no detector of words was trained with this model"):
        without.caption(images, detection_weight=10.0)


def test_similar_images_of_an_ensemble_are_those_of_its_first_model():
    plain, images = tiny_captioner(), [picture(seed) for seed in range(4)]
    encoder = deepcopy(plain.model.encoder)
    with torch.no_grad():
        for weights in encoder.parameters():
            weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(0)).mul_(0.02))
    both = Captioner(plain.model, plain.search.override(beam=4), [replace(plain.model, encoder=encoder)])
    pixels = pixels_of(plain, images)
    (beam,) = both.n_best(images[:1], 4)  # training images: each picture has one of these
    said = [[*map(plain.model.vocabulary.words.index, c.words), END] for c in beam]
    lengths = np.array(list(map(len, said)))
    memory = Neighbours.of(pooled(plain.model.encode(pixels)), np.ones_like(lengths), lengths, np.concatenate(said))
    both.neighbours = memory
    encoded = both.encode(pixels)
    mine, theirs = map(pooled, encoded.features)
    assert not np.allclose(mine, theirs)
    agreements = []
    without = [{tuple(c.words): c.score for c in of_image} for of_image in both.decode(encoded, 4)]
    for vector, before, after in zip(mine, without, both.decode(encoded, 4, consensus=3.0), strict=True):
        for caption in after:
            tokens = list(map(plain.model.vocabulary.words.index, caption.words))
            h = Hypothesis(tokens, 0.0, 0.0, caption.finished, [])
            agreements.append(memory.agreement(vector, [h])[0])
            assert caption.score == pytest.approx(before[tuple(caption.words)] + 3.0 * agreements[-1], abs=1e-5)
    assert len({round(agreement, 3) for agreement in agreements}) > 4
