"""Confidence of served captions: named by the bundle, given with captions, and a reason to withhold them."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_model import CONFIDENCE, serve_tiny_model

from showtell import Captioner
from showtell.core.errors import UserError
from showtell.generation.bundle import load_bundle, serve_model
from showtell.generation.confidence import Calibration, reason_against


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def test_the_bundle_names_its_calibration_and_keeps_it(tmp_path):
    folder = serve_tiny_model(tmp_path, CONFIDENCE)
    assert config_of(folder)["confidence"] == "confidence.json"
    assert load_bundle(folder).confidence == CONFIDENCE == Captioner.load(folder).confidence
    served_again = tmp_path / "again"  # other settings: the calibration is not theirs
    serve_model(folder, served_again, load_bundle(folder).search.override(beam=3), {})
    assert "confidence" not in config_of(served_again) and not (served_again / "confidence.json").exists()
    assert load_bundle(served_again).confidence is None


def test_a_calibration_that_is_missing_or_not_named_is_one_line(tmp_path):
    folder = serve_tiny_model(tmp_path, CONFIDENCE)
    (folder / "confidence.json").rename(folder / "away.json")
    with pytest.raises(UserError, match=r"model/confidence\.json does not exist"):
        load_bundle(folder)
    (folder / "away.json").rename(folder / "confidence.json")
    config = config_of(folder)
    del config["confidence"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json does not name confidence\.json.*; `dvc repro` writes both anew"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "content, told",
    [
        ({}, "median_cider"),
        ({"median_cider": 1.0, "good": {"power": 1.0, "places": [0.0, 0.0], "chances": [0.1, 0.2], "captions": 2,
          "lowest": -9.0}, "true": None}, "must rise"),
        ({"median_cider": 1.0, "good": {"power": 1.0, "places": [0.0], "chances": [1.5], "captions": 2, "lowest": -9.0},
          "true": None}, "good.chances.0"),
        ({"median_cider": 1.0, "good": {"power": 1.0, "places": [0.0], "chances": [], "captions": 2, "lowest": -9.0},
          "true": None}, "1 places and 0 chances"),
    ],
)  # fmt: skip
def test_invalid_calibration_files_are_one_line(tmp_path, content, told):
    folder = serve_tiny_model(tmp_path, CONFIDENCE)
    (folder / "confidence.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=told) as error:
        Captioner.load(folder)
    assert "\n" not in str(error.value)


def test_captions_have_confidence_and_word_probabilities(calibrated, uncalibrated, photo):
    best, second = Captioner.load(calibrated).n_best([photo], 2)[0]
    assert (best.confidence, best.truth, second.confidence) == (0.625, 0.25, None)
    for caption in (best, second):
        assert len(caption.probabilities) == len(caption.words)
        assert all(0 < probability <= 1 for probability in caption.probabilities)
        assert np.log(caption.probabilities).sum() >= caption.logprob - 1e-4  # the rest is the end token's
    plain = Captioner.load(uncalibrated).caption([photo])[0]
    assert plain.text == best.text and plain.confidence is None and plain.probabilities == best.probabilities


def test_of_captions_unlikelier_than_all_of_val_truth_is_not_known(calibrated, photo):
    captioner = Captioner.load(calibrated)
    (best,) = captioner.caption([photo])
    for lowest, truth in ((best.logprob - 0.1, 0.25), (best.logprob + 0.1, None)):
        true = Calibration(power=0.0, places=[0.0], chances=[0.25], captions=6, lowest=lowest)
        captioner.confidence = captioner.confidence.model_copy(update={"true": true})
        assert captioner.caption([photo])[0].truth == truth


def test_below_min_confidence_there_is_no_caption_but_a_reason(calibrated, photo):
    captioner = Captioner.load(calibrated)
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
        (0.5, {"beam": 3, "min_length": 1}, "measured with beam = 2; leave"),  # what is as it was is not named
        (0.5, {"method": "sample"}, "measured with method = beam"),
    ],
)
def test_min_confidence_out_of_range_or_for_other_settings_is_refused(calibrated, photo, least, settings, told):
    with pytest.raises(UserError, match=told):
        Captioner.load(calibrated).caption([photo], min_confidence=least, **settings)


def test_other_settings_have_no_confidence_unless_they_are_the_same(calibrated, photo):
    captioner = Captioner.load(calibrated)
    assert captioner.caption([photo], beam=3)[0].confidence is None
    assert captioner.caption([photo], beam=2, precision="fp32", min_confidence=0.1)[0].confidence == 0.625


def test_bundles_without_calibration_and_ensembles_have_no_confidence(calibrated, uncalibrated, photo):
    with pytest.raises(UserError, match="dvc repro"):
        Captioner.load(uncalibrated).caption([photo], min_confidence=0.5)
    with pytest.raises(UserError, match="not scored together"):
        Captioner.load(calibrated, uncalibrated).caption([photo], min_confidence=0.5)
