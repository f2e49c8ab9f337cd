"""Downloads against a real HTTP server on loopback that misbehaves in every way that servers do."""

import gzip
import hashlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from showtell.core import files
from showtell.core.errors import UserError
from showtell.data.datasets import fetch as fetching
from showtell.data.datasets import transfer as transferring
from showtell.data.datasets.fetch import fetch, fetch_all, mismatch
from showtell.data.datasets.transfer import RemoteFile

BODY = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()


class Server:
    """Serves BODY; `plan` holds what to do with the next requests, then everything is as it should be."""

    def __init__(self):
        self.plan: list[Callable[[Handler], None]] = []
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.if_ranges: list[str | None] = []
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.server = self
        self.httpd.handle_error = lambda *_: None  # a client that hangs up is what is tested here
        self.thread = threading.Thread(target=self.httpd.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.httpd.server_port}/file.zip"

    def stop(self) -> None:
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server.server
        server.ranges.append(self.headers.get("Range"))
        server.if_ranges.append(self.headers.get("If-Range"))
        server.paths.append(self.path)
        action = server.plan.pop(0) if server.plan else good
        try:
            action(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, status: int, body: bytes, length: int | None = -1, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def start(self) -> int:
        span = self.headers.get("Range")
        return int(span.removeprefix("bytes=").rstrip("-")) if span else 0


def good(handler: Handler, body: bytes = BODY, tag: str = '"one"') -> None:
    start = handler.start()
    if start and handler.headers.get("If-Range") not in (None, tag):
        start = 0
    if start >= len(body):
        handler.answer(416, b"", Content_Range=f"bytes */{len(body)}")
    elif start:
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.answer(206, body[start:], Content_Range=span, ETag=tag)
    else:
        handler.answer(200, body, ETag=tag)


def no_range(handler: Handler) -> None:
    handler.answer(200, BODY)


def cut(after: int, ranges: bool = True) -> Callable[[Handler], None]:
    """Promise everything, send `after` bytes, hang up."""

    def act(handler: Handler) -> None:
        start = handler.start() if ranges else 0
        span = {"Content_Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
        handler.answer(206 if start else 200, BODY[start : start + after], len(BODY) - start, ETag='"one"', **span)
        handler.close_connection = True

    return act


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(code, b"no", **headers)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def waits() -> list[float]:
    return []


def remote(server: Server, **changes) -> RemoteFile:
    return RemoteFile(**{"name": "file.zip", "urls": (server.url,), "size": len(BODY), "sha256": SHA} | changes)


def folder_is_clean(folder) -> bool:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock")) == ["file.zip"]


def test_whole_file_is_fetched_once(server, tmp_path):
    path = fetch(remote(server), tmp_path)
    assert path.read_bytes() == BODY and folder_is_clean(tmp_path)
    fetch(remote(server), tmp_path)
    assert len(server.paths) == 1


def test_cut_connections_resume_where_they_broke(server, tmp_path, waits):
    server.plan = [cut(100_000), cut(50_001), cut(1)]
    path = fetch(remote(server), tmp_path, sleep=waits.append)
    assert path.read_bytes() == BODY and folder_is_clean(tmp_path)
    assert server.ranges == [None, "bytes=100000-", "bytes=150001-", "bytes=150002-"]
    assert waits == [1.0, 1.0, 1.0]  # every attempt brought something: patience starts anew


def test_a_server_without_range_starts_over(server, tmp_path, waits):
    server.plan = [cut(100_000, ranges=False), no_range]
    assert fetch(remote(server), tmp_path, sleep=waits.append).read_bytes() == BODY


def test_every_byte_before_a_cut_is_kept(server, tmp_path, waits):
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


def test_a_changed_file_is_not_glued_to_its_old_half(server, tmp_path, waits):
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


def test_404_goes_to_the_mirror_at_once(server, tmp_path, waits):
    server.plan = [status(404)]
    file = remote(server, urls=(server.url, server.url.replace("file.zip", "mirror/file.zip")))
    assert fetch(file, tmp_path, sleep=waits.append).read_bytes() == BODY
    assert server.paths == ["/file.zip", "/mirror/file.zip"] and waits == []


def test_own_mirror_comes_first(server, tmp_path):
    fetch(remote(server), tmp_path, mirror=server.url.replace("/file.zip", "/mine/"))
    assert server.paths == ["/mine/file.zip"]


def test_a_half_from_one_source_is_finished_by_the_next(server, tmp_path, waits):
    server.plan = [cut(200_000), status(410)]
    file = remote(server, urls=(server.url, server.url))
    assert fetch(file, tmp_path, sleep=waits.append).read_bytes() == BODY
    assert server.ranges[-1] == "bytes=200000-"


def test_wrong_checksum_never_becomes_the_file(server, tmp_path, waits):
    server.plan = [lambda h: good(h, bytes(len(BODY)))]
    with pytest.raises(UserError, match=f"wrong checksum.*{SHA}"):
        fetch(remote(server), tmp_path, sleep=waits.append)
    assert not (tmp_path / "file.zip").exists() and not (tmp_path / "file.zip.part").exists()
    server.plan = [lambda h: good(h, bytes(len(BODY)))]
    assert fetch(remote(server, urls=(server.url,) * 2), tmp_path).read_bytes() == BODY


def test_md5_is_checked_when_there_is_no_sha256(server, tmp_path):
    with pytest.raises(UserError, match="wrong checksum"):
        fetch(remote(server, sha256=None, md5="0" * 32), tmp_path)
    assert fetch(remote(server, sha256=None, md5=hashlib.md5(BODY).hexdigest()), tmp_path).read_bytes() == BODY


def test_wrong_announced_length_is_refused_before_the_body(server, tmp_path):
    server.plan = [lambda h: good(h, BODY[:-1])]
    with pytest.raises(UserError, match=r"offers 299,999 bytes, 300,000 are expected"):
        fetch(remote(server), tmp_path)
    assert list(tmp_path.glob("file.zip*")) == [tmp_path / "file.zip.lock"]


def unmeasured(body: bytes) -> Callable[[Handler], None]:
    def act(handler: Handler) -> None:
        handler.answer(200, body, None, Connection="close")
        handler.close_connection = True

    return act


def test_too_many_or_too_few_bytes_of_unknown_length(server, tmp_path, waits):
    server.plan = [unmeasured(BODY + bytes(5_000_000)), *[unmeasured(BODY[:9])] * fetching.ATTEMPTS]
    with pytest.raises(UserError, match=r"are expected.*after 9 of 300,000"):
        fetch(remote(server, urls=(server.url,) * 2), tmp_path, sleep=waits.append)
    assert not (tmp_path / "file.zip").exists()
    server.plan = [unmeasured(BODY)]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_busy_servers_are_given_time(server, tmp_path, waits):
    server.plan = [status(503, Retry_After="7"), status(500), status(429)]
    assert fetch(remote(server), tmp_path, sleep=waits.append).read_bytes() == BODY
    assert waits == [7.0, 2.0, 4.0]


def test_a_dead_source_is_given_up(server, tmp_path, waits):
    dead = "http://127.0.0.1:9/file.zip"
    assert fetch(remote(server, urls=(dead, server.url)), tmp_path, sleep=waits.append).read_bytes() == BODY
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_a_wrong_url_is_no_traceback(tmp_path):
    with pytest.raises(UserError, match="gopher"):
        fetch(RemoteFile("file.zip", ("gopher://x/file.zip",)), tmp_path)


def test_transparent_compression_is_undone(server, tmp_path):
    server.plan = [lambda h: h.answer(200, gzip.compress(BODY), Content_Encoding="gzip")]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_a_gz_file_called_an_encoding_is_left_as_it_is(server, tmp_path):
    packed = gzip.compress(BODY, mtime=0)
    server.plan = [lambda h: h.answer(200, packed, Content_Encoding="gzip")]
    file = RemoteFile("a.tar.gz", (server.url,), len(packed), hashlib.sha256(packed).hexdigest())
    assert fetch(file, tmp_path).read_bytes() == packed


def test_space_is_checked_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(UserError, match=r"needs 300,000 bytes more.*1,048,576 free"):
        fetch_all([remote(server)], tmp_path)
    assert server.paths == []


def test_two_runs_at_once_share_one_download(server, tmp_path):
    release = threading.Event()

    def slow(handler):
        release.wait(10)
        good(handler)

    server.plan = [slow]
    threads = [threading.Thread(target=fetch, args=(remote(server), tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    release.set()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.zip").read_bytes() == BODY and len(server.paths) == 1


def test_mismatch_names_what_differs(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert mismatch(path, RemoteFile("a", (), 3)) is None
    assert "3 bytes, 4 are expected" in mismatch(path, RemoteFile("a", (), 4))


CHILD = """
import sys
from pathlib import Path
from showtell.data.datasets.fetch import fetch
from showtell.data.datasets.transfer import RemoteFile
fetch(RemoteFile("file.zip", (sys.argv[1],), int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]))
"""


def test_killed_at_any_moment_the_next_run_goes_on(server, tmp_path):
    """SIGKILL while the body stands at three places; each run starts where the one before was killed."""
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


class Clock:
    """Time that passes by `step` seconds whenever it is asked for."""

    def __init__(self, step: float):
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_source_that_only_drips_is_left(server, tmp_path, waits, monkeypatch):
    server.plan = [cut(1000)] * 6
    monkeypatch.setattr(transferring, "clock", Clock(transferring.RATE_SPAN))
    with pytest.raises(UserError, match=r"gave up after 6 attempts: [\d,]+ bytes a second, less than"):
        fetch(remote(server), tmp_path, sleep=waits.append)
    assert len(waits) == 5


def test_a_source_that_drips_its_headers_is_left(tmp_path, waits, monkeypatch):
    monkeypatch.setattr(transferring, "HEADERS_SPAN", 0.3)
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip_headers, args=(listener,), daemon=True).start()
        file = RemoteFile("a.zip", (f"http://127.0.0.1:{listener.getsockname()[1]}/a.zip",))
        with pytest.raises(UserError, match="gave up after 2 attempts: no whole answer in 0 s"):
            fetch(file, tmp_path, sleep=waits.append)


def drip_headers(listener: socket.socket) -> None:
    """One byte after another of a header that has no end, until the other side hangs up."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.02)


def test_a_download_has_an_end_however_often_it_goes_on(server, tmp_path, waits, monkeypatch):
    monkeypatch.setattr(transferring, "clock", Clock(fetching.LONGEST_DOWNLOAD / 2))
    server.plan = [cut(1000)] * 20
    with pytest.raises(UserError, match="longest time that a download may take"):
        fetch(remote(server), tmp_path, sleep=waits.append)
    assert len(server.paths) <= 2


def test_a_size_that_nobody_published_is_bounded(server, tmp_path, waits):
    with pytest.raises(UserError, match="offers 300,000 bytes, at most 1,000 are accepted"):
        fetch(remote(server, size=None, sha256=None, most=1000), tmp_path, sleep=waits.append)
    server.plan = [lambda handler: handler.answer(200, BODY, None, Connection="close")]
    with pytest.raises(UserError, match="sends more than the 1,000 bytes"):
        fetch(remote(server, size=None, sha256=None, most=1000), tmp_path, sleep=waits.append)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"caf\u00e9"'}, {"Last-Modified": "x" * 5000}, {"Retry-After": "9" * 400}, {"Retry-After": "\u00b2"},
        {"Retry-After": "Mon, 01 Jan 99999 00:00:00 GMT"}, {"Content-Range": "bytes \u00b2-9/\u00b3"},
        {"Content-Range": "bytes " + "9" * 5000 + "-/"}, {"Content-Encoding": "snake-oil"},
    ],
)  # fmt: skip
def test_invented_headers_do_no_harm(server, tmp_path, waits, headers):
    def act(handler: Handler) -> None:
        handler.answer(503, b"no", **headers)

    def half(handler: Handler) -> None:
        handler.answer(200, BODY[:1000], len(BODY), **headers)
        handler.close_connection = True

    server.plan = [act, half]
    assert fetch(remote(server), tmp_path, sleep=waits.append).read_bytes() == BODY
    assert all(0 <= wait <= 600 for wait in waits)


def test_what_a_killed_process_left_half_written_is_removed(server, tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".file.zip.source.{gone.pid}-0123abcd.part"
    left.touch()
    fetch(remote(server), tmp_path)
    assert folder_is_clean(tmp_path)
