"""Every decoder against a plain transcription of its published formulas, and against itself in other ways of use."""

import re

import pytest
import torch
from decoder_formulas import attend_and_tell, projected, show_and_tell, transform_and_tell
from torch.nn import functional

from showtell.core.errors import UserError
from showtell.core.params import validate
from showtell.core.precision import can_compute
from showtell.decoders import DECODERS, Decoder, DecoderParams, build_decoder
from showtell.decoders.grids import pooling_weights

WORDS, CHANNELS, CELLS = 11, 6, 9
BY_FORMULAS = {"attention": attend_and_tell, "transformer": transform_and_tell}  # those that look at a grid
# Three images with up to three captions, lengths in no order; 0: an image has fewer captions than another.
LENGTHS = torch.tensor([[3, 5, 1], [6, 2, 0], [4, 4, 4]])

PUBLISHED = {
    "kind": "attention", "cell": "lstm", "layers": 1, "embedding": 5, "embeddings": None, "train_embeddings": True,
    "hidden": 7, "tied": False, "dropout": 0.5, "attention": 4, "attention_kind": "soft", "hard_reward": None,
    "hard_entropy": None, "grid": None, "normalise_grid": False, "initial_tanh": False,
    "context_output": False, "image_projection": None,
}  # fmt: skip
INJECTION = PUBLISHED | {
    "kind": "pre_inject", "attention": None, "attention_kind": None, "image_projection": "batch_norm",
}  # fmt: skip
TRANSFORMER = {
    "kind": "transformer", "layers": 1, "embedding": 6, "embeddings": None, "train_embeddings": True, "hidden": 6,
    "tied": False, "dropout": 0.5, "heads": 2, "feed_forward": 9, "positions": "sinusoidal", "grid_layers": 0,
    "memory_slots": 0, "normalise_grid": False,
}  # fmt: skip
SYSTEMS = {
    "show-attend-tell": PUBLISHED,
    "showtell": PUBLISHED | {"normalise_grid": True, "initial_tanh": True, "context_output": True},
    "attention over a pooled grid": PUBLISHED | {"grid": 4, "initial_tanh": True},
    "attention, 2-layer GRU": PUBLISHED | {"cell": "gru", "layers": 2, "context_output": True},
    "attention, 3-layer LSTM": PUBLISHED | {"layers": 3},
    "attention, one-hot, GRU": PUBLISHED | {"embedding": None, "cell": "gru"},
    "attention, tied": PUBLISHED | {"embedding": 7, "tied": True},
    "resnet152-lstm": INJECTION,
    "resnet152-lstm, 2-layer GRU": INJECTION | {"cell": "gru", "layers": 2},
    "vgg16-onehot-lstm": INJECTION | {"kind": "init_inject", "embedding": None, "image_projection": "linear"},
    "init-inject, 2-layer GRU": INJECTION
    | {"kind": "init_inject", "layers": 2, "cell": "gru", "initial_tanh": True, "image_projection": "linear"},
    "densenet121-lstm": INJECTION | {"image_projection": "prelu"},
    "transformer": TRANSFORMER,
    "transformer, 2 layers, learned positions": TRANSFORMER | {"layers": 2, "positions": "learned", "embedding": 5},
    "transformer over 2 layers of grid": TRANSFORMER | {"grid_layers": 2, "normalise_grid": True, "heads": 3},
    "transformer with memory slots, tied": TRANSFORMER | {"grid_layers": 1, "memory_slots": 4, "tied": True},
    "pre-inject, tied": INJECTION | {"embedding": 7, "tied": True, "image_projection": "linear"},
}


def decoder_of(name: str) -> tuple[DecoderParams, Decoder]:
    """The system with random weights, dropout off; statistics that are not those of a fresh batch norm."""
    params = DecoderParams.model_validate(SYSTEMS[name])
    torch.manual_seed(3)
    decoder = build_decoder(params, CHANNELS, WORDS).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    for name, buffer in decoder.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return params, decoder


def batch(params: DecoderParams) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, inputs and mask."""
    torch.manual_seed(4)
    shape = (3, CELLS, CHANNELS) if params.kind in BY_FORMULAS else (3, CHANNELS)
    mask = torch.arange(6) < LENGTHS[..., None]
    return torch.randn(shape), torch.randint(0, WORDS, (3, 3, 6)) * mask, mask


def by_formulas(params, decoder, features, inputs, mask):
    """Logits (real position, word) and, of decoders that look, maps (real position, cell), caption by caption."""
    weights = dict(decoder.state_dict(keep_vars=True))
    if params.kind == "attention" and params.grid is not None:
        rows = features.shape[1]
        side = round(rows**0.5)
        maps = features.transpose(1, 2).unflatten(2, (side, side))
        features = functional.adaptive_avg_pool2d(maps, params.grid).flatten(2).transpose(1, 2)
    elif params.kind not in BY_FORMULAS:
        features = projected(params, weights, features, decoder.training)
    logits, maps = [], []
    for image in range(len(inputs)):
        for caption in range(inputs.shape[1]):
            tokens = inputs[image, caption][mask[image, caption]].tolist()
            if not tokens:
                continue
            if params.kind in BY_FORMULAS:
                found, alpha = BY_FORMULAS[params.kind](params, weights, features[image], tokens)
                maps.append(alpha)
            else:
                found = show_and_tell(params, weights, features[image], tokens)
            logits.append(found)
    return torch.cat(logits), torch.cat(maps) if maps else None


def gradients(decoder: Decoder, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    decoder.zero_grad()
    torch.manual_seed(5)
    (logits * torch.randn(logits.shape)).sum().backward()
    return {name: p.grad.clone() for name, p in decoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", SYSTEMS)
def test_formulas_give_the_same_logits_attention_and_gradients(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    decoded = decoder(features, inputs, mask)
    logits, maps = by_formulas(params, decoder, features, inputs, mask)
    torch.testing.assert_close(decoded.logits, logits, rtol=1e-4, atol=1e-5)
    if maps is not None:
        torch.testing.assert_close(decoded.attention[mask], maps, rtol=1e-4, atol=1e-6)
    ours, theirs = gradients(decoder, decoded.logits), gradients(decoder, logits)
    assert ours.keys() == theirs.keys() == {
        n for n, p in decoder.named_parameters() if p.requires_grad
    }
    for key, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[key], rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", SYSTEMS)
def test_forward_is_step_by_step(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    state, next_step = decoder.start(features).repeat(3), decoder.steps()
    logits = []
    for step in range(6):
        row, state = (next_step if step % 2 else decoder.step)(state, inputs[:, :, step])
        logits.append(row)
    stepped = torch.stack(logits, dim=2)[mask]
    torch.testing.assert_close(decoder(features, inputs, mask).logits, stepped, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_steps_are_step_by_step_and_follows_weights_that_change(name):
    params, decoder = decoder_of(name)
    features, inputs, _ = batch(params)
    for _ in range(2):
        state, step = decoder.start(features), decoder.steps()
        for tokens in inputs[:, :1, :2].unbind(2):
            prepared, after = step(state, tokens)
            torch.testing.assert_close(prepared, decoder.step(state, tokens)[0], rtol=0, atol=0)
            state = after
        with torch.no_grad():
            for weight in decoder.parameters():
                weight.mul_(1.5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_state_belongs_to_images_and_beams_not_to_weights(name):
    params, decoder = decoder_of(name)
    one, three = (decoder.start(batch(params)[0][:count]) for count in (1, 3))
    for few, many in zip(one.image + one.beam, three.image + three.beam, strict=True):
        assert many.numel() == 3 * few.numel()


@pytest.mark.parametrize("name", SYSTEMS)
def test_attention_without_words_is_that_of_teacher_forcing(name, monkeypatch):
    params, decoder = decoder_of(name)
    whole = decoder(*batch(params)).attention
    monkeypatch.setattr(decoder.output, "forward", lambda *_: pytest.fail("the vocabulary layer was computed"))
    alone = decoder.attend(*batch(params))
    assert (alone is None) == (whole is None)
    if whole is not None:
        torch.testing.assert_close(alone, whole, rtol=0, atol=0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_padding_has_no_influence(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    noise = torch.where(mask, inputs, torch.randint(0, WORDS, inputs.shape))
    wider = functional.pad(noise, (0, 2, 0, 1), value=3), functional.pad(mask, (0, 2, 0, 1))
    expected = decoder(features, inputs, mask).logits
    torch.testing.assert_close(decoder(features, noise, mask).logits, expected)
    torch.testing.assert_close(decoder(features, *wider).logits, expected)


@pytest.mark.parametrize("name", SYSTEMS)
def test_batch_is_one_by_one(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    alone = [decoder(features[i : i + 1], inputs[i : i + 1], mask[i : i + 1]).logits for i in range(3)]
    torch.testing.assert_close(decoder(features, inputs, mask).logits, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_state_follows_beams_and_images(name):
    params, decoder = decoder_of(name)
    features, _, _ = batch(params)
    logits, _ = decoder.step(decoder.start(features), torch.tensor([[1], [1], [1]]))
    state = decoder.start(features).select(torch.zeros(3, 2, dtype=torch.long)).keep_images(torch.tensor([2, 0]))
    again, state = decoder.step(state, torch.tensor([[1, 4], [4, 1]]))
    torch.testing.assert_close(again[0, 0], logits[2, 0])
    torch.testing.assert_close(again[1, 1], logits[0, 0])
    swapped = state.select(torch.tensor([[1, 0], [1, 0]]))
    forth, _ = decoder.step(state, torch.tensor([[2, 3], [2, 3]]))
    back, _ = decoder.step(swapped, torch.tensor([[3, 2], [3, 2]]))
    torch.testing.assert_close(forth.flip(1), back)


@pytest.mark.parametrize("name", SYSTEMS)
def test_state_belongs_to_images_and_holds_no_weights(name):
    params, decoder = decoder_of(name)
    features, _, _ = batch(params)
    _, state = decoder.step(decoder.start(features), torch.ones(3, 1, dtype=torch.long))
    weights = {p.data_ptr() for p in decoder.parameters()}
    for tensor in (*state.image, *state.beam):
        assert len(tensor) == len(features) and tensor.data_ptr() not in weights


@pytest.mark.skipif(not can_compute("bf16"), reason="this machine has no bf16 arithmetic")
@pytest.mark.parametrize("name", SYSTEMS)
def test_bf16_is_near(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = decoder(features, inputs, mask).logits.float()
    expected = decoder(features, inputs, mask).logits
    assert (rounded - expected).abs().max() < 0.15 * expected.abs().max()


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


def test_a_last_batch_of_one_image_is_no_problem():
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
        if expected.attention is not None:  # what the network remembers is not touched
            torch.testing.assert_close(dropped.attention, expected.attention)


def test_tied_words_are_saved_once_and_learn_from_both_ends():
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


def test_every_kind_is_tested():
    assert {values["kind"] for values in SYSTEMS.values()} == set(DECODERS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kind": "pre_inject"},
            "decoder.kind = 'pre_inject': it does not read attention, attention_kind and needs image_projection; set "
            "for example -S decoder.attention=null -S decoder.attention_kind=null -S decoder.image_projection=linear",
        ),
        ({"memory_slots": 0}, "it does not read memory_slots; set for example -S decoder.memory_slots=null"),
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
