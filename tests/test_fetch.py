"""Downloads of one file: sources, mirrors, checksums, retries. The server is real, on loopback."""

import gzip
import hashlib
import threading
import time

import pytest
from http_files import BODY, SHA, folder_is_clean, good, remote, status

from showtell.core.errors import UserError
from showtell.data.datasets.fetch import fetch, mismatch
from showtell.data.datasets.transfer import RemoteFile


def test_whole_file_is_fetched_once(server, tmp_path):
    path = fetch(remote(server), tmp_path)
    assert path.read_bytes() == BODY and folder_is_clean(tmp_path)
    fetch(remote(server), tmp_path)
    assert len(server.paths) == 1


def test_404_goes_to_the_mirror_at_once(server, tmp_path, waits):
    server.plan = [status(404)]
    file = remote(server, urls=(server.url, server.url.replace("file.zip", "mirror/file.zip")))
    assert fetch(file, tmp_path, sleep=waits.append).read_bytes() == BODY
    assert server.paths == ["/file.zip", "/mirror/file.zip"] and waits == []


def test_own_mirror_comes_first(server, tmp_path):
    fetch(remote(server), tmp_path, mirror=server.url.replace("/file.zip", "/mine/"))
    assert server.paths == ["/mine/file.zip"]


def test_a_file_with_a_wrong_checksum_is_removed(server, tmp_path, waits):
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


def test_busy_servers_are_retried(server, tmp_path, waits):
    server.plan = [status(503, Retry_After="7"), status(500), status(429)]
    assert fetch(remote(server), tmp_path, sleep=waits.append).read_bytes() == BODY
    assert waits == [7.0, 2.0, 4.0]


def test_an_unreachable_source_is_given_up(server, tmp_path, waits):
    dead = "http://127.0.0.1:9/file.zip"
    assert fetch(remote(server, urls=(dead, server.url)), tmp_path, sleep=waits.append).read_bytes() == BODY
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_a_wrong_url_is_no_traceback(tmp_path):
    with pytest.raises(UserError, match="gopher"):
        fetch(RemoteFile("file.zip", ("gopher://x/file.zip",)), tmp_path)


def test_transparent_compression_is_undone(server, tmp_path):
    server.plan = [lambda h: h.answer(200, gzip.compress(BODY), Content_Encoding="gzip")]
    assert fetch(remote(server), tmp_path).read_bytes() == BODY


def test_a_gz_file_announced_as_an_encoding_is_kept(server, tmp_path):
    packed = gzip.compress(BODY, mtime=0)
    server.plan = [lambda h: h.answer(200, packed, Content_Encoding="gzip")]
    file = RemoteFile("a.tar.gz", (server.url,), len(packed), hashlib.sha256(packed).hexdigest())
    assert fetch(file, tmp_path).read_bytes() == packed


def test_parallel_runs_share_one_download(server, tmp_path):
    release, begun = threading.Event(), threading.Barrier(4)

    def slow(handler):
        release.wait(300)
        good(handler)

    def together():
        begun.wait(300)
        fetch(remote(server), tmp_path)

    server.plan = [slow]
    threads = [threading.Thread(target=together) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait(300)
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
