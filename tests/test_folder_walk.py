"""Folders that cannot be read, and photographs in formats that are not: `caption`, `describe` and `import` say so."""

import argparse
import os

import pytest
from conftest import ROOT
from test_caption_command import write_picture

from showtell.commands import cli, import_
from showtell.core.errors import UserError

UNREAD = ".heic, a format that is not read; convert to JPEG or PNG"


@pytest.fixture
def locked(monkeypatch):
    """Make folders unreadable, also for the superuser, whom no permissions stop."""
    names, scandir = set(), os.scandir

    def refuse(path="."):
        if os.fspath(path) in names:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return lambda *folders: names.update(folders)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["caption", "describe"])
def test_a_folder_that_cannot_be_read_is_an_error(place, model, locked, capsys, command):
    write_picture(place / "closed/a.jpg")
    locked("closed")
    assert cli.dispatch([command, "closed", "--model", str(model)]) == 1
    said = capsys.readouterr()
    assert "error: closed: permission denied; check whose it is" in said.err and "no pictures" not in said.err
    assert said.out == "" and not list(place.rglob("*.xmp"))


@pytest.mark.parametrize("command", ["caption", "describe"])
def test_pictures_beside_a_folder_that_cannot_be_read_are_done(place, model, locked, capsys, command):
    for name in ("open/a.jpg", "open/closed/b.jpg", "open/deeper/c.jpg"):
        write_picture(place / name)
    locked("open/closed")
    assert cli.dispatch([command, "open", "--model", str(model)]) == 1
    said = capsys.readouterr()
    assert said.err.count("error: open/closed: permission denied; ") == said.err.count("error: ") == 1
    done = said.out if command == "caption" else " ".join(map(str, place.rglob("*.xmp")))
    assert "open/a.jpg" in done and "open/deeper/c.jpg" in done
    assert command == "caption" or "2 described, 0 already described, 1 failed" in said.err


@pytest.mark.parametrize("command", ["caption", "describe"])
def test_names_without_the_right_to_open_them_are_an_error(place, model, monkeypatch, capsys, command):
    write_picture(place / "names/a.jpg")
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != "names")
    assert cli.dispatch([command, "names", "--model", str(model)]) == 1
    assert "error: names: permission denied; " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["caption", "describe"])
def test_photographs_in_a_format_that_is_not_read_are_named(place, model, capsys, command):
    (place / "phone").mkdir()
    (place / "phone/IMG_1.HEIC").write_bytes(b"ftypheic")
    assert cli.dispatch([command, "phone", "--model", str(model)]) == 1
    said = capsys.readouterr().err
    assert f"phone: 1 passed over: 1 {UNREAD}\n" in said and "error: phone: no pictures in this folder\n" in said
    write_picture(place / "phone/a.jpg")
    assert cli.dispatch([command, "phone", "--model", str(model)]) == 0
    said = capsys.readouterr().err
    assert f"phone: 1 passed over: 1 {UNREAD}\n" in said and "error" not in said


@pytest.mark.parametrize("command", ["caption", "describe"])
def test_hidden_folders_are_left_out_and_counted(place, model, locked, capsys, command):
    for name in ("album/a.jpg", "album/.thumbnails/a.jpg", "album/.Trashes/b.jpg"):
        write_picture(place / name)
    locked("album/.Trashes")  # as on every disk of a Mac
    assert cli.dispatch([command, "album", "--model", str(model)]) == 0
    said = capsys.readouterr()
    assert "album: 2 passed over: 2 hidden\n" in said.err and "denied" not in said.err
    assert ".thumbnails" not in said.out and not list(place.rglob(".thumbnails/*.xmp"))


def test_what_describe_has_written_is_not_passed_over(place, model, capsys):
    write_picture(place / "album/a.jpg")
    for form in ("xmp", "txt", "xmp"):
        assert cli.dispatch(["describe", "album", "--model", str(model), "--format", form]) == 0
    assert "passed over" not in capsys.readouterr().err


def test_sidecars_that_a_glob_matches_are_not_passed_over(place, model, capsys):
    write_picture(place / "album/a.jpg")
    for form in ("xmp", "txt"):
        cli.dispatch(["describe", "album", "--model", str(model), "--format", form])
    capsys.readouterr()
    assert cli.dispatch(["caption", "album/*", "--model", str(model)]) == 0
    assert "passed over" not in capsys.readouterr().err


def test_avif_is_a_format_that_is_not_read_where_pillow_cannot(place, model, capsys, monkeypatch):
    from PIL import features

    (place / "in").mkdir()
    (place / "in/a.avif").write_bytes(b"ftypavif")
    monkeypatch.setattr(features, "check_module", lambda name: False)
    assert cli.dispatch(["caption", "in", "--model", str(model)]) == 1
    assert "1 passed over: 1 .avif, a format that is not read; convert to JPEG or PNG" in capsys.readouterr().err


def test_import_names_folders_that_cannot_be_read(place, locked, capsys):
    (place / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (place / "recipes").symlink_to(ROOT / "recipes")
    for number in range(20):
        write_picture(place / f"photos/{number}.jpg", number)
    write_picture(place / "photos/closed/lost.jpg")
    rows = "".join(f"{number}.jpg,a dog\n" for number in range(20))
    (place / "c.csv").write_text(f"image,caption\n{rows}")
    parser = argparse.ArgumentParser()
    import_.add_arguments(parser)
    args = parser.parse_args(["photos", "c.csv", "--no-plan", "--keep"])
    locked("photos/closed")
    assert import_.run(args) == 0  # no caption is of a picture in it
    assert "passed over: photos/closed: permission denied; " in capsys.readouterr().err
    locked("photos")
    with pytest.raises(UserError, match=r"^photos: permission denied; "):
        import_.run(args)
