"""Captions withheld below a least confidence: on the command line, by `describe` and in the demo."""

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from showtell import Captioner
from showtell.commands import cli, demo
from showtell.commands.alt_text import session, xmp
from showtell.commands.alt_text.description import Description, Origin
from showtell.core.errors import UserError
from showtell.data.transform import load_image

HIGHEST = "no caption of this model can have a confidence above 0.625"


def test_the_command_line_abstains_with_a_reason(calibrated, photo, capsys):
    common = ["caption", str(photo), "--model", str(calibrated)]
    assert cli.dispatch([*common, "--min-confidence", "0.7"]) == 0
    shown = capsys.readouterr()
    reason = f"{photo}: no caption: confidence 0.625 is below 0.7\n"
    assert shown.out == "" and shown.err == f"{HIGHEST}\n{reason}"
    assert cli.dispatch([*common, "--min-confidence", "0.7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "image": str(photo), "caption": None, "abstained": "confidence 0.625 is below 0.7", "confidence": 0.625
    }  # fmt: skip
    assert cli.dispatch([*common, "--min-confidence", "0.6", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["confidence"] == 0.625 and content["truth"] == 0.25
    assert len(content["words"]) == len(content["probabilities"]) > 0


def rising(bundle, folder):
    """The bundle with a calibration from 0.2 to 0.5706, and captions in between."""
    shutil.copytree(bundle, folder)
    path = folder / "confidence.json"
    content = json.loads(path.read_text())
    content["good"] |= {"power": 1.0, "places": [-99.0, 0.0], "chances": [0.2, 0.5706]}
    path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(("least", "told"), [("0.571", True), ("0.57", False)])
@pytest.mark.parametrize("command", ["caption", "describe"])
def test_a_minimum_above_the_calibration_is_told_once(calibrated, photo, tmp_path, capsys, command, least, told):
    pictures = [str(shutil.copy(photo, tmp_path / name)) for name in ("a.png", "b.png")]
    model = str(rising(calibrated, tmp_path / "model"))
    assert cli.dispatch([command, *pictures, "--model", model, "--min-confidence", least]) == 0
    hint = "no caption of this model can have a confidence above 0.57\n"
    assert capsys.readouterr().err.count(hint) == told


def test_a_picture_without_a_caption_is_not_drawn(calibrated, photo, tmp_path):
    out = tmp_path / "looked.png"
    common = ["caption", str(photo), "--model", str(calibrated)]
    cli.dispatch([*common, "--min-confidence", "0.7", "--attention", str(out)])
    assert not out.exists()


def test_describe_abstains_below_min_confidence(calibrated, uncalibrated, photo, tmp_path, capsys):
    table = tmp_path / "table.jsonl"
    common = ["describe", str(photo), "--format", "jsonl", "--output", str(table)]
    assert cli.dispatch([*common, "--model", str(calibrated), "--min-confidence", "0.7"]) == 0
    assert "no caption: confidence 0.625 is below 0.7" in (told := capsys.readouterr().err)
    assert "1 not sure enough" in told
    (row,) = map(json.loads, table.read_text().splitlines())
    assert (row["caption"], row["confidence"]) == (None, 0.625) and "0.625 is below 0.7" in row["abstained"]
    assert cli.dispatch([*common, "--model", str(calibrated), "--min-confidence", "0.5"]) == 0
    (row,) = map(json.loads, table.read_text().splitlines())
    assert row["caption"] and (row["confidence"], row["abstained"]) == (0.625, None)
    with pytest.raises(UserError, match="does not know its own"):
        cli.dispatch([*common, "--model", str(uncalibrated), "--min-confidence", "0.5"])


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
def test_withheld_pictures_are_not_captioned_again_until_settings_change(
    calibrated, photo, tmp_path, monkeypatch, capsys, form
):
    monkeypatch.chdir(tmp_path)
    picture = shutil.copy(photo, tmp_path / "a.png")
    decoded = []
    monkeypatch.setattr(session, "load_image", lambda path: decoded.append(path) or load_image(path))

    def describe(*flags) -> int:
        """How many pictures were decoded."""
        decoded.clear()
        assert cli.dispatch(["describe", str(picture), "--model", str(calibrated), "--format", form, *flags]) == 0
        return len(decoded)

    def withheld(least):
        return None, f"confidence 0.625 is below {least}"

    assert describe("--min-confidence", "0.7") == 1 and described(tmp_path, form) == withheld("0.7")
    assert describe("--min-confidence", "0.7") == 0 and describe("--min-confidence", "0.65") == 0
    assert describe("--min-confidence", "0.625") == 1  # its confidence is above that
    caption, reason = described(tmp_path, form)
    assert caption and reason is None
    capsys.readouterr()
    assert describe("--min-confidence", "0.7") == 0 and described(tmp_path, form) == (caption, None)
    told = "1 of the captions that were there have a confidence below 0.7 and stay: delete them to have them withheld"
    assert (told in capsys.readouterr().err) == (form != "txt")  # text files hold no confidence
    assert describe("--min-confidence", "0.6") == 0 and "delete them" not in capsys.readouterr().err
    Image.new("RGB", (50, 40), "teal").save(picture)
    assert describe("--min-confidence", "0.8") == 1 and described(tmp_path, form) == withheld("0.8")
    assert describe() == 1 and described(tmp_path, form)[0]


def test_other_descriptions_are_kept_where_the_model_abstains(calibrated, photo, tmp_path):
    picture = shutil.copy(photo, tmp_path / "a.png")
    theirs = Description(picture, "theirs", -1.0, "0")
    text = re.sub(r"<showtell:.*", "", xmp.sidecar_text(tmp_path / "none", theirs, Origin("1", "m", "s")))
    (tmp_path / "a.png.xmp").write_text(text)
    for least in ("0.7", "0.8"):
        assert cli.dispatch(["describe", str(picture), "--model", str(calibrated), "--min-confidence", least]) == 0
        assert described(tmp_path, "xmp")[0] == "theirs"
        Image.new("RGB", (50, 40), "teal").save(picture)


def test_the_demo_abstains_and_shows_probabilities(calibrated, uncalibrated, photo):
    captioner = Captioner.load(calibrated)
    asked = str(photo), 2, {"beam": 2}
    assert "No caption: confidence 0.625 is below 0.7." in demo.describe(captioner, *asked, 0.7)
    html = demo.describe(captioner, *asked, 0.5)
    assert "62%" in html and "25%" in html
    assert html.count("<small>") == html.count("<figure")
    assert "measured with beam = 2" in demo.describe(captioner, str(photo), 3, {"beam": 3}, 0.5)
    assert "Chance" not in demo.describe(Captioner.load(uncalibrated), *asked)
