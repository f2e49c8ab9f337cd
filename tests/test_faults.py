"""Errors of disk and terminal are one line that says what to do; internal errors are tracebacks."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import full_disks
import pytest

from showtell.core import errors
from showtell.core.errors import UserError, explained
from showtell.core.files import atomic, atomic_folder, naming, write_json, write_json_list
from showtell.core.progress import log

STAGE = """
import sys
from pathlib import Path
from showtell.core.files import atomic, naming, write_json
from showtell.core.stage import run_stage

def main():
    {body}

if __name__ == "__main__":
    run_stage(main)
"""


def run(folder: Path, body: str, **environment: str) -> subprocess.CompletedProcess:
    """A stage with this body, run in `folder` with these environment variables."""
    (folder / "train.py").write_text(STAGE.format(body=body), encoding="utf-8")
    command = [sys.executable, folder / "train.py"]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, timeout=600)


def test_a_stage_ends_with_its_outputs_and_duration(tmp_path):
    done = run(tmp_path, "return 'a model is in data/models'")
    assert done.returncode == 0
    assert re.fullmatch(rb"train: a model is in data/models \(\d+\.\d s\)\n", done.stderr)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["train.lock"]


def test_a_stage_runs_once_at_a_time_in_a_folder_whatever_its_parameters(tmp_path):
    (tmp_path / "train.py").write_text(STAGE.format(body="print('in', flush=True); input(); return 'all'"))
    command, pipe = [sys.executable, "train.py"], subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as first:
        assert first.stdout.readline() == "in\n"
        second = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert (second.returncode, second.stdout) == (1, "")
        assert re.fullmatch(rf"error: stage train is already running here .process {first.pid} .*\n", second.stderr)
        _, said = first.communicate("\n")
    assert first.returncode == 0 and said.startswith("train: all (")


def test_internal_errors_keep_their_traceback(tmp_path):
    for body in ("raise OSError('no number')", "open('nowhere')", "raise RuntimeError", "1 / 0"):
        done = run(tmp_path, body)
        assert done.returncode == 1 and b"Traceback" in done.stderr


@pytest.mark.parametrize("name", ["work", "data"])
def test_a_file_where_a_folder_must_be_is_one_line(name, tmp_path):
    (tmp_path / name).write_text("a file")
    done = run(tmp_path, "write_json(Path('data/a.json'), 1)")
    assert done.returncode == 1
    assert re.fullmatch(rb"error: %b: (file exists|not a directory); .*: move it away\n" % name.encode(), done.stderr)


@pytest.mark.parametrize("write", [atomic, atomic_folder])
@pytest.mark.parametrize("name", ["a.json", "b/a.json"])
def test_a_folder_that_was_deleted_while_in_use_is_named(name, write, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    told = f"{name}: nothing can be created in .*; choose another folder"
    with pytest.raises(UserError, match=told), write(Path(name)):
        pass


@pytest.mark.parametrize(("owner", "name"), [(Path, "touch"), (os, "replace"), (os, "fsync")])
def test_permission_errors_name_the_final_file(owner, name, tmp_path, monkeypatch):
    """Not the temporary file. Errors are raised by a patch, since root ignores file modes."""

    def refuse(path, *_, **__) -> None:
        raise OSError(errno.EROFS, "Read-only file system", None if isinstance(path, int) else str(path))

    monkeypatch.setattr(owner, name, refuse)
    if name == "touch":  # neither creating nor removing is permitted
        monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError) as told:
        write_json(tmp_path / "a.json", 1)
    assert re.fullmatch(r"\S*/a\.json: read-only file system; .*", explained(told.value))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_with_the_file_and_nothing_is_half_written(tmp_path):
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); "
    ignored = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.json").write_text("old")
    done = run(tmp_path, f"{limited}{ignored}write_json(Path('data/a.json'), 'x' * 10_000)")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"error: data/a.json: file too large; ")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["a.json"]
    assert (tmp_path / "data" / "a.json").read_text() == "old"


def test_full_disks_are_recognised_in_the_errors_of_libraries(tmp_path):
    command = [sys.executable, full_disks.__file__]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[1::2] == [f"{write.__name__} 1" for write in full_disks.WRITERS]
    assert len(said) == 2 * len(full_disks.WRITERS)
    assert all(re.fullmatch(r"error: a\.file: file too large; .*", line) for line in said[::2])


def test_the_line_has_path_reason_and_what_to_do():
    error = OSError(errno.EACCES, "x", "a/b")
    assert explained(error).startswith("a/b: permission denied; check whose it is")
    assert explained(OSError(errno.ENOSPC, "x", b"a", None, b"b")).startswith("a -> b: no space left on device; make")
    assert explained(UserError("the words")) == "the words"
    assert explained(OSError(errno.ENOENT, "x", "a")) is None and explained(ValueError("errno 28")) is None


def test_a_folder_that_does_not_fit_another_disk_names_its_target():
    several = shutil.Error([("work/a", "data/.a.part", "[Errno 28] No space left on device: 'data/.a.part'")])
    with pytest.raises(OSError) as caught, naming(Path("data/a")):
        raise several
    assert explained(caught.value).startswith("data/a: no space left on device; make room")


def test_characters_that_a_terminal_cannot_show_are_replaced(tmp_path):
    body = "print('\\u4e2d\\udcff \\xe9'); sys.stderr.write('\\u4e2d\\n'); return 'done \\u4e2d'"
    for encoding, shown in (("latin-1", b"?? \xe9\n"), ("ascii", b"?? ?\n"), ("utf-8", b"\xe4\xb8\xad? \xc3\xa9\n")):
        done = run(tmp_path, body, PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stdout) == (0, shown)


def test_control_characters_are_not_sent_to_a_terminal(capsys):
    log("a\x1b[31m\x07 b\nc\u202e \xe9")
    assert capsys.readouterr().err == "a\ufffd[31m\ufffd b\nc\ufffd \xe9\n"


@pytest.mark.parametrize("items", [[], [1], [{"a": "two\nlines\u2028and \x85 é"}, {"b": [1, {"c": None}]}, {}, []]])
def test_a_list_written_item_by_item_has_the_same_bytes(tmp_path, items):
    write_json(tmp_path / "whole.json", items)
    write_json_list(tmp_path / "items.json", iter(items))
    assert (tmp_path / "items.json").read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_output_that_cannot_be_written_is_one_line(tmp_path):
    command = f"{sys.executable} -c 'from showtell.core.errors import run; run(lambda: print(1))' > /dev/full"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, timeout=600)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"no space left on device" in done.stderr


def test_errors_of_a_user_are_a_line_without_control_characters(capsys):
    def main() -> None:
        raise UserError("no file \x1b[2J")

    with pytest.raises(SystemExit) as ended:
        errors.run(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: no file \ufffd[2J\n"
