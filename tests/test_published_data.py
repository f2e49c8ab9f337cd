"""Published datasets: downloads, checksums, number of images."""

import dataclasses
import hashlib
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import layouts
import pytest
from dataset_stages import check_stores, run, settle

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.data.datasets import published, source
from showtell.data.datasets.coco import COCO
from showtell.data.datasets.flickr import FLICKR8K, FLICKR30K
from showtell.data.datasets.transfer import RemoteFile


def test_other_counts_than_published_are_named(home, tmp_path):
    layouts.make_flickr(tmp_path / "f", "flickr8k")
    settle(home, "flickr8k", download__source=str(tmp_path / "f"))
    with pytest.raises(UserError, match="6 train images where 6000 are expected; 3 val images where 1000"):
        run("download")
    assert not paths.CAPTIONS_RAW.exists()


def tiny(dataset, folder: Path, base: str, count: int = 12):
    """`dataset` with the small archives in `folder` as the published ones."""

    def remote(file: RemoteFile) -> RemoteFile:
        content = (folder / file.name).read_bytes()
        url = f"{base}/{file.name}"
        return RemoteFile(file.name, (url,), len(content), hashlib.sha256(content).hexdigest())

    counts = {"train": count // 2, "val": count // 4, "test": count // 4}
    pictures = tuple(map(remote, dataset.pictures))
    return dataclasses.replace(dataset, pictures=pictures, counts=counts, other_captions=()), remote


@pytest.fixture
def web(tmp_path):
    """A folder served over HTTP, with the list of requests."""
    folder, asked = tmp_path / "web", []
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def publish(monkeypatch, name, dataset, folder, base):
    small, remote = tiny(dataset, folder, base)
    monkeypatch.setitem(source.PREPARE, name, partial(source.prepare_published, small))
    monkeypatch.setattr(published, "CAPTION_DATASETS", remote(published.CAPTION_DATASETS))


@pytest.mark.parametrize(("name", "dataset"), [("coco", COCO), ("flickr8k", FLICKR8K), ("flickr30k", FLICKR30K)])
def test_download_over_the_network(home, web, monkeypatch, name, dataset):
    folder, base, asked = web
    layouts.make_coco(folder) if name == "coco" else layouts.make_flickr(folder, name)
    publish(monkeypatch, name, dataset, folder, base)
    settle(home, name)
    run("download", "vocab", "resize")
    check_stores({"train": 6, "val": 3, "test": 3})
    for file in dataset.pictures:  # as downloaded
        assert (paths.IMAGES_RAW / file.name).read_bytes() == (folder / file.name).read_bytes()
    before = len(asked)
    shutil.rmtree("data")
    run("download")  # no second download
    assert len(asked) == before and len(list(paths.IMAGES_RAW.iterdir())) == len(dataset.pictures)


def test_pictures_behind_a_form_name_the_form(home, web, monkeypatch):
    folder, base, _ = web
    layouts.make_flickr(folder, "flickr30k")
    publish(monkeypatch, "flickr30k", FLICKR30K, folder, base)
    (folder / "flickr30k-images.tar.gz").unlink()
    settle(home, "flickr30k")
    with pytest.raises(UserError, match=r"404.*form, https://shannon.*flickr30k-images\.tar\.gz.*download\.source"):
        run("download")
    assert not paths.CAPTIONS_RAW.exists()


def test_missing_pictures_of_an_archive_are_named(home, web, monkeypatch):
    folder, base, _ = web
    files = layouts.make_flickr(folder, "flickr8k")
    layouts.zip_of(folder / "Flickr8k_Dataset.zip", {f"x/{file}": b"" for file in files[:-1]})
    publish(monkeypatch, "flickr8k", FLICKR8K, folder, base)
    settle(home, "flickr8k")
    with pytest.raises(UserError, match=rf"1 of the 12 pictures of flickr8k are missing, such as {files[-1]}"):
        run("download")


def test_a_damaged_copy_of_the_published_archive_is_refused(home, tmp_path, monkeypatch):
    there = tmp_path / "there"
    layouts.make_flickr(there, "flickr8k")
    publish(monkeypatch, "flickr8k", FLICKR8K, there, "http://127.0.0.1:9")
    content = bytearray((there / "Flickr8k_Dataset.zip").read_bytes())
    content[100] ^= 1
    (there / "Flickr8k_Dataset.zip").write_bytes(content)
    settle(home, "flickr8k", download__source=str(there))
    with pytest.raises(UserError, match=r"Flickr8k_Dataset\.zip is damaged: wrong checksum"):
        run("download")


def test_the_download_is_kept_under_a_second_name(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"content")
    published.place(tmp_path / "a.zip", tmp_path / "images" / "a.zip")
    assert os.stat(tmp_path / "a.zip").st_ino == os.stat(tmp_path / "images" / "a.zip").st_ino


def test_every_published_archive_can_be_verified():
    for dataset in (COCO, FLICKR8K, FLICKR30K):
        for file in (*dataset.pictures, *dataset.other_captions, published.CAPTION_DATASETS):
            assert len(file.sha256 or "") == 64 or len(file.md5 or "") == 32, file.name
