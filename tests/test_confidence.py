"""Confidence of captions: fitted on val, saved in the bundle, used by Python, command line, demo and `describe`."""

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from conftest import run_stage, write_params
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_model import tiny_captioner

from showtell import Captioner
from showtell.commands import cli, demo
from showtell.commands.alt_text import session, xmp
from showtell.commands.alt_text.description import Description, Origin
from showtell.core.errors import UserError
from showtell.data.transform import load_image
from showtell.evaluation.confidence_fit import Judged, calibration_errors, fit_confidence, reliability_rows, sureness
from showtell.generation.bundle import save_model, serve_model
from showtell.generation.captioner import Caption
from showtell.generation.confidence import Calibration, Confidence, load_confidence, reason_against
from showtell.generation.search_params import PLAIN


def said(logprob, words=5):
    return Caption("a " * words, ["a"] * words, logprob, logprob, True, None)


def drawn(count, seed):
    """Captions that are all true with probability exp(logprob), and score higher the more probable their words are."""
    generator = np.random.default_rng(seed)
    captions = [said(-3 * generator.random(), int(words)) for words in generator.integers(3, 12, count)]
    chances = np.exp([caption.logprob for caption in captions])
    quality = np.array([caption.logprob / caption.length for caption in captions])
    cider = np.exp(quality + 0.05 * generator.standard_normal(count))
    return Judged(captions, cider, (generator.random(count) < chances).tolist())


def test_a_fit_on_one_set_is_calibrated_on_another():
    confidence = fit_confidence(drawn(2000, 0))
    found = sureness(confidence, drawn(2000, 1))
    errors = calibration_errors(found)
    assert errors["ece_good"] < 0.05 and errors["ece_true"] < 0.05
    assert np.std(found["true"].confidence) > 0.1  # it tells captions apart
    assert {row["confidence_that"] for row in reliability_rows(found)} == {"good", "true"}
    coverage, risk = found["true"].risk
    assert risk[np.searchsorted(coverage, 0.25)] < risk[-1] - 0.2  # abstaining helps


def test_without_known_objects_there_is_one_kind_of_confidence():
    val = drawn(200, 0)._replace(true=None)
    confidence = fit_confidence(val)
    assert confidence.true is None
    assert calibration_errors(sureness(confidence, val))["ece_true"] is None


@given(st.lists(st.tuples(st.floats(-50, 0), st.booleans()), min_size=2, max_size=100))
def test_confidence_is_monotonic_in_logprob_and_below_one(rows):
    captions = [said(logprob) for logprob, _ in rows]
    val = Judged(captions, np.array([float(right) for _, right in rows]), [right for _, right in rows])
    confidence = fit_confidence(val)
    for kind in (confidence.good, confidence.true):
        chances = [kind.chance(logprob, 6) for logprob in np.linspace(-60, 0, 40)]
        assert all(0 < chance < 1 for chance in chances) and (np.diff(chances) >= 0).all()


def test_the_bundle_round_trip_keeps_the_fit(tmp_path):
    folder = bundle(tmp_path)
    assert load_confidence(folder) == CONFIDENCE
    assert Captioner.load(folder).confidence == CONFIDENCE


@pytest.mark.parametrize(
    "content, told",
    [
        ({}, "median_cider"),
        ({"median_cider": 1.0, "good": {"power": 1.0, "places": [0.0, 0.0], "chances": [0.1, 0.2], "captions": 2},
          "true": None}, "must rise"),
        ({"median_cider": 1.0, "good": {"power": 1.0, "places": [0.0], "chances": [1.5], "captions": 2},
          "true": None}, "good.chances.0"),
        ({"median_cider": 1.0, "good": {"power": 1.0, "places": [0.0], "chances": [], "captions": 2},
          "true": None}, "1 places and 0 chances"),
    ],
)  # fmt: skip
def test_invalid_calibration_files_are_one_line(tmp_path, content, told):
    folder = bundle(tmp_path)
    (folder / "confidence.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=told) as error:
        Captioner.load(folder)
    assert "\n" not in str(error.value)


LEVEL = Calibration(power=0.0, places=[0.0], chances=[0.625], captions=6)  # every caption has it
CONFIDENCE = Confidence(median_cider=0.5, good=LEVEL, true=LEVEL.model_copy(update={"chances": [0.25]}))
SEARCH = PLAIN.override(beam=2, max_length=6)


def bundle(folder, confidence=CONFIDENCE):
    save_model(tiny_captioner().model, folder / "source", notes={})
    serve_model(folder / "source", folder / "model", SEARCH, {}, confidence=confidence)
    return folder / "model"


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("sure"))


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("old"), confidence=None)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


def test_captions_have_confidence_and_word_probabilities(sure, old, photo):
    best, second = Captioner.load(sure).n_best([photo], 2)[0]
    assert (best.confidence, best.truth, second.confidence) == (0.625, 0.25, None)
    for caption in (best, second):
        assert len(caption.probabilities) == len(caption.words)
        assert all(0 < probability <= 1 for probability in caption.probabilities)
        assert np.log(caption.probabilities).sum() >= caption.logprob - 1e-4  # the rest is the end token's
    plain = Captioner.load(old).caption([photo])[0]
    assert plain.text == best.text and plain.confidence is None and plain.probabilities == best.probabilities


def test_below_min_confidence_there_is_no_caption_but_a_reason(sure, photo):
    captioner = Captioner.load(sure)
    kept = captioner.caption([photo], min_confidence=0.625)[0]
    assert kept.abstained is None and kept.text == captioner.caption([photo])[0].text
    (none,) = captioner.n_best([photo], 2, min_confidence=0.63)[0]
    assert none.abstained == "confidence 0.625 is below 0.63"
    assert not none.text and not none.words and none.attention is None and none.confidence == 0.625


def test_the_reason_prints_enough_digits_to_differ():
    assert reason_against(0.49996, 0.5) == "confidence 0.499 is below 0.5"
    assert reason_against(0.5, 0.5) is None


@pytest.mark.parametrize(
    "least, settings, told",
    [
        (1.5, {}, "min_confidence = 1.5: must be 0 to 1"),
        (float("nan"), {}, "must be 0 to 1"),
        (0.5, {"beam": 3}, "measured with beam = 2"),
        (0.5, {"method": "sample"}, "measured with method = beam"),
    ],
)
def test_min_confidence_out_of_range_or_for_other_settings_is_refused(sure, photo, least, settings, told):
    with pytest.raises(UserError, match=told):
        Captioner.load(sure).caption([photo], min_confidence=least, **settings)


def test_other_settings_have_no_confidence_unless_they_are_the_same(sure, photo):
    captioner = Captioner.load(sure)
    assert captioner.caption([photo], beam=3)[0].confidence is None
    assert captioner.caption([photo], beam=2, precision="fp32", min_confidence=0.1)[0].confidence == 0.625


def test_bundles_without_calibration_and_ensembles_have_no_confidence(sure, old, photo):
    with pytest.raises(UserError, match="dvc repro"):
        Captioner.load(old).caption([photo], min_confidence=0.5)
    with pytest.raises(UserError, match="not scored together"):
        Captioner.load(sure, old).caption([photo], min_confidence=0.5)


def test_the_command_line_abstains_with_a_reason(sure, photo, capsys):
    common = ["caption", str(photo), "--model", str(sure)]
    assert cli.dispatch([*common, "--min-confidence", "0.7"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err == f"{photo}: no caption: confidence 0.625 is below 0.7\n"
    assert cli.dispatch([*common, "--min-confidence", "0.7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "image": str(photo), "caption": None, "abstained": "confidence 0.625 is below 0.7", "confidence": 0.625
    }  # fmt: skip
    assert cli.dispatch([*common, "--min-confidence", "0.6", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["confidence"] == 0.625 and content["truth"] == 0.25
    assert len(content["words"]) == len(content["probabilities"]) > 0


def test_a_picture_without_a_caption_is_not_drawn(sure, photo, tmp_path):
    out = tmp_path / "looked.png"
    cli.dispatch(["caption", str(photo), "--model", str(sure), "--min-confidence", "0.7", "--attention", str(out)])
    assert not out.exists()


def test_describe_abstains_below_min_confidence(sure, old, photo, tmp_path, capsys):
    table = tmp_path / "table.jsonl"
    common = ["describe", str(photo), "--format", "jsonl", "--output", str(table)]
    assert cli.dispatch([*common, "--model", str(sure), "--min-confidence", "0.7"]) == 0
    assert "no caption: confidence 0.625 is below 0.7" in (told := capsys.readouterr().err)
    assert "1 not sure enough" in told
    (row,) = map(json.loads, table.read_text().splitlines())
    assert (row["caption"], row["confidence"]) == (None, 0.625) and "0.625 is below 0.7" in row["abstained"]
    assert cli.dispatch([*common, "--model", str(sure), "--min-confidence", "0.5"]) == 0
    (row,) = map(json.loads, table.read_text().splitlines())
    assert row["caption"] and (row["confidence"], row["abstained"]) == (0.625, None)
    with pytest.raises(UserError, match="does not know its own"):
        cli.dispatch([*common, "--model", str(old), "--min-confidence", "0.5"])


def described(folder, form):
    """(caption or None, reason or None) of the one picture, from this form of output."""
    if form == "xmp":
        node = ET.parse(folder / "a.png.xmp").getroot()[0][0]
        found = {child.tag.partition("}")[2]: "".join(child.itertext()).strip() for child in node}
        assert found.get("description") == found.get("AltTextAccessibility")
        return found.get("description"), found.get("Abstained")
    if form == "txt":
        caption, _, last = (folder / "a.png.txt").read_text().splitlines()
        return caption or None, last.partition("no caption: ")[2].rstrip("]") or None
    table = (folder / f"alt-text.{form}").read_text()
    rows = list(csv.DictReader(io.StringIO(table))) if form == "csv" else [json.loads(table)]
    assert [row["confidence"] for row in rows] == (["0.625"] if form == "csv" else [0.625])
    return rows[0]["caption"] or None, rows[0]["abstained"] or None


@pytest.mark.parametrize("form", ["xmp", "txt", "csv", "jsonl"])
def test_abstained_pictures_are_not_captioned_again_until_settings_change(sure, photo, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    picture = shutil.copy(photo, tmp_path / "a.png")
    decoded = []
    monkeypatch.setattr(session, "load_image", lambda path: decoded.append(path) or load_image(path))

    def describe(*flags) -> int:
        """How many pictures were decoded."""
        decoded.clear()
        assert cli.dispatch(["describe", str(picture), "--model", str(sure), "--format", form, *flags]) == 0
        return len(decoded)

    def withheld(least):
        return None, f"confidence 0.625 is below {least}"

    assert describe("--min-confidence", "0.7") == 1 and described(tmp_path, form) == withheld("0.7")
    assert describe("--min-confidence", "0.7") == 0 and describe("--min-confidence", "0.65") == 0
    assert describe("--min-confidence", "0.625") == 1  # its confidence is above that
    caption, reason = described(tmp_path, form)
    assert caption and reason is None
    assert describe("--min-confidence", "0.7") == 0 and described(tmp_path, form) == (caption, None)
    Image.new("RGB", (50, 40), "teal").save(picture)
    assert describe("--min-confidence", "0.8") == 1 and described(tmp_path, form) == withheld("0.8")
    assert describe() == 1 and described(tmp_path, form)[0]


def test_other_descriptions_are_kept_where_the_model_abstains(sure, photo, tmp_path):
    picture = shutil.copy(photo, tmp_path / "a.png")
    theirs = Description(picture, "theirs", -1.0, "0")
    text = re.sub(r"<showtell:.*", "", xmp.sidecar_text(tmp_path / "none", theirs, Origin("1", "m")))
    (tmp_path / "a.png.xmp").write_text(text)
    for least in ("0.7", "0.8"):
        assert cli.dispatch(["describe", str(picture), "--model", str(sure), "--min-confidence", least]) == 0
        assert described(tmp_path, "xmp")[0] == "theirs"
        Image.new("RGB", (50, 40), "teal").save(picture)


def test_the_demo_abstains_and_shows_probabilities(sure, old, photo):
    captioner = Captioner.load(sure)
    asked = str(photo), 2, {"beam": 2}
    assert "No caption: confidence 0.625 is below 0.7." in demo.describe(captioner, *asked, 0.7)
    html = demo.describe(captioner, *asked, 0.5)
    assert "62%" in html and "25%" in html
    assert html.count("<small>") == html.count("<figure")
    assert "measured with beam = 2" in demo.describe(captioner, str(photo), 3, {"beam": 3}, 0.5)
    assert "Chance" not in demo.describe(Captioner.load(old), *asked)


def test_evaluate_measures_confidence_and_saves_it_in_the_bundle(pipeline):
    served = load_confidence(pipeline / "data/model")
    assert served.good.captions == 6 and served.true is not None  # val's images
    metrics = json.loads((pipeline / "metrics/evaluate.json").read_text())
    assert 0 <= metrics["ece_good"] <= 1 and 0 <= metrics["ece_true"] <= 1
    rows = (pipeline / "metrics/reliability.tsv").read_text().splitlines()
    assert rows[0].split("\t") == ["confidence_that", "low", "high", "captions", "confidence", "right"]
    hypotheses = json.loads((pipeline / "data/hypotheses/test.json").read_text())
    counted = sum(int(row.split("\t")[3]) for row in rows[1:] if row.startswith("good"))
    assert counted == len(hypotheses) and all(0 < one["confidence"] < 1 for one in hypotheses)


def test_it_is_fitted_on_captions_of_the_served_settings(copy_pipeline):
    """Captions of val come from the sweep if it has the same settings, and are decoded again if not."""
    folder = copy_pipeline("data", "metrics")
    found = []
    for beams in ([2], [1]):
        write_params(folder, sweep={"beams": beams, "length_penalties": [1.0], "others": None})
        run_stage("evaluate", folder)
        found.append(load_confidence(folder / "data/model"))
        rows = (folder / "metrics/sweep.tsv").read_text().splitlines()[1:]
        assert sum(row.startswith("beam 2\t") for row in rows) == 1
    assert found[0] == found[1]
