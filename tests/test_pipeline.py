"""dvc.yaml is exact: it declares the code imported, the sections loaded and the paths touched, and no others."""

import ast
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, STAGES, run_stage
from import_graph import needed

from showtell.commands.costs.estimates import paths_of
from showtell.core.params import SECTIONS, SHARED, parts_of

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def expand(names: list[str], folder: Path) -> set[str]:
    """The files that these files and folders are, relative to `folder`."""
    files: set[str] = set()
    for name in names:
        path = folder / name
        inner = (
            [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts] if path.is_dir() else [path]
        )
        files |= {str(file.relative_to(folder)) for file in inner}
    return files


def files_in(folder: Path) -> set[str]:
    return {f for f in expand(["."], folder) if not f.startswith("work/")}


def code_deps(stage: str) -> list[str]:
    return [d for d in paths_of(DVC[stage], "deps") if d.startswith(("src/", "stages/"))]


def data_deps(stage: str) -> list[str]:
    return [d for d in paths_of(DVC[stage], "deps") if not d.startswith(("src/", "stages/"))]


def sections_of(stage: str) -> list[str]:
    """The sections of params.yaml that a stage depends on; none for `check`, which depends on the whole file."""
    return [key for key in DVC[stage].get("params", []) if isinstance(key, str)]


def test_stages_in_order():
    assert tuple(DVC) == STAGES
    assert [stage["cmd"] for stage in DVC.values()] == [f"python stages/{name}.py" for name in STAGES]


@pytest.mark.parametrize("stage", STAGES)
def test_code_is_declared(stage):
    script = ROOT / "stages" / f"{stage}.py"
    used = {str(path) for path in needed(script)} | {f"stages/{stage}.py"}
    declared = expand(code_deps(stage), ROOT)
    assert used - declared == set(), "imported, but not in deps"
    assert declared - used == set(), "in deps, but not imported"


@pytest.mark.parametrize("stage", STAGES)
def test_sections_are_declared(stage):
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "load"]
    names = {kind.partition(":")[2]: name for name, kind in SECTIONS.items()}
    loaded = {part for call in calls for part in parts_of(names[call.args[0].id])}
    assert loaded == {key.partition(".")[0] for key in sections_of(stage)}


@pytest.mark.parametrize(("shared", "section"), [(shared, section) for shared in SHARED for section in SHARED[shared]])
def test_the_shared_keys_that_a_stage_takes_are_declared(shared, section):
    keys = SHARED[shared][section]
    declared = {key for key in sections_of(section) if key.partition(".")[0] == shared}
    assert declared == ({shared} if keys is None else {f"{shared}.{key}" for key in keys})


def test_only_stages_load_sections():
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "showtell.core.params":
                assert "load" not in {alias.name for alias in node.names}, file


@pytest.mark.parametrize("stage", STAGES)
def test_stage_runs_from_its_deps_alone_and_writes_its_outs_alone(stage, copy_pipeline, pipeline):
    folder = copy_pipeline(*data_deps(stage))
    before = files_in(folder)
    run_stage(stage, folder)
    outs = paths_of(DVC[stage], "outs", "metrics", "plots")
    assert files_in(folder) - before == expand(outs, pipeline)
    assert not list((folder / "work").glob("*/")), "a finished stage leaves no workplace"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_needs_each_of_its_deps(stage, copy_pipeline, tmp_path):
    needs = expand(data_deps(stage), copy_pipeline(*data_deps(stage))) - {"data/checked.txt"}  # waited for, not read
    for number, missing in enumerate(sorted(needs)):
        folder = copy_pipeline(*data_deps(stage), folder=tmp_path / str(number))
        (folder / missing).unlink()
        try:
            run_stage(stage, folder)
        except Exception:  # whatever it says: other tests read the lines that users get
            continue
        pytest.fail(f"{stage} does not need {missing}")


def test_every_section_is_loaded_by_a_stage():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert set(params) == {key for stage in DVC for key in sections_of(stage) if "." not in key}


def test_beam_affects_evaluate_only():
    assert [name for name in DVC if "beam" in sections_of(name)] == ["evaluate"]


def test_every_stage_depends_on_check():
    """DVC deletes the outputs of a stage before it runs, so wrong parameters must be refused earlier."""
    made_by = {out: name for name in DVC for out in paths_of(DVC[name], "outs", "metrics", "plots")}

    def waits_for(stage: str) -> set[str]:
        before = {made for dep in data_deps(stage) for out, made in made_by.items() if f"{dep}/".startswith(f"{out}/")
                  or f"{out}/".startswith(f"{dep}/")}  # fmt: skip
        return before.union(*map(waits_for, before)) if before else set()

    assert all("check" in waits_for(stage) for stage in STAGES if stage != "check")
    assert DVC["check"]["params"] == [{"params.yaml": None}] and data_deps("check") == []


def test_test_references_are_read_by_evaluate_only():
    readers = [
        s
        for s in ("encoder", "features", "train", "finetune", "reinforce")
        if any("captions/test" in d or d == "data/captions" for d in data_deps(s))
    ]
    assert readers == []


def test_stages_are_short():
    for stage in STAGES:
        assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize(("setting", "line"), [("beam=3", "beam: 3"), ("learning.clip_at=1", "  clip_at: 1")])
def test_setting_a_parameter_changes_one_line(setting, line, tmp_path):
    """As `dvc exp run -S` does it, which rewrites params.yaml: another layout would hide the change in the diff."""
    from dvc.utils.hydra import apply_overrides

    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_text()
    path.write_text(text)
    apply_overrides(path, [setting])
    lines = zip(text.splitlines(), path.read_text().splitlines(), strict=True)
    changed = [new.partition("#")[0].rstrip() for old, new in lines if old != new]
    assert changed == [line]
