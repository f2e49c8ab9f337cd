"""The stage `source`: its output changes with files outside the repository, and only with them."""

import os
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, inside, run_stage, write_params

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import read_json
from showtell.data.datasets.outside import OUTPUTS, regular_files, state_of


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A repository, and pictures in another folder."""
    (tmp_path / "photos").mkdir()
    for number in range(16):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(bytes([number] * 50))
    rows = "".join(f"{number}.jpg,a dog\n" for number in range(16))
    (tmp_path / "c.csv").write_text(f"image,caption\n{rows}")
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    settle(folder)
    return folder


def settle(folder: Path, images: str = "../photos", captions: str = "../c.csv") -> None:
    write_params(folder, dataset="custom", custom={"images": images, "captions": captions})


def state(home: Path) -> dict:
    run_stage("source", home)
    return read_json(home / paths.SOURCE)


def test_dvc_runs_it_every_time_and_download_depends_on_what_it_writes():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["source"]["always_changed"] is True
    assert "data/raw/source.json" in stages["download"]["deps"]


def test_an_edited_captions_file_and_a_replaced_picture_of_the_same_size_are_noticed(home, tmp_path):
    first = state(home)
    assert state(home) == first
    text = (tmp_path / "c.csv").read_text()
    (tmp_path / "c.csv").write_text(text.replace("3.jpg,a dog", "3.jpg,a cat"))
    second = state(home)
    assert second["custom.captions"] != first["custom.captions"] and second["custom.images"] == first["custom.images"]
    picture = tmp_path / "photos" / "3.jpg"
    times = picture.stat()
    picture.write_bytes(b"x" * 50)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))  # as `cp -p` and archivers set them
    assert state(home)["custom.images"] != second["custom.images"]


def test_the_link_that_download_writes_changes_with_a_picture(home, tmp_path):
    links = []
    for content in (b"a" * 50, b"b" * 50):
        (tmp_path / "photos" / "3.jpg").write_bytes(content)
        run_stage("source", home)
        run_stage("download", home)
        links.append((home / paths.IMAGES_RAW / "photos.link.json").read_text())
    assert links[0] != links[1]


def test_of_published_data_the_local_source_and_captions_are_watched(home, tmp_path):
    write_params(home, dataset="flickr8k", download={"source": "../photos", "captions": "../c.csv"})
    assert set(state(home)) == {"dataset", "download.source", "download.captions"}
    write_params(home, dataset="flickr8k")
    assert state(home) == {"dataset": "flickr8k"}
    write_params(home, dataset="scenes", custom={"images": "nowhere", "captions": "nowhere"})
    assert state(home) == {"dataset": "scenes"}


def test_missing_files_count_as_unchanged(home, tmp_path, capsys):
    first = state(home)
    (tmp_path / "photos").rename(tmp_path / "away")
    assert state(home) == first and "not on this machine now" in capsys.readouterr().err
    settle(home, images="../elsewhere")
    with pytest.raises(UserError, match=r"custom\.images = '\.\./elsewhere' does not exist"):
        state(home)


def test_missing_files_count_as_unchanged_in_another_clone_too(home, tmp_path):
    (tmp_path / "photos").rename(home / "photos")
    settle(home, images="photos")
    first = state(home)
    other = tmp_path / "other"
    (other / paths.SOURCE).parent.mkdir(parents=True)
    (other / paths.SOURCE).write_bytes((home / paths.SOURCE).read_bytes())  # as `dvc pull` brings it
    settle(other, images="photos")
    assert state(other)["custom.images"] == first["custom.images"]
    settle(other, images="other/photos")
    with pytest.raises(UserError, match=r"custom\.images = 'other/photos' does not exist"):
        state(other)


@pytest.fixture
def copy(home):
    """The copy of the repository in which DVC runs a queued experiment."""
    folder = home / ".dvc" / "tmp" / "exps" / "tmp123"
    folder.mkdir(parents=True)
    return folder


def test_relative_paths_are_the_repository_s_in_a_queued_experiment_too(home, copy):
    (home / "photos").mkdir()
    with inside(copy):
        assert paths.given("photos") == home / "photos"
        (copy / "photos").mkdir()  # a tracked one is in the copy
        assert paths.given("photos") == copy / "photos"
    with inside(home):
        assert paths.given("photos") == home / "photos"


@pytest.mark.parametrize("pattern", ["crawl/*.tar", "crawl/{00000..00001}.tar", "*/00001.tar"])
def test_so_do_relative_patterns(home, copy, pattern):
    (home / "crawl").mkdir()
    (home / "crawl" / "00001.tar").write_bytes(b"1")
    with inside(copy):
        assert paths.given(pattern) == home / pattern


def test_hidden_folders_do_not_count(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    before = state_of(tmp_path)
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "a.jpg").write_bytes(b"2")
    assert [name for name, _ in regular_files(tmp_path)] == ["a.jpg"] and state_of(tmp_path) == before


def test_only_regular_files_count(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "a.jpg")
    before = state_of(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dead.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "round.jpg").symlink_to(tmp_path / "round.jpg")
    assert [name for name, _ in regular_files(tmp_path)] == ["a.jpg", "linked.jpg"]
    assert state_of(tmp_path) == before


def test_every_output_is_one_that_own_files_are_kept_from():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    kinds = ("outs", "metrics", "plots")
    entries = [entry for stage in stages.values() for kind in kinds for entry in stage.get(kind, [])]
    outputs = [Path(entry if isinstance(entry, str) else next(iter(entry))) for entry in entries]
    assert [path for path in outputs if not any(path.is_relative_to(output) for output in OUTPUTS)] == []


@pytest.mark.parametrize("images", ["data/raw/images", "data/raw/images/mine", "data/raw", ".", ".."])
def test_own_pictures_among_the_outputs_are_refused_before_dvc_deletes_them(home, images):
    (home / "data/raw/images/mine").mkdir(parents=True)
    settle(home, images=images)
    with pytest.raises(UserError, match=r"custom\.images = .*: the pipeline writes data/.*in another folder"):
        state(home)


def test_own_files_beside_the_outputs_are_read(home, tmp_path):
    (home / "data/raw").mkdir(parents=True)
    (tmp_path / "photos").rename(home / "data/raw/photos")
    settle(home, images="data/raw/photos")
    assert "custom.images" in state(home)
    (tmp_path / "c.csv").rename(home / "data/raw/captions.json")
    settle(home, images="data/raw/photos", captions="data/raw/captions.json")
    with pytest.raises(UserError, match=r"custom\.captions = .*: the pipeline writes data/raw/captions\.json there"):
        state(home)
