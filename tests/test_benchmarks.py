"""`make bench`: its page keeps the lines that were not measured again, and its scripts compare both sides."""

import importlib
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT, run_stage

sys.path.insert(0, str(ROOT / "benchmarks"))  # the scripts import one another by name

import growth
import growth_figures
import measure
import page
import run

from showtell.core.errors import UserError

HERE = "a processor, 2 cores"
ORDER = ("first", "second")


def row(script: str, claim: str, ratio: float = 4.0, **changes) -> page.Row:
    result = measure.Result(**{"claim": claim, "ratio": ratio, "target": 3.0, "sizes": "few", "threads": 2} | changes)
    return {**json.loads(result.json()), "script": script}


def test_a_line_has_the_target_and_whether_it_was_reached():
    assert page.line(row("first", "speed", detail="1 | 2")) == (
        "| speed | **4x** | at least 3x | few | 2 | 1 / 2 | `first.py` |"
    )
    slow = page.line(row("first", "start", at_most=True, unit=" s"))
    assert "| 4 s, short of it | at most 3 s |" in slow


def test_lines_of_other_scripts_stay_and_those_of_a_script_are_replaced():
    old = page.claims("", [row("second", "c"), row("first", "a"), row("first", "b")], ORDER, ORDER, HERE)
    new = page.claims(old, [row("first", "a", 7.0)], ["first"], ORDER, HERE)
    assert [line.split(" | ")[:2] for line in new.splitlines()[4:]] == [["| a", "**7x**"], ["| c", "**4x**"]]
    assert page.claims(new, [], [], ORDER, HERE) == new


def test_a_failed_script_keeps_its_old_lines():
    old = page.claims("", [row("first", "a"), row("first", "b")], ORDER, ORDER, HERE)
    new = page.claims(old, [row("first", "a", 7.0)], [], ORDER, HERE)
    assert "| a | **7x**" in new and "| b | **4x**" in new and len(new.splitlines()) == 6


def test_lines_of_another_machine_are_removed():
    old = page.claims("", [row("second", "c")], ORDER, ORDER, "another")
    assert "| c |" not in page.claims(old, [row("first", "a")], ["first"], ORDER, HERE)


def test_only_text_between_the_marks_is_rewritten():
    text = "before\n<!-- cpu -->\nold\n<!-- end of cpu -->\nafter\n"
    assert page.rewritten(text, "cpu", "new") == "before\n<!-- cpu -->\nnew\n<!-- end of cpu -->\nafter\n"
    with pytest.raises(UserError, match="lacks the lines <!-- gpu -->"):
        page.rewritten(text, "gpu", "new")


def test_the_page_has_a_part_for_every_measurement():
    text = page.PAGE.read_text(encoding="utf-8")
    for name in ("cpu", "gpu", "growth", "coco"):
        assert page.part(text, name)
    for script in run.SCRIPTS:
        assert (run.HERE / f"{script}.py").is_file()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """run.py on three scripts: one succeeds, one fails at once, one fails after its first line."""
    line = json.dumps({key: value for key, value in row("", "fast").items() if key != "script"})
    (tmp_path / "good.py").write_text(f"print('''{line}''')\n")
    (tmp_path / "bad.py").write_text("import sys\nsys.exit('both sides differ: by a lot')\n")
    (tmp_path / "half.py").write_text(f"print('''{line}'''.replace('fast', 'half'))\n1 / 0\n")
    (tmp_path / "page.md").write_text("# Page\n<!-- cpu -->\nnothing\n<!-- end of cpu -->\nThe end.\n")
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(run, "SCRIPTS", ("bad", "half", "good"))
    monkeypatch.setattr(run, "device_name", lambda: "cpu")
    return tmp_path


def test_failed_scripts_are_reported_and_the_others_run(bench, capsys):
    assert run.run_claims(run.SCRIPTS, [], keep=True) == 1
    said = capsys.readouterr()
    assert "bad.py failed: both sides differ: by a lot\n" in said.err
    assert "half.py failed: ZeroDivisionError: division by zero\n" in said.err
    assert "fast: 4x [at least 3x]" in said.out
    text = (bench / "page.md").read_text()
    assert text.startswith("# Page\n<!-- cpu -->\nMeasured on ") and text.endswith("<!-- end of cpu -->\nThe end.\n")
    assert "| fast | **4x**" in text and "| half | **4x**" in text and "nothing" not in text


def test_a_quick_run_rewrites_nothing(bench):
    before = (bench / "page.md").read_text()
    assert run.run_claims(["good"], [], keep=False) == 0
    assert (bench / "page.md").read_text() == before


@pytest.mark.parametrize("name", sorted(path.stem for path in run.HERE.glob("*.py")))
def test_script_can_be_started(name):
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize(
    ("name", "lines"), [("storage", 1), ("metrics", 1), ("rewards", 2), ("startup", 3), ("extraction", 2)]
)
def test_script_compares_both_sides_and_prints_the_result(name, lines, capsys):
    if name in ("metrics", "rewards"):
        pytest.importorskip("pycocoevalcap")
    args = measure.arguments(None).parse_args(["--quick", "--rounds", "1", "--json"])
    measure.report(importlib.import_module(name).results(args), args)
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) == len({result["claim"] for result in results}) == lines
    assert all(result["ratio"] > 0 and result["sizes"] and result["detail"] for result in results)


def quick() -> SimpleNamespace:
    return SimpleNamespace(quick=True, rounds=1, json=False)


def test_logit_differences_above_rounding_are_an_error(monkeypatch):
    storage = importlib.import_module("storage")
    ours = storage.our_logits
    monkeypatch.setattr(storage, "our_logits", lambda *args: ours(*args) * 1.001)
    with pytest.raises(SystemExit, match="both sides differ: attention logits"):
        list(storage.results(quick()))


def test_scores_that_differ_are_an_error_and_so_is_a_missing_scorer(monkeypatch):
    metrics = importlib.import_module("metrics")
    monkeypatch.setattr(metrics, "theirs", lambda *captions: [score + 1e-6 for score in metrics.ours(*captions)])
    monkeypatch.setitem(sys.modules, "pycocoevalcap", SimpleNamespace())
    with pytest.raises(SystemExit, match=r"both sides differ: scores by 1\.0e-06"):
        list(metrics.results(quick()))
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(SystemExit, match="the reference scorer is not installed; pip install"):
        list(metrics.results(quick()))


def test_a_stale_pipeline_is_not_timed(monkeypatch):
    startup = importlib.import_module("startup")
    monkeypatch.setattr(startup, "run", lambda command: '{"train": ["changed"]}')
    with pytest.raises(SystemExit, match="run `make repro` first"):
        list(startup.results(SimpleNamespace(quick=False, rounds=1)))
    monkeypatch.setattr(startup, "run", lambda command: '{"source": ["always changed"]}')
    assert startup.finished(["dvc"])


RUNS = [
    growth_figures.Run(stage, images, 1 + images / 500, 700 + images * 5 * 1700 / 1e6)
    for stage in growth_figures.STAGES
    for images in (250, 1000, 4000)
]


def test_growth_is_the_difference_between_dataset_sizes(tmp_path):
    assert growth_figures.milliseconds(RUNS, "train") == {1000: pytest.approx(2.0), 4000: pytest.approx(2.0)}
    assert growth_figures.bytes_a_caption(RUNS, "vocab") == pytest.approx(1700)
    assert "| `vocab` | 708 MB, 2.00 ms | 734 MB, 2.00 ms | 1,700 |" in growth_figures.table(RUNS)
    growth_figures.write(tmp_path / "growth.tsv", RUNS)
    assert growth_figures.table(growth_figures.read(tmp_path / "growth.tsv")) == growth_figures.table(RUNS)
    growth_figures.plot(tmp_path / "growth.png", RUNS)
    assert (tmp_path / "growth.png").stat().st_size > 1000


@pytest.mark.slow
def test_growth_runs_the_real_stages_and_all_images_end_in_test(tmp_path):
    growth.make(tmp_path, 20)
    run_stage("source", tmp_path)
    run_stage("download", tmp_path)
    seconds, megabytes = growth.run("vocab", tmp_path)  # as its own process
    assert seconds > 0 and megabytes > 10
    for stage in ("resize", "encoder", "features", "train"):
        run_stage(stage, tmp_path)
    growth.turn_train_into_test(tmp_path, shutil.copytree(tmp_path / "data/models/train", tmp_path / "model"))
    run_stage("evaluate", tmp_path)
    assert len(json.loads((tmp_path / "data/hypotheses/test.json").read_text())) == 20
