"""The model card of the bundle: valid for the Hub's reader, with the scores of the metrics."""

import re
import shutil

import pytest
from conftest import inside
from test_neighbour_words import of_pictures
from tiny_model import tiny_captioner

from showtell.commands import cli
from showtell.core import paths
from showtell.core.files import read_json, sha256
from showtell.encoders.encoder_params import EncoderParams
from showtell.evaluation import model_card
from showtell.evaluation.model_card import CARD, LANGUAGE, LICENCE, Facts
from showtell.generation.captioner import Captioner
from showtell.generation.search_params import PLAIN


def encoder_of(**changes) -> EncoderParams:
    settings = {"name": "resnet18", "weights": "none", "output": "grid", "node": None, "levels": None, "crop": None}
    return EncoderParams.model_validate(settings | {"precision": "auto"} | changes)


def test_the_hubs_reader_finds_the_scores(pipeline):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (it comes with timm)")
    folder = pipeline / paths.MODEL
    data = hub.ModelCard.load(folder / CARD).data
    assert (data.library_name, data.pipeline_tag, data.language) == ("showtell", "image-to-text", "en")
    assert data.license is None and f"\n{LICENCE}\n" in (folder / CARD).read_text()
    metrics = read_json(pipeline / "metrics/evaluate.json")
    found = {result.metric_name: result.metric_value for result in data.eval_results}
    assert found["CIDEr-D (x100)"] == round(100 * metrics["cider"], 2)
    assert found["BLEU-4 (x100)"] == round(100 * metrics["bleu4"], 2)
    assert {(result.dataset_name, result.dataset_split) for result in data.eval_results} == {("scenes", "test")}
    assert {"bleu", "rouge", "cider"} <= set(data.metrics)


def test_the_card_has_data_intervals_decoding_and_hashes(pipeline):
    folder, card = pipeline / paths.MODEL, (pipeline / paths.MODEL / CARD).read_text()
    for split in paths.SPLITS:
        entries = read_json(pipeline / paths.split_json(split))
        assert f"| {split} | {len(entries)} | {sum(len(entry['references']) for entry in entries)} |" in card
    assert "`scenes` are drawings" in card
    bounds = read_json(pipeline / "metrics/intervals.json")
    low, high = (f"{100 * bounds[f'rouge_l_{end}']:.1f}" for end in ("low", "high"))
    assert re.search(rf"\| ROUGE-L \| [\d.]+ \| {low} to {high} \|", card)
    config = read_json(folder / "config.json")
    assert f"\n    max_length: {config['search']['max_length']}\n" in card and "\nbeam 2;" in card
    assert sha256(folder / "model.safetensors") in card and sha256(folder / "vocab.json") in card
    for name in ("model", "search", "test", "code"):
        assert f"| {name} | `{read_json(pipeline / 'metrics/provenance.json')[name]}` |" in card
    assert "METEOR: not computed" in card


def test_the_commands_of_the_card_caption_a_picture(pipeline, tmp_path, capsys):
    """Run on a copy of the folder, without links, as if downloaded."""
    shutil.copytree(pipeline / paths.MODEL, tmp_path / "model")
    shutil.copy(next((pipeline / "data/attention").glob("image-*.png")), tmp_path / "photo.jpg")
    card = (tmp_path / "model" / CARD).read_text()
    (command,) = re.findall(r"^    showtell (.+)$", card, re.M)
    (code,) = re.findall(r"```python\n(.+?)```", card, re.S)
    with inside(tmp_path):
        with pytest.raises(SystemExit) as end:
            cli.main(command.split())
        assert end.value.code == 0
        said = capsys.readouterr().out
        exec(code, {})
    assert capsys.readouterr().out.strip() in said


def test_the_language_of_custom_captions_is_left_to_the_user():
    class Test:
        metrics = {"cider": 0.5}  # noqa: RUF012

    facts = Facts(encoder_of(), [], [], Test(), {}, None, {"dataset": "custom"})
    assert f"{LICENCE}\n{LANGUAGE}\n" in model_card.front_matter(facts)
    assert "language: en" not in model_card.front_matter(facts)


@pytest.mark.parametrize(
    ("settings", "says"),
    [({}, "random"), ({"weights": "scenes"}, "come with the package"), ({"weights": "DEFAULT"}, "as torchvision"),
     ({"name": "timm/vit", "weights": "DEFAULT"}, "as timm"), ({"weights": "/home/me/net.pth"}, "the file `net.pth`")],
)  # fmt: skip
def test_the_source_of_the_weights_has_no_folders(settings, says):
    told = model_card.weights_source(encoder_of(**settings))
    assert says in told and "/home" not in told


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, None),
        ({"consensus": 1.0}, "Captions are compared with those of similar training images"),
        ({"neighbour_ngrams": 0.5}, "Captions are written with words of those of similar training images"),
        ({"neighbour_bonus": 2.0}, "Captions are written with words of those of similar training images"),
        ({"detection_weight": 0.5, "consensus": 1.0}, "written with words of and compared with those of similar"),
    ],
)
def test_the_card_says_what_similar_training_images_do(settings, says):
    captioner = tiny_captioner()
    search, memory = PLAIN.override(**settings), of_pictures(captioner, ["dog"])
    told = model_card.decoding({"search": search.model_dump()}, Captioner(captioner.model, search, neighbours=memory))
    assert (says or "beam 5; what is served") in told
    assert ("`neighbours.safetensors` holds the captions of 6 of them" in told) == bool(says)


def test_the_card_leaves_out_settings_that_its_method_does_not_read():
    captioner = tiny_captioner()
    for search, shown in (
        (PLAIN.override(consensus=2.0, neighbour_bonus=3.0), "consensus: 2.0 neighbour_bonus: 3.0"),
        (PLAIN.override(method="greedy", consensus=2.0, neighbour_bonus=3.0), "neighbour_bonus: 3.0"),
        (PLAIN.override(method="sample", consensus=2.0, neighbour_bonus=3.0), ""),
    ):
        memory = of_pictures(captioner, ["dog"])
        own = Captioner(captioner.model, search, neighbours=memory)
        told = model_card.decoding({"search": search.model_dump()}, own)
        lines = [line.strip() for line in told.splitlines()]
        assert " ".join(line for line in lines if line.startswith(("consensus", "neighbour_bonus"))) == shown
