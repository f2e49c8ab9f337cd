"""State to resume from belongs to one set of params and to one process at a time; files appear whole or not at all."""

import subprocess
import sys

import pytest
from conftest import inside

from showtell.core.errors import UserError
from showtell.core.files import atomic, fingerprint, read_json, write_json
from showtell.core.workplace import workplace


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [None, "{", "\xff"])
def test_missing_and_broken_json_are_one_line(content, tmp_path):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(path)


def test_a_fingerprint_names_content_not_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})


def test_what_is_left_is_found_again_by_the_same_identity_alone(tmp_path):
    with inside(tmp_path):
        with workplace("train", {"rate": 1}) as place:
            (place / "latest.pt").write_text("state")
        with workplace("train", {"rate": 2}) as place:
            assert not (place / "latest.pt").exists()
        with workplace("train", {"rate": 1}) as place:
            assert (place / "latest.pt").read_text() == "state"
            place.finish()
        with workplace("train", {"rate": 1}) as place:
            assert not (place / "latest.pt").exists()


def test_a_second_process_is_told_who_is_at_work(tmp_path):
    code = (
        "from showtell.core.workplace import workplace\n"
        "with workplace('train', 1) as p: print('in', flush=True); input()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout.readline() == "in\n"
        with (
            inside(tmp_path),
            pytest.raises(UserError, match=f"already running here .process {first.pid}"),
            workplace("train", 1),
        ):
            pass
        first.kill()  # the kernel drops the lock of a killed process
        first.wait()
        with inside(tmp_path), workplace("train", 1):
            pass
    finally:
        first.kill()
        first.communicate()
