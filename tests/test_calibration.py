"""Isotonic fits, calibration error, risk and coverage, by their defining properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.metrics.calibration import expected_calibration_error, isotonic, reliability, risk_coverage

ITEMS = st.lists(
    st.tuples(st.integers(-5, 5), st.floats(-3, 3), st.floats(0.1, 4)), min_size=1, max_size=25
)  # x, y, weight; many of the same x
JUDGED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def arrays(rows):
    return tuple(np.array(column, float) for column in zip(*rows, strict=True))


@given(ITEMS)
def test_the_fit_is_the_nearest_isotonic_function(rows):
    """The fit f is the projection on the rising functions, a cone: the rest y - f is orthogonal to f, and has no
    positive product with any rising function (Barlow et al. 1972), all of which are sums of steps and a constant.
    """
    x, y, weights = arrays(rows)
    places, values = isotonic(x, y, weights)
    assert (np.diff(places) > 0).all() and (np.diff(values) >= 0).all()
    rest = weights * (y - values[np.searchsorted(places, x)])
    assert (rest * values[np.searchsorted(places, x)]).sum() == pytest.approx(0, abs=1e-6)
    assert rest.sum() == pytest.approx(0, abs=1e-6)
    for place in places:
        assert (rest * (x >= place)).sum() <= 1e-6


def test_a_fit_by_hand():
    places, values = isotonic(np.array([3.0, 1.0, 2.0, 2.0, 4.0]), np.array([0.0, 0.0, 1.0, 0.0, 1.0]))
    assert places.tolist() == [1, 2, 3, 4]
    assert values.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1])


@given(JUDGED, st.integers(1, 20))
def test_bins_hold_every_caption_once_and_their_means_lie_within(rows, bins):
    confidence, right = arrays(rows)
    found = reliability(confidence, right, bins)
    assert sum(b.captions for b in found) == len(rows)
    assert sum(b.captions * b.right for b in found) == pytest.approx(right.sum())
    assert all(b.low - 1e-9 <= b.confidence <= b.high + 1e-9 for b in found)
    assert 0 <= expected_calibration_error(confidence, right, bins) <= 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_probabilities_equal_to_frequencies_have_no_calibration_error(share):
    right = np.arange(1000) < 1000 * share
    assert expected_calibration_error(np.full(1000, share), right) == pytest.approx(0)
    assert expected_calibration_error(np.full(1000, 1 - share), right) == pytest.approx(abs(1 - 2 * share))


def test_calibrated_probabilities_have_a_calibration_error_near_zero():
    generator = np.random.default_rng(0)
    confidence = generator.random(100_000)
    right = generator.random(100_000) < confidence
    assert expected_calibration_error(confidence, right) < 0.01
    assert expected_calibration_error(confidence**2, right) > 0.1


@given(JUDGED)
def test_risk_at_full_coverage_is_the_error_rate_and_coverage_rises(rows):
    confidence, right = arrays(rows)
    coverage, risk = risk_coverage(confidence, right)
    assert coverage[-1] == 1 and risk[-1] == pytest.approx(1 - right.mean())
    assert (np.diff(coverage) > 0).all() and len(coverage) == len(set(confidence.tolist()))
    least = np.sort(np.unique(confidence))[-1]  # only the most confident
    assert risk[0] == pytest.approx(1 - right[confidence == least].mean())
