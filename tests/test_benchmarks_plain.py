"""The plain side of the benchmarks computes the same results as the package."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # the scripts import one another by name

import measure
import plain
import setting

from showtell.core.precision import can_compute
from showtell.generation.decoding import search_captions
from showtell.generation.search_params import PLAIN

SIZES = setting.QUICK
MAPS = replace(SIZES, pixels=128)  # 4 x 4 cells, so that pooling to 14 x 14 mixes some


def plain_gradients(decoder, grid, batch):
    """The loss and gradients that one plain update leaves, at a learning rate of nothing."""
    optimizer = torch.optim.SGD(decoder.parameters(), lr=0.0)
    loss = plain.train_step(decoder, [optimizer], grid, *setting.one_by_one(batch))
    return loss, setting.gradients(decoder)


def test_encoding_gives_the_same_pooled_grid():
    encoder = setting.encoder_of(MAPS)
    pictures = setting.pictures(MAPS, 3)
    with torch.inference_mode():
        ours = setting.pooled(encoder(pictures), 14)
        assert_close(plain.PlainEncoder(encoder, 14)(pictures), ours, rtol=1e-4, atol=1e-4)


def test_update_has_the_same_loss_and_gradients():
    decoder = setting.decoder_of(SIZES)
    batch = setting.captioned(SIZES, setting.grids(SIZES, 3))
    step_by_step = plain.PlainDecoder(decoder)
    grid = setting.pooled(batch.images, 14).repeat_interleave(setting.CAPTIONS, dim=0)
    loss, gradients = plain_gradients(step_by_step, grid, batch)
    updates = setting.Updates(decoder, setting.published("train", precision="fp32"))
    assert loss == pytest.approx(float(updates.gradients(batch)), rel=1e-5)
    assert setting.difference(gradients, setting.gradients(decoder)).worst < 1e-4


def test_repeated_updates_stay_equal():
    decoder = setting.decoder_of(SIZES)
    batch = setting.captioned(SIZES, setting.grids(SIZES, 3))
    step_by_step = plain.PlainDecoder(decoder)
    optimizer = torch.optim.Adam(step_by_step.parameters(), lr=setting.published("train").learning_rate)
    grid = setting.pooled(batch.images, 14).repeat_interleave(setting.CAPTIONS, dim=0)
    updates = setting.Updates(decoder, setting.published("train", precision="fp32"))
    for _ in range(4):
        loss = plain.train_step(step_by_step, [optimizer], grid, *setting.one_by_one(batch))
        assert loss == pytest.approx(float(updates(batch)), rel=1e-4)


def test_fine_tuning_has_the_same_gradients_in_encoder_and_decoder():
    encoder, decoder = setting.without_kinks(setting.encoder_of(MAPS)), setting.decoder_of(SIZES)
    batch = setting.captioned(SIZES, setting.pictures(MAPS, 4))
    images = setting.without_kinks(plain.PlainEncoder(encoder, 14).fine_tune())
    step_by_step = plain.PlainDecoder(decoder)
    grid = images(batch.images.repeat_interleave(setting.CAPTIONS, dim=0))
    plain.caption_loss(*step_by_step(grid, *setting.one_by_one(batch)), alpha_c=1.0).backward()
    encoder.train_from("layer2")
    setting.Updates(decoder, setting.published("finetune", precision="fp32"), encoder).gradients(batch)
    theirs, ours = setting.gradients(step_by_step, images), setting.gradients(decoder, encoder)
    assert setting.difference(theirs, ours).worst < 1e-4
    assert not ours["backbone.layer1.0.conv1.weight"].any()
    assert ours["backbone.layer2.0.conv1.weight"].any()


def test_transformer_s_update_on_real_positions_is_pytorch_s_on_padded_captions():
    script = importlib.import_module("transformer")
    lengths = setting.coco_lengths(3 * setting.CAPTIONS)
    batch = setting.captioned(SIZES, setting.grids(SIZES, 3), lengths)
    model, update = script.plain_update(SIZES, batch)
    updates = script.ours(SIZES, "fp32")
    decoder = updates.network.decoder
    rows = []
    decoder.output.register_forward_hook(lambda module, args, out: rows.append(len(out)))
    assert update() == pytest.approx(float(updates.gradients(batch)), rel=1e-5)
    mine = script.plain.plain_names(setting.gradients(decoder), len(decoder.layers))
    assert setting.difference(setting.gradients(model), mine).worst < 1e-4
    assert rows == [int(batch.mask.sum())] == [sum(lengths) + len(lengths)]  # every word and the end, no padding


def test_lengths_are_coco_s():
    lengths = setting.coco_lengths(10_000)
    assert lengths.mean() == pytest.approx(10.4, abs=0.1) and (lengths.min(), lengths.max()) == (7, 30)
    assert sorted(setting.coco_lengths(80))[-1] == 20


@pytest.mark.parametrize("width", [1, 5])
def test_search_finds_the_same_captions(width):
    decoder = setting.speaks(setting.decoder_of(SIZES), SIZES)
    grids = setting.grids(SIZES, 12).float()
    with torch.inference_mode():
        ours = search_captions(decoder, grids, PLAIN.override(beam=width, max_length=50))
    step_by_step = plain.PlainDecoder(decoder)
    theirs = [plain.beam_search(step_by_step, setting.pooled(g[None], 14), width, 50) for g in grids]
    assert theirs == [best[0].tokens for best in ours]
    assert all(best[0].finished for best in ours)
    assert len({tuple(tokens) for tokens in theirs}) > 6  # captions differ between pictures


def test_search_without_end_tokens_gives_the_best_unfinished_caption():
    decoder = setting.decoder_of(SIZES)
    with torch.no_grad():
        decoder.output.bias[[0, 1, 2, 3]] = -1e4
    grids = setting.grids(SIZES, 2).float()
    with torch.inference_mode():
        ours = search_captions(decoder, grids, PLAIN.override(beam=3, max_length=6))
    theirs = [plain.beam_search(plain.PlainDecoder(decoder), setting.pooled(g[None], 14), 3, 6) for g in grids]
    assert theirs == [best[0].tokens for best in ours]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        *(("decoder_step", 4), ("decoder_epoch", 2), ("finetune_epoch", 2), ("beam_search", 1), ("decoding", 2)),
        ("transformer", 5),
    ],
)
def test_script_compares_both_sides_and_prints_the_result(name, lines, capsys):
    args = measure.arguments(None).parse_args(["--quick", "--rounds", "1", "--json"])
    if not can_compute("bf16") and name not in ("beam_search", "decoding"):
        with pytest.raises(SystemExit, match="of bf16, which this machine lacks"):
            measure.report(importlib.import_module(name).results(args), args)
        return
    measure.report(importlib.import_module(name).results(args), args)
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) == len({result["claim"] for result in results}) == lines
    assert all(result["ratio"] > 0 and result["sizes"] and result["detail"] for result in results)


def test_script_ends_with_one_line_when_its_sides_differ(monkeypatch):
    script = importlib.import_module("decoding")
    monkeypatch.setattr(script, "beam_search", lambda *_: [1, 2, 3])
    args = measure.arguments(None).parse_args(["--quick"])
    with pytest.raises(SystemExit, match="both sides differ: 6 of 6 captions in fp32"):
        list(script.results(args))
