"""The how-tos of CONTRIBUTING.md work as written: its decoder goes through the pipeline, its rule has its effect."""

import importlib.util
import json
import math
import re
from itertools import pairwise

import pytest
import torch
import yaml
from conftest import ROOT, run_stage, write_params
from decoder_systems import unread
from PIL import Image
from test_search import END, START, Table, random_logits, step

from showtell.commands import cli
from showtell.core.errors import UserError
from showtell.core.params import validate
from showtell.decoders import DECODERS, DecoderParams, build_decoder
from showtell.generation import choices
from showtell.generation.rules import Rule, rules_of
from showtell.generation.search import generate
from showtell.generation.search_params import PLAIN

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def code_of(section: str) -> str:
    """The Python of a section of the guide."""
    text = GUIDE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


@pytest.fixture
def bigram(tmp_path, monkeypatch):
    """The guide's decoder as the file and the entry that it asks for."""
    file = tmp_path / "bigram.py"
    file.write_text(code_of("How to add a decoder"))
    spec = importlib.util.spec_from_file_location("showtell.decoders.bigram", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(DECODERS, "bigram", module.BigramDecoder)
    return module


def test_a_decoder_is_a_file_of_some_40_lines_and_an_entry(bigram, pipeline, copy_pipeline):
    assert len(code_of("How to add a decoder").splitlines()) < 60
    folder = copy_pipeline("data")
    keys = {"kind": "bigram", "slope": 0.1, "embedding": 8, "hidden": 8}
    write_params(folder, decoder=keys | unread("bigram"))
    for stage in ("train", "finetune", "reinforce", "evaluate"):
        run_stage(stage, folder)
    config = json.loads((folder / "data" / "models" / "finetune" / "config.json").read_text())
    assert config["decoder"]["kind"] == "bigram" and "cell" not in config["decoder"]
    metrics = json.loads((folder / "metrics" / "evaluate.json").read_text())
    assert math.isfinite(metrics["cider"]) and metrics["pointing"] is None
    picture = folder / "picture.png"
    Image.new("RGB", (64, 48), "red").save(picture)
    command = ["caption", str(picture), "--model", str(folder / "data" / "model"), "--attention"]
    with pytest.raises(UserError, match="there is nothing to draw"):
        cli.dispatch([*command, str(folder / "out.png")])


def test_a_new_kind_names_the_missing_params(bigram, tmp_path):
    decoder = yaml.safe_load((ROOT / "params.yaml").read_text())["decoder"]
    with pytest.raises(UserError) as refused:
        validate("decoder", {"decoder": decoder | {"kind": "bigram"}}, tmp_path / "params.yaml")
    assert "\n" not in str(refused.value)
    said = dict(re.findall(r"-S (\S+)=(\S+)", str(refused.value)))
    assert said.pop("+decoder.slope") == "0.1"  # params.yaml has no such key yet
    unset = {key.removeprefix("decoder."): yaml.safe_load(value) for key, value in said.items()}
    assert set(unset.values()) == {None} and "cell" in unset
    params = DecoderParams.model_validate(decoder | unset | {"kind": "bigram", "slope": 0.1})
    assert isinstance(params, bigram.BigramParams)
    assert isinstance(build_decoder(params, 6, 11), bigram.BigramDecoder)


def no_echo() -> Rule:
    """The guide's rule."""
    code = re.sub(r"^   ", "", code_of("How to add a rule of generation"), flags=re.MULTILINE)
    names = {"Rule": Rule, "Tensor": torch.Tensor, "torch": torch}
    exec(code, names)
    return names["NoEcho"]()


def test_the_guide_s_rule_forbids_echoes():
    logits = random_logits(3, images=4)
    logits[..., 2] += 3  # the most probable word of every beam
    plain = PLAIN.override(beam=3, max_length=8)
    for rules, echoes in ((rules_of(plain, END), True), ([*rules_of(plain, END), no_echo()], False)):
        found = generate(step, Table.of(logits), torch.full((4,), START), END, plain, rules)
        assert any(a == b for image in found for h in image for a, b in pairwise(h.tokens)) == echoes


class Loud(Rule):
    """Makes word 2 certain, in place."""

    def __call__(self, scores, tokens):
        scores[..., 2] = 100.0
        return scores


def test_sampling_rules_see_the_tokens_and_leave_log_probabilities_alone(monkeypatch):
    logits = random_logits(3, images=4)
    sampled, start = PLAIN.override(method="sample", max_length=8), torch.full((4,), START)
    for rules, echoes in (([Loud()], True), ([Loud(), no_echo()], False)):
        monkeypatch.setattr(choices, "sampling_rules", lambda _, rules=rules: rules)
        found = generate(step, Table.of(logits), start, END, sampled, rules_of(sampled, END), n_best=2)
        drawn = [h for image in found for h in image]
        assert any(a == b for h in drawn for a, b in pairwise(h.tokens)) == echoes
        assert all(2 in h.tokens and h.logprob < -0.1 for h in drawn)  # the model gives that word less than 1
