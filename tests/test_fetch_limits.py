"""Downloads are limited in time, rate and size; malformed headers are ignored."""

import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from http_files import BODY, Handler, cut, good, remote, unmeasured

from showtell.core import files
from showtell.core.errors import UserError
from showtell.data.datasets import fetch as fetching
from showtell.data.datasets import transfer as transferring
from showtell.data.datasets.fetch import fetch, fetch_all
from showtell.data.datasets.transfer import RemoteFile


def test_wrong_announced_length_is_refused_before_the_body(server, tmp_path):
    server.plan = [lambda h: good(h, BODY[:-1])]
    with pytest.raises(UserError, match=r"offers 299,999 bytes, 300,000 are expected"):
        fetch(remote(server), tmp_path)
    assert list(tmp_path.glob("file.zip*")) == [tmp_path / "file.zip.lock"]


def test_too_many_or_too_few_bytes_of_unknown_length(server, tmp_path, waits):
    server.plan = [unmeasured(BODY + bytes(5_000_000)), *[unmeasured(BODY[:9])] * fetching.ATTEMPTS]
    with pytest.raises(UserError, match=r"are expected.*after 9 of 300,000"):
        fetch(remote(server, urls=(server.url,) * 2), tmp_path, sleep=waits.append)
    assert not (tmp_path / "file.zip").exists()
    server.plan = [unmeasured(BODY)]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_space_is_checked_before_the_first_byte(server, tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(UserError, match=r"needs 300,000 bytes more.*1,048,576 free"):
        fetch_all([remote(server)], tmp_path)
    assert server.paths == []


class Clock:
    """A clock that advances by `step` seconds with every call."""

    def __init__(self, step: float):
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_a_slow_source_is_given_up(server, tmp_path, waits, monkeypatch):
    server.plan = [cut(1000)] * 6
    monkeypatch.setattr(transferring, "clock", Clock(transferring.RATE_SPAN))
    with pytest.raises(UserError, match=r"gave up after 6 attempts: [\d,]+ bytes a second, less than"):
        fetch(remote(server), tmp_path, sleep=waits.append)
    assert len(waits) == 5


def test_a_source_with_slow_headers_is_given_up(tmp_path, waits, monkeypatch):
    monkeypatch.setattr(transferring, "HEADERS_SPAN", 0.3)
    monkeypatch.setattr(fetching, "ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip_headers, args=(listener,), daemon=True).start()
        file = RemoteFile("a.zip", (f"http://127.0.0.1:{listener.getsockname()[1]}/a.zip",))
        with pytest.raises(UserError, match="gave up after 2 attempts: no whole answer in 0 s"):
            fetch(file, tmp_path, sleep=waits.append)


def drip_headers(listener: socket.socket) -> None:
    """Send an endless header byte by byte, until the client hangs up."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while True:
                    connection.sendall(b"x")
                    time.sleep(0.02)


def test_all_attempts_of_a_download_share_one_time_limit(server, tmp_path, waits, monkeypatch):
    monkeypatch.setattr(transferring, "clock", Clock(fetching.LONGEST_DOWNLOAD / 2))
    server.plan = [cut(1000)] * 20
    with pytest.raises(UserError, match="longest time that a download may take"):
        fetch(remote(server), tmp_path, sleep=waits.append)
    assert len(server.paths) <= 2


def test_downloads_of_unknown_size_are_bounded(server, tmp_path, waits):
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
def test_malformed_headers_are_ignored(server, tmp_path, waits, headers):
    def act(handler: Handler) -> None:
        handler.answer(503, b"no", **headers)

    def half(handler: Handler) -> None:
        handler.answer(200, BODY[:1000], len(BODY), **headers)
        handler.close_connection = True

    server.plan = [act, half]
    assert fetch(remote(server), tmp_path, sleep=waits.append).read_bytes() == BODY
    assert all(0 <= wait <= 600 for wait in waits)
