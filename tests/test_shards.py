"""Shards in img2dataset's layout: read in place, unique ids, damage reported in one line."""

import io
import json
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from conftest import STAGES, inside, run_stage, write_params
from layouts import jpeg
from test_import import PARAMS, call, changed

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.paths import matches
from showtell.data.captions import CaptionFile
from showtell.data.datasets.custom import CustomParams, prepare
from showtell.data.datasets.picture_files import Pictures
from showtell.data.datasets.shards import Crawl, shard_paths
from showtell.data.store import RowReader


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def sample(number: int, caption: str | None = "a dog", picture: bytes | None = None) -> dict[str, bytes]:
    key = f"{number:09d}"
    files = {f"{key}.jpg": picture or f"picture {number}".encode(), f"{key}.json": json.dumps({"key": key}).encode()}
    return files | ({} if caption is None else {f"{key}.txt": caption.encode()})


def crawl_of(folder: Path, tars: int = 3, samples: int = 4) -> Path:
    """Shards with equal sample names."""
    for tar in range(tars):
        files: dict[str, bytes] = {}
        for number in range(samples):
            files |= sample(number, f"a dog number {tar} {number}", jpeg(10 * tar + number))
        tar_of(folder / f"{tar:05d}.tar", files)
    return folder


def params(images: Path | str, **changes) -> CustomParams:
    plain = {"images": str(images), "captions": None, "format": "auto", "val": 0.2, "test": 0.2, "split_seed": 0}
    return CustomParams(**plain | changes)


def test_ids_are_unique_over_shards_and_pictures_are_read_in_place(tmp_path):
    crawl_of(tmp_path / "crawl")
    prepare(tmp_path / "raw", params(tmp_path / "crawl"))
    images = json.loads((tmp_path / "raw/captions.json").read_text())["images"]
    assert [image["imgid"] for image in images[:5]] == [*(f"00000/00000000{i}" for i in range(4)), "00001/000000000"]
    assert len({image["imgid"] for image in images}) == 12
    pictures = Pictures.open(tmp_path / "raw/images")
    assert pictures.read("00001/000000002.jpg") == jpeg(12) and pictures.read("00002/000000002.jpg") == jpeg(22)
    assert (tmp_path / "raw/images/crawl.shards.h5").stat().st_size < 20_000  # pictures are not copied


def test_samples_without_picture_or_caption_are_counted(tmp_path, capsys):
    files = sample(0) | sample(1, None) | sample(2, "  ") | {"000000003.json": b"{}"}
    files |= sample(4) | sample(5) | sample(6)
    files |= {"000000007.png": b"x", "000000007.json": json.dumps({"caption": "from the facts"}).encode()}
    tar_of(tmp_path / "crawl/0.tar", files)
    prepare(tmp_path / "raw", params(tmp_path / "crawl", val=0.4, test=0.4))
    assert "of 8 samples 1 with no picture and 2 with no caption are left out" in capsys.readouterr().err
    images = json.loads((tmp_path / "raw/captions.json").read_text())["images"]
    names = ("0.jpg", "4.jpg", "5.jpg", "6.jpg", "7.png")
    assert [image["filename"] for image in images] == [f"0/00000000{name}" for name in names]
    assert images[-1]["sentences"][0]["raw"] == "from the facts"


def test_splits_are_drawn_by_fraction_and_do_not_depend_on_the_shards_number(tmp_path):
    crawl_of(tmp_path / "crawl", 3, 10)
    prepare(tmp_path / "raw", params(tmp_path / "crawl"))

    def splits(folder: str) -> dict[str, str]:
        images = json.loads((tmp_path / folder / "captions.json").read_text())["images"]
        return {image["imgid"]: image["split"] for image in images}

    found = splits("raw")
    assert [list(found.values()).count(split) for split in ("train", "val", "test")] == [18, 6, 6]
    prepare(tmp_path / "other seed", params(tmp_path / "crawl", split_seed=1))
    assert splits("other seed") != found


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:1200], "00001.tar"),
        (lambda content: content[: len(content) // 1024 * 512], "00001.tar"),
        (lambda content: content.replace(b"000000001.jpg", b"000000001.jpeg"), "a header in it is damaged"),
        (lambda content: b"", "00001.tar is not a whole archive"),
        (lambda content: b"not a tar" * 500, "00001.tar is not a whole archive"),
    ],
)
def test_a_damaged_tar_is_named_in_one_line(tmp_path, damage, message):
    crawl_of(tmp_path)
    broken = tmp_path / "00001.tar"
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(UserError) as error:
        Crawl(shard_paths(str(tmp_path)))
    assert message in str(error.value) and "\n" not in str(error.value) and "00001.tar" in str(error.value)


def test_a_sample_that_occurs_twice_is_named(tmp_path):
    files = {"1.jpg": b"x", "1.txt": b"a", "2.jpg": b"y", "2.txt": b"b", "1.png": b"z", "1.json": b'{"caption": "c"}'}
    tar_of(tmp_path / "0.tar", files)
    with pytest.raises(UserError, match='the shards hold sample "0/1" twice'):
        Crawl([tmp_path / "0.tar"])


@pytest.mark.parametrize("names", [("1.jpg", "1.txt") * 2, ("s.1.jpg", "s.1.txt", "s.2.jpg", "s.2.txt")])
def test_samples_of_one_name_side_by_side_are_refused(tmp_path, names):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(UserError, match=r'0\.tar: "[s1.]+txt" and "[s12.]+txt" are both of sample "[s1]"'):
        Crawl([tmp_path / "0.tar"])


def test_a_sample_may_have_a_second_picture(tmp_path):
    tar_of(tmp_path / "0.tar", {"1.jpg": b"x", "1.seg.png": b"y", "1.txt": b"a dog"})
    crawl = Crawl([tmp_path / "0.tar"])
    assert list(crawl) == [("0/1.jpg", "a dog")]
    crawl.close()


def test_shards_that_are_named_and_not_read_are_told(tmp_path, capsys):
    crawl_of(tmp_path, tars=2)
    assert len(shard_paths(tmp_path / "{00000..00004}.tar")) == 2
    assert f"numbered shards are not there (3, the first is {tmp_path}/00002.tar)" in capsys.readouterr().err
    (tmp_path / "00002.tar.gz").write_bytes(b"")
    (tmp_path / "._00000.tar").write_bytes(b"")  # left by a file system of Apple's
    assert len(shard_paths(tmp_path)) == 2
    assert f"compressed tars are not read (1, the first is {tmp_path}/00002.tar.gz)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\\b", "0\n1"])
def test_names_that_would_not_be_found_again_are_refused_with_their_shard(tmp_path, name):
    tar = tar_of(tmp_path / "0.tar", {f"{name}.jpg": b"picture", f"{name}.txt": b"a dog"})
    with pytest.raises(UserError, match=r"0\.tar: the name .* has a backslash or control characters"):
        Crawl([tar])
    files = sample(1) | {f"{name}.md": b"a note", f"x{name}.jpg": b"without a caption"}
    with closing(Crawl([tar_of(tmp_path / "1.tar", files)])) as crawl:
        assert len(crawl) == 1


def test_patterns_and_folders_name_the_same_shards(tmp_path):
    crawl_of(tmp_path / "crawl")
    names = [tmp_path / "crawl" / f"0000{i}.tar" for i in range(3)]
    assert shard_paths(tmp_path / "crawl") == shard_paths(tmp_path / "crawl/*.tar") == names
    assert matches(tmp_path / "crawl/{00001..00002}.tar") == names[1:]
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "crawl/*.zip", "nowhere"):
        with pytest.raises(UserError, match="holds no tars"):
            shard_paths(tmp_path / nothing)


def test_shards_of_equal_names_in_two_folders_are_distinguished(tmp_path):
    for folder in ("one", "two"):
        tar_of(tmp_path / folder / "0.tar", sample(7))
    crawl = Crawl(shard_paths(str(tmp_path / "*/0.tar")))
    assert [s.image_id for s in crawl] == ["one/0/000000007", "two/0/000000007"]
    crawl.close()


def test_a_changed_shard_is_detected(tmp_path):
    crawl_of(tmp_path / "crawl", 2)
    prepare(tmp_path / "raw", params(tmp_path / "crawl"))
    tar_of(tmp_path / "crawl/00001.tar", sample(9))
    with pytest.raises(UserError, match="shards have changed since"):
        Pictures.open(tmp_path / "raw/images")
    (tmp_path / "crawl/00001.tar").unlink()
    with pytest.raises(UserError, match=r"stands for .*00001\.tar, which is not there"):
        Pictures.open(tmp_path / "raw/images")


def test_a_crawl_through_the_first_stages(tmp_path):
    crawl_of(tmp_path / "crawl", 2, 5)
    own = {"images": "crawl/*.tar", "captions": None, "val": 0.2, "test": 0.2}
    write_params(tmp_path, dataset="custom", custom=own)
    for stage in STAGES[: STAGES.index("encoder")]:
        run_stage(stage, tmp_path)
    with inside(tmp_path):
        for split, count in (("train", 6), ("val", 2), ("test", 2)):
            ids = RowReader(paths.split_images(split), "images").ids
            captions = CaptionFile(paths.split_json(split))
            assert len(ids) == count and ids == captions.image_ids
            said = [[f"a dog number {int(image_id[:5])} {int(image_id[-1])}"] for image_id in ids]
            assert [entry["references"] for entry in captions] == said
        before = json.loads(paths.SOURCE.read_text())
    tar_of(tmp_path / "crawl/00002.tar", sample(0))
    run_stage("source", tmp_path)
    assert json.loads((tmp_path / paths.SOURCE).read_text()) != before


@pytest.fixture
def home(tmp_path, monkeypatch):
    from conftest import ROOT

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    return tmp_path


def test_import_takes_shards_alone(home, capsys):
    crawl_of(home / "crawl", 3, 10)
    tar_of(home / "crawl/00003.tar", {"1.jpg": b"x"})
    assert call("crawl", "--keep") == 0
    out = capsys.readouterr().out
    assert "format            shards (4 tars)" in out and "images            30\n" in out
    assert "of 31 samples 1 with no caption are left out" in out and "splits            train 24, val 3, test 3" in out
    assert changed(home)["custom.images"] == str(home / "crawl") and "custom.captions" not in changed(home)
    with pytest.raises(UserError, match="quotation marks"):
        call("crawl/00000.tar", "crawl/00001.tar")


def test_captions_without_a_letter_or_digit_are_counted_as_missing(tmp_path):
    (tmp_path / "crawl").mkdir()
    tar = tar_of(tmp_path / "crawl/0.tar", sample(0) | sample(1, "!!!") | sample(2, "\U0001f600"))
    with closing(Crawl([tar])) as crawl:
        assert [told.caption for told in crawl] == ["a dog"]
        assert crawl.left_out() == "of 3 samples 2 with no caption are left out"
