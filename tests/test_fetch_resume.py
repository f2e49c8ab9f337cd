"""Interrupted downloads continue from the bytes that they have, if these are of the same file."""

import signal
import subprocess
import sys
import threading
import time

import pytest
from http_files import BODY, SHA, cut, folder_is_clean, good, no_range, remote, status

from showtell.core.errors import UserError
from showtell.data.datasets.fetch import fetch


def test_cut_connections_resume_where_they_broke(server, tmp_path, waits):
    server.plan = [cut(100_000), cut(50_001), cut(1)]
    path = fetch(remote(server), tmp_path, sleep=waits.append)
    assert path.read_bytes() == BODY and folder_is_clean(tmp_path)
    assert server.ranges == [None, "bytes=100000-", "bytes=150001-", "bytes=150002-"]
    assert waits == [1.0, 1.0, 1.0]  # after progress the waiting time is reset


def test_a_server_without_range_starts_over(server, tmp_path, waits):
    server.plan = [cut(100_000, ranges=False), no_range]
    assert fetch(remote(server), tmp_path, sleep=waits.append).read_bytes() == BODY


def test_bytes_received_before_a_cut_are_kept(server, tmp_path, waits):
    server.plan = [cut(123_457), status(404)]
    with pytest.raises(UserError, match="404"):
        fetch(remote(server), tmp_path, sleep=waits.append)
    assert (tmp_path / "file.zip.part").read_bytes() == BODY[:123_457]
    assert not (tmp_path / "file.zip").exists()


def test_a_part_of_something_else_is_replaced(server, tmp_path, waits):
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    assert fetch(remote(server), tmp_path, sleep=waits.append).read_bytes() == BODY
    assert server.ranges == ["bytes=1000-", None]


def test_a_part_that_is_too_long_is_replaced(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(BODY + b"more")
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_a_complete_part_needs_no_transfer(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(BODY)
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert server.paths == []


def test_416_on_a_complete_part_of_unknown_size(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(BODY)
    assert fetch(remote(server, size=None), tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]


def test_416_on_a_part_longer_than_the_file(server, tmp_path, waits):
    (tmp_path / "file.zip.part").write_bytes(BODY + b"tail")
    assert fetch(remote(server, size=None), tmp_path, sleep=waits.append).read_bytes() == BODY


def test_a_part_of_a_changed_file_is_discarded(server, tmp_path, waits):
    def changed(handler):
        good(handler, tag='"two"')

    server.plan = [cut(1000), changed]
    file = remote(server, size=None, sha256=None)
    assert fetch(file, tmp_path, sleep=waits.append).read_bytes() == BODY
    assert server.if_ranges == [None, '"one"']


def test_without_checksum_nor_version_nothing_is_resumed(server, tmp_path, waits):
    (tmp_path / "file.zip.part").write_bytes(b"x" * 1000)
    assert fetch(remote(server, size=None, sha256=None), tmp_path).read_bytes() == BODY
    assert server.ranges == [None]


def test_the_next_source_continues_the_part_of_the_first(server, tmp_path, waits):
    server.plan = [cut(200_000), status(410)]
    file = remote(server, urls=(server.url, server.url))
    assert fetch(file, tmp_path, sleep=waits.append).read_bytes() == BODY
    assert server.ranges[-1] == "bytes=200000-"


CHILD = """
import sys
from pathlib import Path
from showtell.data.datasets.fetch import fetch
from showtell.data.datasets.transfer import RemoteFile
fetch(RemoteFile("file.zip", (sys.argv[1],), int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]))
"""


def test_a_killed_download_is_continued(server, tmp_path):
    """SIGKILL after three amounts of bytes; each run continues the part of the previous one."""
    for stop in (70_000, 140_000, 290_000):
        reached, killed = threading.Event(), threading.Event()

        def stalled(handler, stop=stop, reached=reached, killed=killed):
            start = handler.start()
            span = {"Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
            handler.answer(206 if start else 200, BODY[start:stop], len(BODY) - start, ETag='"one"', **span)
            reached.set()
            killed.wait(10)
            handler.close_connection = True

        server.plan = [stalled]
        command = [sys.executable, "-c", CHILD, server.url, str(len(BODY)), SHA, str(tmp_path)]
        with subprocess.Popen(command) as child:
            assert reached.wait(20)
            deadline = time.monotonic() + 300
            while not (tmp_path / "file.zip.part").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
        killed.set()
        part = (tmp_path / "file.zip.part").read_bytes()
        assert part == BODY[: len(part)]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY
    assert folder_is_clean(tmp_path)


def test_temporary_files_of_killed_processes_are_removed(server, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".file.zip.source.{gone.pid}-0123abcd.part"
    left.touch()
    fetch(remote(server), tmp_path)
    assert folder_is_clean(tmp_path)
