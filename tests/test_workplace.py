"""State to resume from belongs to one set of params and one process at a time; files appear whole or not at all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, inside
from safetensors.torch import save_file

from showtell.core import code
from showtell.core.code import PACKAGE, code_fingerprint
from showtell.core.errors import UserError
from showtell.core.files import atomic, atomic_folder, fingerprint, read_json, sweep, write_json
from showtell.core.workplace import held, workplace


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["n" * 255, "\u4e2d" * 85, "n" * 199 + "\xe9" * 28])
def test_names_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    write_json(tmp_path / name, {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("content", [None, "{", "\xff"])
def test_missing_and_broken_json_are_one_line(content, tmp_path):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(path)


def test_a_fingerprint_depends_on_content_not_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})


def test_output_follows_the_umask_and_leaves_no_temporary_name(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic(tmp_path / "model.safetensors") as temporary:
            save_file({"a": torch.ones(2)}, temporary)  # its file is readable by the owner only
        with atomic_folder(tmp_path / "report") as folder:
            (folder / "index.html").write_text("page")
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "report").stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "report"]


def test_a_folder_is_replaced_whole(tmp_path):
    with atomic_folder(tmp_path / "report") as folder:
        (folder / "old").touch()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "report") as folder:
        (folder / "new").touch()
        raise RuntimeError
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_two_writers_of_one_file_have_names_of_their_own(tmp_path):
    with atomic(tmp_path / "a") as one, atomic(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"  # the last writer


def test_temporary_files_of_ended_processes_are_removed_and_no_others(tmp_path):
    code = (
        "import os, pathlib, sys\nfrom showtell.core.files import atomic, atomic_folder\n"
        "with atomic(pathlib.Path('data/deep/a.json')), atomic_folder(pathlib.Path('data/report')): os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path)
    assert len(list((tmp_path / "data").rglob(".*.part"))) == 2
    (tmp_path / "data" / ".mine.part").touch()
    with atomic(tmp_path / "data" / "alive.json") as temporary:
        sweep(tmp_path / "data")
        assert temporary.exists()
    assert [path.name for path in (tmp_path / "data").rglob(".*")] == [".mine.part"]


SCRIPT = "from showtell.core import machine\n\ndef main():\n    return {}\n"


def script(folder: Path, value: str = "1", name: str = "train.py") -> Path:
    (folder / name).write_text(SCRIPT.format(value))
    return folder / name


def test_unfinished_work_is_resumed_for_the_same_identity_only(tmp_path):
    train = script(tmp_path)
    with inside(tmp_path):
        with workplace(train, {"rate": 1}) as place:
            (place / "latest.pt").write_text("state")
        with workplace(train, {"rate": 2}) as place:
            assert not (place / "latest.pt").exists()
        with workplace(train, {"rate": 1}) as place:
            assert (place / "latest.pt").read_text() == "state"
            place.finish()
        with workplace(train, {"rate": 1}) as place:
            assert not (place / "latest.pt").exists()


def test_unfinished_work_of_other_code_is_removed_with_a_line(tmp_path, capsys):
    with inside(tmp_path):
        with workplace(script(tmp_path), {"rate": 1}) as place:
            (place / "latest.pt").write_text("state")
        with workplace(script(tmp_path, "1  # a comment"), {"rate": 1}) as place:
            assert (place / "latest.pt").exists()
        assert capsys.readouterr().err == ""
        with workplace(script(tmp_path, "2"), {"rate": 1}) as other:
            assert not (other / "latest.pt").exists() and not place.folder.exists()
        assert f"train: the code has changed since {place.folder} was begun" in capsys.readouterr().err


SAID = '''"""What it is."""

from showtell.core import machine

@machine.cache
class Thing:
    """What it is."""

    def many(self, among=frozenset({"a", "b"})):
        """How many."""
        assert among
        return 3 if "c" in {"a", "b", "d"} else 4
'''
SAME = (
    SAID.replace("What it is.", "Something\n\nelse."),
    SAID.replace("    def", "    # how many\n\n    def"),
    SAID.replace("many(self,", "many(\n        self,"),
    SAID.replace("        assert among\n", ""),
)
OTHER = (SAID.replace("3", "5"), SAID.replace("many", "few"), SAID.replace("core import machine", "core import files"))


def test_comments_docstrings_and_layout_do_not_change_the_code_fingerprint(tmp_path):
    file = tmp_path / "stage.py"

    def name(text: str) -> str:
        file.write_text(text)
        return code_fingerprint(file)

    assert {name(text) for text in SAME} == {name(SAID)}
    assert len({name(text) for text in (SAID, *OTHER)}) == 4


def test_a_change_in_a_module_that_a_stage_imports_is_a_change_of_its_code(tmp_path, monkeypatch):
    shutil.copytree(PACKAGE, tmp_path / "showtell", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "showtell")
    stages = [ROOT / "stages" / f"{name}.py" for name in ("vocab", "train")]
    before = [code_fingerprint(stage) for stage in stages]
    losses = tmp_path / "showtell" / "learning" / "losses.py"
    losses.write_text(losses.read_text().replace("/ positions", "/ (positions + 1)"))
    after = [code_fingerprint(stage) for stage in stages]
    assert after[0] == before[0] and after[1] != before[1]


def test_files_that_editors_leave_are_no_code(tmp_path, monkeypatch):
    shutil.copytree(PACKAGE, tmp_path / "showtell", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "showtell")
    before = code_fingerprint(ROOT / "stages" / "train.py")
    left = [".loop.py.swp", "loop.py~", "#loop.py#", ".DS_Store"]
    for name in left:
        (tmp_path / "showtell" / "learning" / name).write_text("left")
    assert code_fingerprint(ROOT / "stages" / "train.py") == before
    asked = [f"src/showtell/learning/{name}" for name in left]
    ignored = subprocess.run(
        [sys.executable, "-m", "dvc", "check-ignore", *asked], cwd=ROOT, capture_output=True, text=True
    )
    assert ignored.stdout.splitlines() == asked, "directories among the deps would change"


HOLD = """
from showtell.core.workplace import held
with held('train'):
    print('in', flush=True)
    input()
"""


def test_a_second_run_of_a_stage_names_the_first(tmp_path):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "in\n"
        running = f"already running here .process {first.pid} holds work/train.lock"
        with inside(tmp_path), pytest.raises(UserError, match=running), workplace(script(tmp_path), {"other": 1}):
            pass
        with inside(tmp_path), held("finetune"):
            pass
        first.kill()  # the kernel drops the lock of a killed process
        first.wait()
        with inside(tmp_path), held("train"), workplace(script(tmp_path), {"other": 1}):
            pass
    finally:
        first.kill()
        first.communicate()
