"""Served captions equal scored ones: without options, all interfaces give the captions of `evaluate`."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from conftest import run_stage, write_params
from PIL import Image
from tiny_model import tiny_captioner

from showtell import Captioner
from showtell.commands import cli, demo
from showtell.core.errors import UserError
from showtell.core.files import link
from showtell.data.store import RowReader
from showtell.generation.bundle import load_model, save_model
from showtell.generation.search_params import PLAIN


@pytest.fixture(scope="module")
def photographs(pipeline, tmp_path_factory) -> dict[str, str]:
    """Test pictures as files, and their captions by `evaluate`."""
    folder = tmp_path_factory.mktemp("photographs")
    said = {str(entry["image_id"]): entry["caption"] for entry in json.loads(hypotheses(pipeline).read_text())}
    images = RowReader(pipeline / "data/images/test.h5", "images")
    for pixels, image_id in zip(images.rows(range(len(images))), images.ids, strict=True):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{image_id}.png")
    return {str(folder / f"{image_id}.png"): said[image_id] for image_id in images.ids}


def hypotheses(folder: Path) -> Path:
    return folder / "data/hypotheses/test.json"


def test_evaluate_python_command_line_and_demo_give_the_same_captions(pipeline, photographs, capsys, monkeypatch):
    expected = list(photographs.values())
    captioner = Captioner.load(pipeline / "data/model")
    assert [caption.text for caption in captioner.caption(photographs)] == expected
    asked = demo.asked(captioner.search, demo.first_values(captioner.search))
    html = [demo.describe(captioner, path, *asked) for path in photographs]
    assert [unescape(re.search(r"<td>(.*?)</td>", page)[1]) for page in html] == expected
    monkeypatch.chdir(pipeline)
    assert cli.dispatch(["caption", *photographs, "--json"]) == 0  # by default data/model
    assert [json.loads(line)["caption"] for line in capsys.readouterr().out.splitlines()] == expected


def test_without_its_settings_the_model_gives_other_captions(pipeline, photographs):
    """Otherwise the test above could not fail."""
    plain = Captioner.load(pipeline / "data/models/reinforce")
    assert plain.search == PLAIN
    assert [caption.text for caption in plain.caption(photographs)] != list(photographs.values())


def test_single_settings_replace_those_of_the_model(pipeline, photographs, capsys):
    captioner = Captioner.load(pipeline / "data/model")
    path = next(iter(photographs))
    changed = captioner.caption([path], beam=1, block_ngrams=0)[0].text
    assert captioner.search == Captioner.load(pipeline / "data/model").search, "they hold for one call"
    whole = {**captioner.search.model_dump(), "beam": 1, "block_ngrams": 0}
    alike = Captioner(captioner.model, neighbours=captioner.neighbours)
    assert alike.caption([path], **whole)[0].text == changed
    model = str(pipeline / "data/model")
    cli.dispatch(["caption", path, "--model", model, "--beam", "1", "--block-ngrams", "0", "--json"])
    assert json.loads(capsys.readouterr().out)["caption"] == changed


def test_the_bundle_has_the_scores_and_the_last_model_neither_scores_nor_settings(pipeline):
    served, tuned = (
        json.loads((pipeline / f"data/{name}/config.json").read_text()) for name in ("model", "models/reinforce")
    )
    metrics = json.loads((pipeline / "metrics/evaluate.json").read_text())
    assert served["scores"]["cider"] == metrics["cider"] and served["scores"]["bleu4"] == metrics["bleu4"]
    assert served["search"]["beam"] == 2 and "length_penalty" in served["search"]
    assert {key: served[key] for key in tuned} == tuned
    assert set(served) - set(tuned) == {"search", "scores", "confidence", "neighbours"}


def test_the_bundle_s_weights_are_linked(copy_pipeline, monkeypatch):
    folder = copy_pipeline("data", "metrics")
    monkeypatch.setattr("showtell.core.files._reflink", lambda *_: (_ for _ in ()).throw(OSError("none here")))
    run_stage("evaluate", folder)
    for name in ("model.safetensors", "vocab.json"):
        assert (folder / "data/model" / name).samefile(folder / "data/models/reinforce" / name)


def test_another_beam_is_served_and_does_not_change_the_last_model(copy_pipeline):
    folder = copy_pipeline("data", "metrics")
    before = (folder / "data/models/reinforce/config.json").read_bytes()
    shutil.rmtree(folder / "data/model")
    write_params(folder, beam=3)
    run_stage("evaluate", folder)
    assert Captioner.load(folder / "data/model").search.beam == 3
    assert (folder / "data/models/reinforce/config.json").read_bytes() == before


def test_linking_a_symbolic_link_gives_its_content(tmp_path):
    (tmp_path / "cache").write_text("content")
    (tmp_path / "source").symlink_to(tmp_path / "cache")
    link(tmp_path / "source", tmp_path / "target")
    (tmp_path / "source").unlink()
    assert (tmp_path / "target").read_text() == "content" and not (tmp_path / "target").is_symlink()
    link(tmp_path / "target", tmp_path / "target2")
    link(tmp_path / "cache", tmp_path / "target2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "target", "target2"]


SAMPLED = {"method": "sample", "temperature": 1.5, "seed": 3, "top_p": 0.9}


def test_samples_are_reproducible_and_their_diversity_is_measured(copy_pipeline, photographs, capsys):
    folder = copy_pipeline("data", "metrics")
    write_params(folder, beam=None, search={**SAMPLED, "max_length": 8}, evaluate={"pictures": 1, "captions": 3})
    run_stage("evaluate", folder)
    expected = [entry["caption"] for entry in json.loads(hypotheses(folder).read_text())]
    assert expected != list(photographs.values())
    captioner = Captioner.load(folder / "data/model")
    assert [caption.text for caption in captioner.caption(photographs)] == expected
    last = list(photographs)[-1]  # alone and in a batch
    values = demo.first_values(captioner.search) | {"beam": 4}
    html = demo.describe(captioner, last, *demo.asked(captioner.search, values))
    assert html.count("<tr>") == 1 + 4 and unescape(re.search(r"<td>(.*?)</td>", html)[1]) == expected[-1]
    cli.dispatch(["caption", last, "--model", str(folder / "data/model"), "--n-best", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["captions"][0]["caption"] == expected[-1]
    habits = json.loads((folder / "metrics/behaviour.json").read_text())
    assert habits["captions_an_image"] == 3 and 0 < habits["self_cider"] <= 1 and habits["distinct_words"] > 0
    assert captioner.caption([last], seed=4)[0].text != expected[-1]


def test_the_sweep_has_a_row_for_each_method(copy_pipeline):
    folder = copy_pipeline("data", "metrics")
    others = [SAMPLED, {"method": "diverse_beam", "beam": 2}]
    write_params(folder, sweep={"beams": [1], "length_penalties": [0.0], "others": others})
    run_stage("evaluate", folder)
    rows = [line.split("\t") for line in (folder / "metrics/sweep.tsv").read_text().splitlines()]
    ways = ["beam 1", "sampled", "diverse beam 2 in 2 groups", "beam 2"]  # the served settings come last
    assert [row[0].split(",")[0] for row in rows] == ["method", *ways]
    assert [row[1] for row in rows[1:]] == ["1", "", "2", "2"]


def test_an_ensemble_is_scored_and_served(copy_pipeline, photographs, capsys):
    folder = copy_pipeline("data", "metrics")
    train, tuned = folder / "data/models/train", folder / "data/models/reinforce"
    write_params(folder, evaluate={"pictures": 1, "ensemble": ["data/models/train"]})
    run_stage("evaluate", folder)
    expected = [entry["caption"] for entry in json.loads(hypotheses(folder).read_text())]
    served = Captioner.load(folder / "data/model")
    assert len(served.models) == 2
    assert [caption.text for caption in served.caption(photographs)] == expected
    model, other, memory = load_model(tuned), load_model(train), served.neighbours
    together, alone = (
        Captioner(model, served.search, others, neighbours=memory).caption(photographs) for others in ([other], [])
    )
    assert [c.text for c in together] == expected
    assert [c.logprob for c in together] != pytest.approx([c.logprob for c in alone], abs=1e-4)
    for others in ((tuned, folder / "data/model"), (folder / "data/model", tuned)):  # of all their models
        assert len(Captioner.load(*others).models) == 3
    path = next(iter(photographs))
    cli.dispatch(["caption", path, "--model", str(folder / "data/model"), "--json"])
    assert json.loads(capsys.readouterr().out)["caption"] == expected[0]


def test_an_ensemble_of_a_model_with_itself_is_the_model(pipeline, photographs):
    folder = pipeline / "data/model"
    alone, twice = Captioner.load(folder), Captioner.load(folder, folder)
    for one, two in zip(alone.n_best(photographs, 2), twice.n_best(photographs, 2), strict=True):
        assert [c.text for c in one] == [c.text for c in two]
        assert [c.logprob for c in one] == pytest.approx([c.logprob for c in two], abs=1e-4)


def test_ensembles_need_one_vocabulary(pipeline, tmp_path):
    other = Path(shutil.copytree(pipeline / "data/models/train", tmp_path / "other"))
    model = tiny_captioner().model
    save_model(model, other, notes={})
    with pytest.raises(UserError, match=r"one vocabulary: .* words, .* has"):
        Captioner.load(pipeline / "data/model", other)
