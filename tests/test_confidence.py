"""Confidence of captions: fitted on val, saved in the bundle that `evaluate` writes."""

import json

import numpy as np
from conftest import run_stage, write_params
from hypothesis import given
from hypothesis import strategies as st

from showtell.evaluation.confidence_fit import Judged, calibration_errors, fit_confidence, reliability_rows, sureness
from showtell.generation.bundle import load_bundle
from showtell.generation.captioner import Caption


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


def test_good_captions_are_told_by_the_log_probability_of_a_word_true_ones_by_that_of_all():
    """Right is a caption with a mean of more than -1 a token, however long."""
    generator = np.random.default_rng(0)
    captions = [said(-20 * generator.random(), int(words)) for words in generator.integers(1, 30, 600)]
    right = np.array([caption.logprob / (len(caption.words) + 1) > -1 for caption in captions])  # the end token counts
    confidence = fit_confidence(Judged(captions, right.astype(float), right.tolist()))
    for caption in captions:
        mean = caption.logprob / (len(caption.words) + 1)
        chance = confidence.good.chance(caption.logprob, caption.length)
        assert abs(mean + 1) < 0.2 or (chance > 0.9 if mean > -1 else chance < 0.1)
    assert confidence.true.chance(-3.0, 2) == confidence.true.chance(-3.0, 29)
    assert confidence.good.lowest == min(c.logprob / (len(c.words) + 1) for c in captions)


def test_without_known_objects_there_is_one_kind_of_confidence():
    val = drawn(200, 0)._replace(true=None)
    confidence = fit_confidence(val)
    assert confidence.true is None
    assert calibration_errors(sureness(confidence, val))["ece_true"] is None


def test_captions_that_score_all_there_is_are_good():
    """Rounding takes the CIDEr-D of some perfect captions above 10, and of others below."""
    val = drawn(60, 0)._replace(cider=np.array([10.000000000000002, 10.0, 9.999999999999998] * 20))
    confidence = fit_confidence(val)
    assert confidence.median_cider == 10 and sureness(confidence, val)["good"].right.all()
    above = fit_confidence(val._replace(cider=np.full(60, 10.000000000000002)))
    assert above.median_cider == 10 and sureness(above, val)["good"].right.all()


@given(st.lists(st.tuples(st.floats(-50, 0), st.booleans()), min_size=2, max_size=100))
def test_confidence_is_monotonic_in_logprob_and_below_one(rows):
    captions = [said(logprob) for logprob, _ in rows]
    val = Judged(captions, np.array([float(right) for _, right in rows]), [right for _, right in rows])
    confidence = fit_confidence(val)
    for kind in (confidence.good, confidence.true):
        chances = [kind.chance(logprob, 6) for logprob in np.linspace(-60, 0, 40)]
        assert all(0 < chance < 1 for chance in chances) and (np.diff(chances) >= 0).all()


def test_evaluate_measures_confidence_and_saves_it_in_the_bundle(pipeline):
    served = load_bundle(pipeline / "data/model").confidence
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
        found.append(load_bundle(folder / "data/model").confidence)
        rows = (folder / "metrics/sweep.tsv").read_text().splitlines()[1:]
        assert sum(row.startswith("beam 2\t") for row in rows) == 1
    assert found[0] == found[1]
