"""Invalid bundles are refused in one short line before any network is built; permissions of valid ones."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import tiny_captioner

from showtell.core.errors import UserError
from showtell.core.tensor_files import read_header, save_tensors, unusable
from showtell.encoders.detection import WordDetector, Words
from showtell.generation.bundle import load_bundle, save_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    model = tiny_captioner().model
    detector = WordDetector(model.encoder, Words(torch.tensor([4, 5]), torch.zeros(len(model.vocabulary))))
    save_model(replace(model, detector=detector), folder, notes={"cider": 0.5})
    return folder


@pytest.fixture
def bundle(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "bundle"))


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_bundle(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400 + len(str(folder))
    return message


def edit(bundle: Path, *keys: str, value: object) -> None:
    config = json.loads((bundle / "config.json").read_text())
    inner = config
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (bundle / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("value", [10**9, 10**18, 1e9, -1, 0, "many", None, [1], {}, True, "x" * 5000])
@pytest.mark.parametrize("key", ["hidden", "attention", "embedding"])
def test_sizes_of_the_decoder_are_compared_before_it_is_built(bundle, key, value):
    if key == "embedding" and value is None:
        pytest.skip("words that enter one-hot: another network, refused for its sizes elsewhere")
    edit(bundle, "decoder", key, value=value)
    assert key in refusal(bundle) or "size" in refusal(bundle)


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("precision",), "fp128", "precision"),
        (("precision",), 7, "precision"),
        (("transform", "size"), -64, "transform.size"),
        (("transform", "size"), 10**9, "transform.size"),
        (("transform", "fit"), "squash", "transform.fit"),
        (("transform",), [], "transform"),
        (("detector", "words"), 10**12, "detector"),
        (("detector", "words"), -1, "detector.words"),
        (("detector",), None, "detector"),
        (("encoder",), "resnet18", "encoder"),
        (("encoder", "size"), 10**9, "pixels"),
        (("encoder", "name"), 5, "encoder"),
        (("encoder", "name"), "no such network", "no such network"),
        (("encoder", "node"), ["layer3"], "encoder"),
        (("encoder", "node"), "layer2", "size mismatch"),
        (("encoder", "levels"), 5, "encoder"),
        (("encoder", "levels"), ["layer9"], "encoder.levels"),
        (("encoder", "mean"), "grey", "encoder"),
        (("decoder",), None, "decoder"),
        (("decoder", "kind"), "telepathy", "decoder.kind"),
        (("decoder", "wings"), 2, "wings"),
        (("vocabulary",), 3, "vocabulary"),
        (("search",), {"beam": 0}, "search"),
        (("scores",), {"cider": "high"}, "scores.cider"),
        (("wings",), 2, "wings"),
        (("format",), "\x1b[2J" + "9" * 500, "format"),
    ],
)
def test_fields_of_wrong_types_are_named(bundle, keys, value, says):
    edit(bundle, *keys, value=value)
    message = refusal(bundle)
    assert says in message and message.isprintable()


def test_missing_fields_are_named(bundle):
    whole = json.loads((bundle / "config.json").read_text())
    for key in set(whole) - {"notes"}:
        (bundle / "config.json").write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        assert key in refusal(bundle)
    for key in whole["encoder"]:
        encoder = {k: v for k, v in whole["encoder"].items() if k != key}
        (bundle / "config.json").write_text(json.dumps({**whole, "encoder": encoder}))
        assert "encoder" in refusal(bundle)


def changed_weights(bundle: Path, name: str, change) -> None:
    path = bundle / "model.safetensors"
    weights = load_file(path)
    weights[name] = change(weights[name])
    save_file({key: tensor for key, tensor in weights.items() if tensor is not None}, path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["decoder.output.weight", "bn1.running_var", "detector.detect.bias"])
def test_weights_and_statistics_that_are_not_finite_are_refused_by_name(bundle, name, value):
    name = next(
        key for key in load_file(bundle / "model.safetensors") if key.endswith(name.removeprefix("encoder.backbone."))
    )
    changed_weights(bundle, name, lambda tensor: tensor.index_fill(0, torch.tensor([0]), value))
    message = refusal(bundle)
    assert name in message and ("NaN" if value != value else "infinite") in message


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("decoder.output.weight", lambda t: t.to(torch.complex64), "C64"),
        ("decoder.output.weight", lambda t: t.to(torch.int64), "I64"),
        ("decoder.output.weight", lambda t: t[:-1].contiguous(), "size mismatch"),
        ("decoder.output.weight", lambda t: None, "is missing"),
        ("detector.words", lambda t: t.float(), "F32"),
        ("detector.words", lambda t: t + 100, "detector.words"),
        ("detector.words", lambda t: t - 100, "detector.words"),
        ("decoder.output.bias", lambda t: t.to(torch.bool), "BOOL"),
    ],
)
def test_tensors_of_wrong_types_or_shapes_are_refused_by_name(bundle, name, change, says):
    changed_weights(bundle, name, change)
    message = refusal(bundle)
    assert name in message and says in message


def test_tensors_that_belong_to_no_part_are_refused(bundle):
    weights = load_file(bundle / "model.safetensors")
    save_file({**weights, "wings.left": torch.ones(2)}, bundle / "model.safetensors")
    assert "wings.left" in refusal(bundle)


def test_a_changed_byte_of_a_weight_is_noticed(bundle):
    """Its lowest bit alone: another finite number, which no other check could tell."""
    path = bundle / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.unlink()
    path.write_bytes(content)
    assert "model.safetensors is damaged: its tensors are not as they were written; copy it again" in refusal(bundle)


def test_the_same_weights_are_the_same_bytes(tmp_path):
    for number in range(6):  # the order of a hash table: two keys, so half of the writes would differ
        save_tensors(tmp_path / str(number), {"a": torch.ones(2)}, {"belongs_to": "\u4e2d", "more": "x"})
    assert len({(tmp_path / str(number)).read_bytes() for number in range(6)}) == 1
    assert read_header(tmp_path / "0").metadata["belongs_to"] == "\u4e2d"


def test_weights_without_a_checksum_are_weights(bundle):
    """As older versions and other programs write them."""
    path = bundle / "model.safetensors"
    save_file(load_file(path), path)
    assert load_bundle(bundle).model.decoder.output.weight.isfinite().all()


def test_half_precision_weights_are_accepted(bundle):
    path = bundle / "model.safetensors"
    weights = {key: t.half() if t.is_floating_point() else t for key, t in load_file(path).items()}
    save_file(weights, path)
    assert load_bundle(bundle).model.decoder.output.weight.dtype == torch.float32


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({5: torch.ones(2)}, "5"),
        ({"a": torch.eye(3).to_sparse()}, "a is sparse"),
        ({"a": torch.ones(2, device="meta")}, "meta"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "complex"),
        ({"a": [1.0]}, "list"),
        ({"a": torch.tensor([1.0, torch.nan])}, "NaN"),
        ({"a": torch.ones(2), "b": torch.tensor([1, 2]), "c": torch.ones(2).bfloat16()}, ""),
    ],
)
def test_tensors_that_no_network_can_use_are_refused(state, says):
    reason = unusable(state)
    assert says in reason and bool(reason) == bool(says)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_files_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        save_model(tiny_captioner().model, tmp_path / "model", notes={})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o666 & ~mask}
