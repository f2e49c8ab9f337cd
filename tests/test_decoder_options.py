"""Single parts and settings of decoders: pooling, batch norm, dropout, tied and frozen word vectors."""

import re

import pytest
import torch
from decoder_systems import (
    CELLS,
    CHANNELS,
    PUBLISHED,
    WORDS,
    batch,
    by_formulas,
    decoder_of,
)
from torch.nn import functional

from showtell.core.errors import UserError
from showtell.core.params import validate
from showtell.decoders import DecoderParams, build_decoder
from showtell.decoders.grids import pooling_weights


@pytest.mark.parametrize(("side", "rows"), [(8, 14), (3, 4), (7, 7), (7, 3), (1, 5)])
def test_pooling_weights_are_adaptive_average_pooling(side, rows):
    grid = torch.randn(2, side * side, 5)
    maps = grid.transpose(1, 2).unflatten(2, (side, side))
    expected = functional.adaptive_avg_pool2d(maps, rows).flatten(2).transpose(1, 2)
    weights = pooling_weights(side * side, rows, torch.device("cpu"))
    torch.testing.assert_close(weights @ grid, expected)


def test_pooling_weights_work_after_inference():
    with torch.inference_mode():
        pooling_weights(25, 3, torch.device("cpu"))
    grid = torch.randn(25, 2, requires_grad=True)
    (pooling_weights(25, 3, torch.device("cpu")) @ grid).sum().backward()


def test_batch_norm_of_the_image_is_over_images_however_many_captions_each_has():
    params, decoder = decoder_of("resnet152-lstm")
    features, inputs, mask = batch(params)
    decoder.train()
    decoder.dropout.p = 0.0
    weights = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    logits, _ = by_formulas(params, decoder, features, inputs, mask)
    torch.testing.assert_close(decoder(features, inputs, mask).logits, logits, rtol=1e-4, atol=1e-5)
    projection = features @ weights["project.0.weight"].T + weights["project.0.bias"]
    moved = 0.99 * weights["project.1.running_mean"] + 0.01 * projection.mean(0)
    torch.testing.assert_close(decoder.project[1].running_mean, moved)


def test_batch_norm_accepts_a_last_batch_of_one_image():
    params, decoder = decoder_of("resnet152-lstm")
    features, inputs, mask = batch(params)
    assert decoder.train()(features[:1], inputs[:1], mask[:1]).logits.isfinite().all()


def test_injection_of_a_grid_is_injection_of_its_mean():
    params, decoder = decoder_of("densenet121-lstm")
    _, inputs, mask = batch(params)
    grid = torch.randn(3, CELLS, CHANNELS)
    torch.testing.assert_close(decoder(grid, inputs, mask).logits, decoder(grid.mean(1), inputs, mask).logits)


def test_dropout_is_before_the_vocabulary_layer():
    for name in ("show-attend-tell", "resnet152-lstm", "vgg16-onehot-lstm"):
        params, decoder = decoder_of(name)
        features, inputs, mask = batch(params)
        expected = decoder(features, inputs, mask)
        decoder.dropout.train()
        seen = []
        decoder.output.register_forward_hook(lambda module, args, out, seen=seen: seen.append(args[0]))
        dropped = decoder(features, inputs, mask)
        assert 0.2 < (seen[0] == 0).float().mean() < 0.8
        if expected.attention is not None:  # dropout does not affect the recurrent state
            torch.testing.assert_close(dropped.attention, expected.attention)


def test_tied_word_vectors_are_saved_once_and_get_both_gradients():
    params, decoder = decoder_of("attention, tied")
    state = decoder.state_dict()
    assert len({t.data_ptr() for t in state.values()}) == len(state)
    features, inputs, mask = batch(params)
    decoder(features, inputs, mask).logits.sum().backward()
    unread = next(word for word in range(WORDS) if not (inputs[mask] == word).any())
    assert decoder.embedding.weight.grad[unread].abs().sum() > 0


def test_frozen_word_vectors_do_not_learn():
    params = DecoderParams.model_validate(PUBLISHED | {"train_embeddings": False})
    decoder = build_decoder(params, CHANNELS, WORDS)
    assert not decoder.embedding.weight.requires_grad
    assert decoder.output.weight.requires_grad


def test_attention_without_a_grid_is_refused():
    _, decoder = decoder_of("show-attend-tell")
    with pytest.raises(UserError, match=r"set encoder\.output to grid"):
        decoder.start(torch.randn(2, CHANNELS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kind": "pre_inject"},
            "decoder.kind = 'pre_inject': it does not read attention, attention_kind and needs image_projection; set "
            "for example -S decoder.attention=null -S decoder.attention_kind=null -S decoder.image_projection=linear",
        ),
        ({"memory_slots": 0}, "it does not read memory_slots; set for example -S decoder.memory_slots=null"),
        ({"summary_product": True}, "it multiplies the summary, and decoder.summary is null"),
        ({"heads": 0}, "it does not read heads; set for example -S decoder.heads=null"),
        ({"image_projection": "linear"}, "it does not read image_projection; set for example -S decoder.image_"),
        ({"attention": None}, "it needs attention; set for example -S decoder.attention=512"),
        ({"tied": True}, "decoder.tied = true: needs decoder.embedding = decoder.hidden, not 5 and 7"),
        ({"embedding": None, "embeddings": "glove.txt"}, "decoder.embeddings = 'glove.txt': words that enter one-hot"),
        ({"layers": 0}, "decoder.layers = 0"),
        ({"kind": "rnn"}, "decoder.kind = 'rnn': there is no such decoder; there are attention, "),
        ({"kind": None}, "decoder.kind = null"),
        ({"cells": 3}, "unknown key decoder.cells"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_by_name(change, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        validate("decoder", {"decoder": PUBLISHED | change}, tmp_path / "params.yaml")
