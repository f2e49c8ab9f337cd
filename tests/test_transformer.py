"""The transformer's cache, heads and settings; the properties of all decoders are tested in test_decoders.py."""

import re
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
import yaml
from conftest import ROOT, run_stage, write_params
from decoder_systems import SYSTEMS, TRANSFORMER, WORDS, batch, decoder_of, unread
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import tiny_captioner
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.core.params import validate
from showtell.data.vocabulary import END, START
from showtell.decoders import DecoderParams, build_decoder
from showtell.decoders.positions import LONGEST, LearnedPositions, SinusoidalPositions
from showtell.generation.captioner import Captioner
from showtell.generation.decoding import search_captions
from showtell.generation.rules import rules_of
from showtell.generation.search import generate
from showtell.generation.search_params import PLAIN

KINDS = [name for name in SYSTEMS if name.startswith("transformer")]


class Said(NamedTuple):
    """A search state with the words only."""

    features: Tensor
    words: Tensor  # (image, beam, step)

    def select(self, beams: Tensor) -> "Said":
        return self._replace(words=self.words.gather(1, beams.unsqueeze(2).expand(-1, -1, self.words.shape[2])))

    def keep_images(self, images: Tensor) -> "Said":
        return Said(self.features[images], self.words[images])


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("name", KINDS)
def test_cached_search_equals_search_over_whole_prefixes(name, width):
    params, decoder = decoder_of(name)
    features, _, _ = batch(params)

    def read_again(state: Said, tokens: Tensor) -> tuple[Tensor, Said]:
        words = torch.cat([state.words, tokens.unsqueeze(2)], dim=2)
        logits = decoder(state.features, words, torch.ones(words.shape, dtype=torch.bool)).logits
        return logits.unflatten(0, words.shape)[:, :, -1], state._replace(words=words)

    start, nothing = torch.full((3,), START), Said(features, torch.zeros(3, 1, 0, dtype=torch.long))
    # No end and no repeated word, so that all nine steps matter.
    search = PLAIN.override(beam=width, max_length=9, block_ngrams=1)
    rest = start, END, search, rules_of(search, END, (END,)), width
    expected = generate(read_again, nothing, *rest)
    found = generate(decoder.steps(), decoder.start(features), *rest)
    assert [[h.tokens for h in image] for image in found] == [[h.tokens for h in image] for image in expected]
    assert all(len(set(image[0].tokens)) == 9 for image in found)
    for ours, theirs in zip(found, expected, strict=True):
        assert [h.logprob for h in ours] == pytest.approx([h.logprob for h in theirs], abs=1e-4)


def test_a_step_computes_the_new_words_alone():
    _, decoder = decoder_of(KINDS[0])
    features, _, _ = batch(decoder_of(KINDS[0])[0])
    rows = []
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, args, out: rows.append(out.flatten(0, -2).shape[0]))
    state, counts = decoder.start(features).repeat(2), []
    for _ in range(5):
        rows.clear()
        _, state = decoder.step(state, torch.full((3, 2), START))
        counts.append(set(rows))
    assert counts == [{6}] * 5  # 3 images x 2 beams


@pytest.mark.parametrize("name", KINDS)
def test_captions_of_an_image_together_equal_single_captions(name):
    params, decoder = decoder_of(name)
    features, inputs, mask = batch(params)
    together = decoder(features, inputs, mask)
    for caption in range(3):
        one = slice(caption, caption + 1)
        alone = decoder(features, inputs[:, one], mask[:, one])
        which = torch.zeros_like(mask)
        which[:, one] = mask[:, one]
        torch.testing.assert_close(together.logits[which[mask]], alone.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.attention[which], alone.attention[mask[:, one]], rtol=1e-4, atol=1e-5)


def test_an_image_s_captions_share_its_keys():
    params, decoder = decoder_of("transformer over 2 layers of grid")
    features, inputs, mask = batch(params)
    rows = []
    decoder.layers[0].grid_key_value.register_forward_hook(lambda module, args, out: rows.append(out.shape[:2]))
    decoder(features, inputs, mask)
    search_captions(decoder, features, PLAIN.override(beam=3, max_length=5))
    assert rows == [features.shape[:2]] * 2  # once an image, in training and in a whole search


def test_attention_is_the_mean_of_the_last_layer_s_heads():
    params, decoder = decoder_of("transformer, 2 layers, learned positions")
    features, inputs, mask = batch(params)
    heads = [decoder.attend(features, inputs, mask, head) for head in range(decoder.heads)]
    attention = decoder(features, inputs, mask).attention
    assert len(heads) == 2 and (heads[0] - heads[1])[mask].abs().max() > 0.01
    for head in heads:
        torch.testing.assert_close(head.sum(-1)[mask], torch.ones(int(mask.sum())))
    torch.testing.assert_close((heads[0] + heads[1]) / 2, attention)
    torch.testing.assert_close(decoder.attend(features, inputs, mask), attention)


def test_one_head_can_be_shown():
    params, model = DecoderParams.model_validate(TRANSFORMER), tiny_captioner().model
    torch.manual_seed(0)
    decoder = build_decoder(params, model.encoder.channels, len(model.vocabulary)).eval()
    other = Captioner(replace(model, decoder=decoder, params=params))
    picture = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)]
    (mean,) = other.caption(picture, beam=1, max_length=4)
    shown = []
    for head in range(2):
        other.show_head(head)
        shown.append(other.caption(picture, beam=1, max_length=4)[0].attention)
    assert not (shown[0] == shown[1]).all()
    torch.testing.assert_close(torch.from_numpy(shown[0] + shown[1]) / 2, torch.from_numpy(mean.attention))
    with pytest.raises(UserError, match="attention head 2: this model has 2, counted from 0"):
        other.show_head(2)


def test_norms_biases_and_embeddings_do_not_decay():
    for name in KINDS:
        _, decoder = decoder_of(name)
        kept = {id(parameter) for parameter in decoder.without_decay()}
        for parent, module in decoder.named_modules():
            for key, parameter in module.named_parameters(recurse=False):
                looked_up = isinstance(module, nn.Embedding | nn.LayerNorm) or key == "memory"
                assert (id(parameter) in kept) == (looked_up or key == "bias"), f"{parent}.{key}"


@given(st.integers(1, 33))
def test_sinusoidal_positions_are_distinct(hidden):
    vectors = SinusoidalPositions(hidden)(torch.arange(40))
    assert vectors.shape == (40, hidden)
    apart = (vectors[:, None] - vectors).norm(dim=2) + torch.eye(40)
    assert apart.min() > 1e-3 or hidden == 1  # a single sine is periodic


def test_captions_longer_than_in_training_are_no_error():
    positions = LearnedPositions(4)
    torch.testing.assert_close(positions(torch.tensor(LONGEST + 5)), positions(torch.tensor(LONGEST - 1)))


def test_dropout_is_off_while_generating_and_on_while_learning():
    params, decoder = decoder_of(KINDS[-1])
    features, inputs, mask = batch(params)
    torch.testing.assert_close(decoder(features, inputs, mask).logits, decoder(features, inputs, mask).logits)
    decoder.train()
    torch.manual_seed(0)
    assert not torch.allclose(decoder(features, inputs, mask).logits, decoder(features, inputs, mask).logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 4}, "decoder.heads = 4: must divide decoder.hidden = 6"),
        ({"memory_slots": 3}, "decoder.memory_slots = 3: memory slots are in layers over the grid"),
        ({"positions": "none"}, "decoder.positions = 'none'"),
        ({"cell": "lstm"}, "decoder.kind = 'transformer': it does not read cell; set for example -S decoder.cell=null"),
        ({"heads": None}, "decoder.kind = 'transformer': it needs heads; set for example -S decoder.heads=8"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_by_name(change, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        validate("decoder", {"decoder": TRANSFORMER | change}, tmp_path / "params.yaml")


def test_the_message_names_the_params_to_change(tmp_path):
    decoder = yaml.safe_load((ROOT / "params.yaml").read_text())["decoder"] | {"kind": "transformer"}
    with pytest.raises(UserError) as refused:
        validate("decoder", {"decoder": decoder}, tmp_path / "params.yaml")
    said = re.findall(r"-S decoder\.(\w+)=(\S+)", str(refused.value))
    params = DecoderParams.model_validate(decoder | {key: yaml.safe_load(value) for key, value in said})
    assert build_decoder(params, 8, WORDS).without_decay()


def test_one_hot_words_have_vectors_whatever_their_number():
    params = DecoderParams.model_validate({**TRANSFORMER, "embedding": None, "tied": False, "hidden": 16, "heads": 2})
    for words in (15, 16, 17):
        assert build_decoder(params, channels=3, words=words).word_input.weight.shape == (16, words)


def test_pooled_features_are_refused():
    _, decoder = decoder_of(KINDS[0])
    with pytest.raises(UserError, match=r"transformer needs a grid; set encoder\.output to grid"):
        decoder.start(torch.randn(2, 6))


def test_all_stages_with_sampling_penalty_and_fine_tuning(pipeline, copy_pipeline):
    """Scheduled sampling, the attention penalty, and an encoder whose grid gets gradients."""
    folder = copy_pipeline("data")
    keys = TRANSFORMER | {"embedding": 8, "hidden": 8, "grid_layers": 1, "memory_slots": 2, "normalise_grid": True}
    sampling = {"sampling": 0.3, "sampling_start": 1, "sampling_schedule": "constant"}
    short = {"images_per_update": 8, "epochs": 1}
    learning = sampling | {"alpha_c": 0.5, "warmup_updates": 0}
    write_params(folder, decoder=keys | unread("transformer"), learning=learning, train=short, finetune=short)
    for stage in ("train", "finetune", "reinforce", "evaluate"):
        run_stage(stage, folder)
    assert (folder / "data" / "attention" / "sheet.png").is_file()
    config = yaml.safe_load((folder / "data" / "models" / "finetune" / "config.json").read_text())
    assert config["decoder"]["memory_slots"] == 2 and "cell" not in config["decoder"]
