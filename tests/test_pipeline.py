"""dvc.yaml tells the truth: code imported, sections loaded, paths touched, all declared and none more."""

import ast
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, STAGES, run_stage
from import_graph import needed

from showtell.core.params import SECTIONS, parts_of

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def paths_of(stage: str, *keys: str) -> list[str]:
    entries = [entry for key in keys for entry in DVC[stage].get(key, [])]
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


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
    return [d for d in paths_of(stage, "deps") if d.startswith(("src/", "stages/"))]


def data_deps(stage: str) -> list[str]:
    return [d for d in paths_of(stage, "deps") if not d.startswith(("src/", "stages/"))]


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
    assert loaded == {key.partition(".")[0] for key in DVC[stage].get("params", [])}


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
    outs = paths_of(stage, "outs", "metrics", "plots")
    assert files_in(folder) - before == expand(outs, pipeline)
    assert not list((folder / "work").glob("*/")), "a finished stage leaves no workplace"


@pytest.mark.parametrize("stage", STAGES)
def test_stage_needs_each_of_its_deps(stage, copy_pipeline, tmp_path):
    for number, missing in enumerate(sorted(expand(data_deps(stage), copy_pipeline(*data_deps(stage))))):
        folder = copy_pipeline(*data_deps(stage), folder=tmp_path / str(number))
        (folder / missing).unlink()
        try:
            run_stage(stage, folder)
        except Exception:  # whatever says that the file is missing
            continue
        pytest.fail(f"{stage} does not need {missing}")


def test_every_section_is_some_stage_s():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    declared = {section for stage in DVC.values() for section in stage.get("params", [])}
    assert set(params) == {section for section in declared if "." not in section}


def test_beam_touches_evaluate_alone():
    assert [name for name, stage in DVC.items() if "beam" in stage.get("params", [])] == ["evaluate"]


def test_test_references_are_read_by_evaluate_alone():
    readers = [
        s
        for s in ("encoder", "features", "train", "finetune")
        if any("captions/test" in d or d == "data/captions" for d in data_deps(s))
    ]
    assert readers == []


def test_stages_are_short():
    for stage in STAGES:
        assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 60


def test_setting_a_parameter_changes_its_line_alone():
    """`dvc exp run -S` rewrites params.yaml with this library; what it would lay out anew would drown the change."""
    from io import StringIO

    from ruamel.yaml import YAML

    text, out = (ROOT / "params.yaml").read_text(), StringIO()
    yaml_file = YAML()
    content = yaml_file.load(text)
    content["beam"] = 3
    yaml_file.dump(content, out)
    changed = [new for old, new in zip(text.splitlines(), out.getvalue().splitlines(), strict=True) if old != new]
    assert changed == ["beam: 3"]
