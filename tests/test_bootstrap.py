import numpy as np
import pytest

from showtell.metrics import bootstrap
from showtell.metrics.bootstrap import compare, extremes, intervals, mean, ratio, resampled
from showtell.metrics.protocol import evaluate


def test_intervals_have_their_nominal_coverage() -> None:
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        low, high = intervals({"x": mean(generator.exponential(size=100))}, replicates=300, seed=trial)["x"]
        hits += low <= 1 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_intervals_of_a_mean_have_the_width_of_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = intervals({"x": mean(values)}, replicates=4000)["x"]
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.06)


def test_intervals_depend_on_the_seed_only() -> None:
    metrics = {"x": mean(np.arange(50.0))}
    assert intervals(metrics, seed=3) == intervals(metrics, seed=3)
    assert intervals(metrics, seed=3) != intervals(metrics, seed=4)


def test_the_block_size_of_resampling_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(0).random((20, 3))
    (whole,) = resampled([table], 50, 0)
    monkeypatch.setattr(bootstrap, "RESAMPLED_AT_ONCE", 60)
    (blocks,) = resampled([table], 50, 0)
    np.testing.assert_allclose(whole, blocks)


def test_a_ratio_is_resampled_as_a_ratio_of_sums() -> None:
    part, whole = np.array([1.0, 0.0, 3.0]), np.array([1.0, 4.0, 3.0])
    assert ratio(part, whole).score == 0.5
    low, high = intervals({"x": ratio(part, whole)})["x"]
    assert 0 <= low < 0.5 < high <= 1
    assert ratio([0.0], [0.0]).score == 0


def test_corpus_bleu_is_computed_from_each_resample() -> None:
    references = {i: [f"a dog runs on grass number w{i}"] for i in range(30)}
    hypotheses = {i: f"a dog runs on grass number w{i}" if i % 2 else "a dog" for i in range(30)}
    scores = evaluate(references, hypotheses, meteor=False)
    metrics = scores.measured()
    for key, metric in metrics.items():
        assert metric.score == pytest.approx(scores.corpus[key], abs=1e-12)
    bounds = intervals(metrics, replicates=200)
    for key, (low, high) in bounds.items():
        assert low < metrics[key].score < high
    assert bounds["bleu4"][0] > 0  # half the images have a BLEU-4 of about 0; their mean is not what is resampled


def test_paired_resampling_detects_a_small_consistent_difference() -> None:
    generator = np.random.default_rng(1)
    hard = generator.normal(size=200)
    better = hard + 0.1 + 0.2 * generator.normal(size=200)
    difference = compare({"x": mean(hard)}, {"x": mean(better)})["x"]
    assert difference.low > 0 and difference.p < 0.01
    alone = intervals({"a": mean(hard), "b": mean(better)})
    assert alone["a"][1] > alone["b"][0]  # unpaired intervals overlap


def test_a_system_does_not_differ_from_itself() -> None:
    metrics = {"x": mean(np.arange(20.0)), "y": mean(np.ones(20))}
    for difference in compare(metrics, metrics).values():
        assert (difference.difference, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


def test_p_values_of_equal_systems_are_uniform() -> None:
    generator = np.random.default_rng(2)
    p = []
    for trial in range(200):
        a, b = generator.normal(size=(2, 60))
        p.append(compare({"x": mean(a)}, {"x": mean(b)}, replicates=199, seed=trial)["x"].p)
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.11
    assert 0.4 <= np.mean(p) <= 0.6


def test_extremes_are_the_images_that_changed_most() -> None:
    gained, lost = extremes(["w", "x", "y", "z"], np.array([0.0, 1, 2, 3]), np.array([5.0, 1, 1, 0]), 2)
    assert gained == [("w", 0, 5)]
    assert lost == [("z", 3, 0), ("y", 2, 1)]
    assert extremes(["w"], np.array([0.0]), np.array([1.0]), 0) == ([], [])
