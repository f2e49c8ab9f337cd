"""Changed input words in training: scheduled sampling and word dropout."""

import math

import pytest
import torch
from tiny_networks import WORDS, caption_network
from torch import nn
from training_runs import decoder_of, grid_batch

from showtell.data.vocabulary import UNK
from showtell.learning.caption_task import word_dropout
from showtell.learning.scheduled_sampling import own_word_share, with_own_words


@pytest.mark.parametrize("schedule", ["constant", "linear", "exponential", "inverse_sigmoid"])
def test_the_share_of_sampled_words_rises_to_its_maximum(schedule):
    shares = [own_word_share(epoch, 0.4, 3, schedule, 5) for epoch in range(1, 100)]
    assert shares[:2] == [0, 0] and all(share > 0 for share in shares[2:])
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.4, abs=1e-3)
    first = {
        "constant": 0.4, "linear": 0.4 / 5, "exponential": 0.4 * (1 - math.exp(-0.2)),
        "inverse_sigmoid": 0.4 * (1 - 5 / (5 + math.exp(0.2))),
    }  # fmt: skip
    assert shares[2] == pytest.approx(first[schedule])


def test_word_dropout_replaces_some_inputs_and_never_the_first():
    torch.manual_seed(0)
    inputs = torch.randint(5, WORDS, (20, 2, 9))
    shown = word_dropout(inputs, 0.3)
    hidden = shown != inputs
    assert torch.equal(shown[hidden], torch.full((int(hidden.sum()),), UNK)) and not hidden[..., 0].any()
    assert 0.2 < hidden[..., 1:].float().mean() < 0.4
    assert word_dropout(inputs, 0.0) is inputs


def test_word_dropout_is_applied_in_training():
    batch = grid_batch()
    plain, hiding = caption_network(word_dropout=0.0), caption_network(word_dropout=1.0)
    hidden = batch._replace(inputs=batch.inputs.clone())
    hidden.inputs[..., 1:] = UNK
    torch.testing.assert_close(hiding.loss(batch), plain.loss(hidden))


@pytest.mark.parametrize("kind", ["attention", "pre_inject", "init_inject"])
def test_sampled_words_are_the_decoders_predictions(kind):
    decoder = decoder_of(kind, WORDS)
    for parameter in decoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    batch = grid_batch()
    decoder.train()
    free = with_own_words(decoder, batch.images, batch.inputs, batch.mask, share=1.0)
    assert decoder.training
    decoder.eval()
    said = decoder(batch.images, free, batch.mask).logits.argmax(dim=1)
    next_words = torch.full_like(free, -1)
    next_words[batch.mask] = said
    follow = batch.mask[:, :, 1:]
    assert torch.equal(free[:, :, 1:][follow], next_words[:, :, :-1][follow])
    assert torch.equal(free[:, :, 0], batch.inputs[:, :, 0])
    assert torch.equal(with_own_words(decoder, batch.images, batch.inputs, batch.mask, 0.0), batch.inputs)


def test_scheduled_sampling_follows_the_epoch_and_keeps_the_targets():
    network = caption_network(sampling=1.0, sampling_start=2, sampling_schedule="constant")
    batch = grid_batch()
    plain = caption_network().loss(batch)
    network.begin_epoch(1)
    torch.testing.assert_close(network.loss(batch), plain)
    network.begin_epoch(2)
    sampled = network.loss(batch)
    assert not torch.isclose(sampled, plain)
    sampled.backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
