"""Pictures read in place from archives and folders; hostile archives are refused by the entry's name."""

import io
import os
import pickle
import shutil
import tarfile
import zipfile
import zlib

import pytest

from showtell.core.errors import UserError
from showtell.data.datasets import archives
from showtell.data.datasets.archives import open_archive
from showtell.data.datasets.picture_files import Pictures, link_pictures, write_link


def make_zip(path, entries, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def make_tar(path, entries, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


ENTRIES = {"folder/a.jpg": b"first" * 100, "folder/b.jpg": b"second"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip(tmp_path, method):
    pictures = Pictures.open(make_zip(tmp_path / "a.zip", ENTRIES, method))
    assert pictures.read("folder/a.jpg") == pictures.read("a.jpg") == ENTRIES["folder/a.jpg"]
    assert pickle.loads(pickle.dumps(pictures)).read("b.jpg") == b"second"


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz")]
)
def test_tar(tmp_path, name, mode):
    scratch = tmp_path / "scratch"
    pictures = Pictures.open(make_tar(tmp_path / name, ENTRIES, mode), scratch)
    assert pictures.read("b.jpg") == b"second" and pictures.read("folder/a.jpg") == ENTRIES["folder/a.jpg"]
    assert scratch.exists() == (name != "a.tar")
    pictures.discard_scratch()
    assert not list(scratch.glob("*")) and (tmp_path / name).exists()


def test_a_zip_with_backslashes(tmp_path):
    names = {"photos\\": b"", "photos\\a.jpg": b"first", "photos\\b.jpg": b"second"}
    pictures = Pictures.open(make_zip(tmp_path / "a.zip", names))
    assert pictures.files() == ["photos/a.jpg", "photos/b.jpg"]
    assert pictures.read("photos/a.jpg") == b"first" and pictures.read("b.jpg") == b"second"
    with pytest.raises(UserError, match=r'entry "x/a\.jpg" is refused: it occurs twice'):
        Pictures.open(make_zip(tmp_path / "b.zip", {"x\\a.jpg": b"1", "x/a.jpg": b"2"}))


def test_pictures_of_one_name_in_many_folders_are_looked_up_by_their_folder(tmp_path, monkeypatch):
    names = {f"all/{number:03d}/0.jpg": str(number).encode() for number in range(300)}
    pictures = Pictures.open(make_zip(tmp_path / "a.zip", names))
    looked, name_of = [], pictures._name
    monkeypatch.setattr(pictures, "_name", lambda position: looked.append(position) or name_of(position))
    for number in range(300):
        assert pictures.read(f"{number:03d}/0.jpg") == pictures.read(f"all/{number:03d}/0.jpg") == str(number).encode()
    assert len(looked) < 6 * 300


def test_several_archives_links_and_loose_files_in_one_folder(tmp_path):
    images, elsewhere = tmp_path / "images", tmp_path / "elsewhere" / "val2014"
    elsewhere.mkdir(parents=True)
    (elsewhere / "c.jpg").write_bytes(b"linked")
    images.mkdir()
    make_zip(images / "train2014.zip", {"train2014/a.jpg": b"zipped"})
    link_pictures(elsewhere, images)
    link_pictures(make_tar(tmp_path / "elsewhere" / "more.tar", {"d.jpg": b"tarred"}), images)
    (images / "e.jpg").write_bytes(b"loose")
    pictures = Pictures.open(images)
    assert pictures.read("train2014/a.jpg") == b"zipped" and pictures.read("val2014/c.jpg") == b"linked"
    assert pictures.read("d.jpg") == b"tarred" and pictures.read("e.jpg") == b"loose"
    assert "z.jpg" not in pictures
    with pytest.raises(UserError, match=r"no picture z\.jpg"):
        pictures.read("z.jpg")


def test_equal_names_in_several_folders_are_told_apart_by_path(tmp_path):
    pictures = Pictures.open(make_zip(tmp_path / "a.zip", {"x/1/a.jpg": b"one", "x/2/a.jpg": b"two", "a.png": b""}))
    assert pictures.read("x/2/a.jpg") == pictures.read("2/a.jpg") == b"two"
    with pytest.raises(UserError, match=r"a\.jpg could be any of 2 pictures \(a\.zip:x/1/a\.jpg"):
        pictures.read("a.jpg")


def test_metadata_files_of_archivers_are_skipped(tmp_path):
    entries = {"Flicker8k_Dataset/a.jpg": b"picture", "__MACOSX/Flicker8k_Dataset/._a.jpg": b"fork", ".DS_Store": b""}
    pictures = Pictures.open(make_zip(tmp_path / "a.zip", entries))
    assert pictures.files() == ["Flicker8k_Dataset/a.jpg"]


def test_a_link_notices_that_its_folder_changed(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"1")
    write_link(tmp_path / "images" / "photos.link.json", folder)
    assert Pictures.open(tmp_path / "images").read("a.jpg") == b"1"
    (folder / "b.jpg").write_bytes(b"2")
    with pytest.raises(UserError, match=r"photos has changed since it was linked"):
        Pictures.open(tmp_path / "images")
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"which is not there"):
        Pictures.open(tmp_path / "images")


def test_fingerprint_changes_with_what_there_is(tmp_path):
    one = Pictures.open(make_zip(tmp_path / "a.zip", {"a.jpg": b"1"})).fingerprint
    assert Pictures.open(make_zip(tmp_path / "a.zip", {"a.jpg": b"1"})).fingerprint == one
    assert Pictures.open(make_zip(tmp_path / "a.zip", {"a.jpg": b"2"})).fingerprint != one


def test_circular_links_between_folders_end(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    (tmp_path / "photos" / "round").symlink_to(tmp_path / "photos")
    assert Pictures.of([tmp_path / "photos"]).files() == ["a.jpg"]


@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_entries_that_leave_the_archive(tmp_path, name, make):
    path = make(tmp_path / ("a.zip" if make is make_zip else "a.tar"), {"fine.jpg": b"", name: b"x"})
    with pytest.raises(UserError, match=r"evil\.jpg.*is refused: its path leaves the archive"):
        Pictures.open(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_links_and_devices_in_archives_are_skipped_and_counted(tmp_path, capsys):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a.jpg", b"1")
    assert Pictures.open(tmp_path / "a.zip").files() == ["a.jpg"]
    assert 'a.zip: 1 links or devices are passed over, such as "link.jpg"' in capsys.readouterr().err
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        make_tar(tmp_path / "a.tar", {"a.jpg": b"1"})
        with tarfile.open(tmp_path / "a.tar", "a") as archive:
            entry = tarfile.TarInfo("link.jpg")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
        assert Pictures.open(tmp_path / "a.tar").files() == ["a.jpg"]
        assert "1 links or devices are passed over" in capsys.readouterr().err


def patched_zip(path, name: bytes, flags: int = 0, version: int = 20):
    """A zip of one entry whose name is overwritten by `name`, of the same length, with these flags."""
    make_zip(path, {"x" * len(name): b"1"})
    data = bytearray(path.read_bytes().replace(b"x" * len(name), name))
    directory = data.index(b"PK\x01\x02")
    data[directory + 6 : directory + 8] = version.to_bytes(2, "little")
    data[directory + 8 : directory + 10] = flags.to_bytes(2, "little")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "flags", "version", "message"),
    [
        (b"\0.jpg", 0, 20, "not a whole archive|its name holds a NUL"),
        (b"a\0.jpg", 0, 20, "its name holds a NUL"),
        (b"\xff.jpg", 0x800, 20, "not in the UTF-8 that its header promises"),
        (b"a.jpg", 0, 99, r"needs what no reader has yet \(zip file version 9\.9\)"),
    ],
)
def test_malformed_headers_of_zips_are_one_line(tmp_path, name, flags, version, message):
    with pytest.raises(UserError, match=message) as caught:
        Pictures.open(patched_zip(tmp_path / "a.zip", name, flags, version))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "records", [{"GNU.sparse.map": "abc"}, {"GNU.sparse.size": "x"}, {"size": "many"}, {"path": ""}]
)
def test_malformed_headers_of_tars_are_one_line(tmp_path, records):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("a.jpg")
        entry.size, entry.pax_headers = 3, records
        archive.addfile(entry, io.BytesIO(b"abc"))
    try:
        Pictures.open(tmp_path / "a.tar")
    except UserError as error:
        assert "\n" not in str(error) and "a.tar" in str(error)


def test_names_are_found_in_another_unicode_form_and_without_the_zip_s_flag(tmp_path):
    decomposed = "cafe\u0301.jpg"
    for make, name in ((make_zip, "a.zip"), (make_tar, "a.tar")):
        assert Pictures.open(make(tmp_path / name, {f"x/{decomposed}": b"1"})).read("caf\u00e9.jpg") == b"1"
    assert Pictures.open(patched_zip(tmp_path / "b.zip", "caf\u00e9.jpg".encode())).files() == ["caf\u00e9.jpg"]
    both = Pictures.open(make_zip(tmp_path / "c.zip", {decomposed: b"1", "caf\u00e9.jpg": b"2"}))
    assert both.read(decomposed) == b"1" and both.read("caf\u00e9.jpg") == b"2"


def test_one_picture_under_two_spellings_is_named(tmp_path):
    pictures = Pictures.open(make_zip(tmp_path / "a.zip", {"x/a.jpg": b"1", "x/b.jpg": b"2"}))
    assert pictures.missing(["x/a.jpg", "b.jpg", "c.jpg"], "c.csv") == ["c.jpg"]
    with pytest.raises(UserError, match=r'c\.csv: "x/a\.jpg" and "a\.jpg" are the same picture'):
        pictures.missing(["x/a.jpg", "a.jpg"], "c.csv")


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_picture_and_a_link_to_it_are_named(tmp_path, link):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"the same bytes: a copy may stay")
    link(tmp_path / "a.jpg", tmp_path / "c.jpg")
    pictures = Pictures.of([tmp_path])
    pictures.check_links(["a.jpg", "b.jpg"], "c.csv")
    pictures.check_links(["c.jpg", "b.jpg"], "c.csv")
    with pytest.raises(UserError, match=r'c\.csv: "[ac]\.jpg" and "[ac]\.jpg" are links to the same picture; keep one'):
        pictures.check_links(["a.jpg", "b.jpg", "c.jpg"], "c.csv")


def test_pictures_in_one_archive_are_not_links_to_each_other(tmp_path):
    Pictures.open(make_zip(tmp_path / "a.zip", {"a.jpg": b"1", "b.jpg": b"1"})).check_links(["a.jpg", "b.jpg"], "c.csv")


def test_a_picture_replaced_by_a_pipe_is_refused_without_waiting(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"1")
    pictures = Pictures.of([tmp_path])
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="not a regular file"):
        pictures.read("a.jpg")


def test_entries_above_the_size_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRY_BYTES", 1000)
    path = make_zip(tmp_path / "a.zip", {"big.jpg": bytes(1001)})
    with pytest.raises(UserError, match=r'"big\.jpg" is refused: it claims 1,001 bytes'):
        Pictures.open(path)


def test_entries_above_the_compression_ratio_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_FREE_BYTES", 1000)
    path = make_zip(tmp_path / "a.zip", {"bomb.jpg": bytes(1_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r'"bomb\.jpg" is refused: it claims to grow'):
        Pictures.open(path)
    make_tar(tmp_path / "a.tar.gz", {"bomb.jpg": bytes(1_000_000)}, "w:gz")
    with pytest.raises(UserError, match="expands to more than 200 times"):
        Pictures.open(tmp_path / "a.tar.gz", tmp_path / "scratch")
    assert not list((tmp_path / "scratch").glob("*"))


def lie(path, declared: int, content: bytes):
    """A zip whose one entry is larger than its headers declare, with the checksum of the declared content."""
    make_zip(path, {"liar.jpg": content}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    crc = zlib.crc32(content[:declared]).to_bytes(4, "little")
    directory = data.index(b"PK\x01\x02")
    data[22:26] = data[directory + 24 : directory + 28] = declared.to_bytes(4, "little")
    data[14:18] = data[directory + 16 : directory + 20] = crc
    path.write_bytes(data)
    return path


def test_an_entry_larger_than_declared(tmp_path):
    pictures = Pictures.open(lie(tmp_path / "a.zip", 100, bytes(10_000_000)))
    with pytest.raises(UserError, match=r'"liar\.jpg" is refused: it expands to more than the 100 bytes'):
        pictures.read("liar.jpg")


def test_an_entry_smaller_than_declared(tmp_path):
    pictures = Pictures.open(lie(tmp_path / "a.zip", 200, bytes(150)))
    with pytest.raises(UserError, match=r'"liar\.jpg" is refused: it holds 150 bytes and declares 200'):
        pictures.read("liar.jpg")


def test_damaged_content_is_noticed(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"a.jpg": b"content"})
    path.write_bytes(path.read_bytes().replace(b"content", b"c0ntent"))
    with pytest.raises(UserError, match=r'"a\.jpg" is refused: its checksum'):
        Pictures.open(path).read("a.jpg")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_invalid_and_truncated_archives(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"this is not an archive" * 100)
    with pytest.raises(UserError, match=r"not a whole archive"):
        open_archive(path, tmp_path)
    whole = (
        make_zip(path, ENTRIES) if name == "a.zip" else make_tar(path, ENTRIES, "w:gz" if name.endswith("gz") else "w")
    )
    path.write_bytes(whole.read_bytes()[:600] if name == "a.tar" else whole.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"not a whole archive|cut short"):
        open_archive(path, tmp_path)


def test_only_folders_and_archives_can_be_linked(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match="neither a folder nor an archive"):
        link_pictures(tmp_path / "a.txt", tmp_path / "images")
    with pytest.raises(UserError, match="does not exist"):
        link_pictures(tmp_path / "nothing", tmp_path / "images")


def test_a_path_with_more_folders_than_the_pictures_have_is_found_by_its_last_folder(tmp_path):
    pictures = Pictures.of([make_zip(tmp_path / "a.zip", {"train/0.jpg": b"one", "val/0.jpg": b"two"})])
    assert pictures.read("images/train/0.jpg") == b"one" and pictures.read("images/val/0.jpg") == b"two"
    with pytest.raises(UserError, match=r"images/test/0\.jpg could be any of 2 pictures"):
        pictures.find("images/test/0.jpg")


def test_a_tar_with_an_older_version_of_a_picture_is_refused_like_a_zip(tmp_path):
    path = make_tar(tmp_path / "a.tar", {"a.jpg": b"old", "b.jpg": b"other"})
    with tarfile.open(path, "a") as archive:  # as `tar -rf` and `tar -uf` do
        newer = tarfile.TarInfo("./a.jpg")
        newer.size = 3
        archive.addfile(newer, io.BytesIO(b"new"))
    with pytest.raises(UserError, match=r'a\.tar: entry "a\.jpg" is refused: it occurs twice'):
        Pictures.of([path])
