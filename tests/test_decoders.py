"""Properties of every decoder: equal to its published formulas, step by step, alone and in batches."""

import pytest
import torch
from decoder_systems import (
    SYSTEMS,
    WORDS,
    batch,
    by_formulas,
    decoder_of,
    gradients,
)
from torch.nn import functional

from showtell.core.precision import can_compute
from showtell.decoders import DECODERS, Decoder


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
def test_forward_equals_single_steps(name):
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
def test_steps_equals_step_and_follows_changed_weights(name):
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
def test_attend_equals_the_attention_of_forward(name, monkeypatch):
    params, decoder = decoder_of(name)
    whole = decoder(*batch(params)).attention
    if type(decoder).attend is not Decoder.attend:  # else it calls `forward`
        monkeypatch.setattr(decoder.output, "forward", lambda *_: pytest.fail("the vocabulary layer was computed"))
    alone = decoder.attend(*batch(params))
    assert (alone is None) == (whole is None) == (not decoder.attends)
    if whole is not None:
        torch.testing.assert_close(alone, whole, rtol=0, atol=0)


@pytest.mark.parametrize("name", SYSTEMS)
def test_padding_has_no_effect(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    noise = torch.where(mask, inputs, torch.randint(0, WORDS, inputs.shape))
    wider = functional.pad(noise, (0, 2, 0, 1), value=3), functional.pad(mask, (0, 2, 0, 1))
    expected = decoder(features, inputs, mask).logits
    torch.testing.assert_close(decoder(features, noise, mask).logits, expected)
    torch.testing.assert_close(decoder(features, *wider).logits, expected)


@pytest.mark.parametrize("name", SYSTEMS)
def test_batches_equal_single_images(name):
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
def test_bf16_is_close_to_fp32(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = decoder(features, inputs, mask).logits.float()
    expected = decoder(features, inputs, mask).logits
    assert (rounded - expected).abs().max() < 0.15 * expected.abs().max()


def test_every_kind_is_tested():
    assert {values["kind"] for values in SYSTEMS.values()} == set(DECODERS)
