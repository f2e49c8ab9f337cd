"""`showtell describe --format csv | jsonl`: tables are continued, and rows by people stay."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from described_albums import caption_of, describe, rows
from test_caption_command import write_picture

from showtell.commands.alt_text.description import Kept, Origin
from showtell.commands.alt_text.description_table import COLUMNS, Table
from showtell.commands.alt_text.row_index import RowIndex
from showtell.commands.alt_text.session import Session, pictures
from showtell.core.errors import UserError
from showtell.generation.captioner import Caption, Captioner


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_truncated_table_is_continued(album, model, form, monkeypatch):
    (album / "broken.jpg").unlink()
    describe(model, album, "--format", form)
    whole = rows(form)
    assert [row["file"] for row in whole] == [str(album / name) for name in ("a.jpg", "b.png", "deeper/c.jpg")]
    table = album.parent / f"alt-text.{form}"
    complete = table.read_bytes()
    loaded = Captioner.load(model)
    monkeypatch.setattr(Captioner, "load", lambda *_: loaded)  # the same model each time
    for cut in range(len(complete) - 1, len(complete) - 60, -4):
        table.write_bytes(complete[:cut])
        assert describe(model, album, "--format", form) == 0
        assert table.read_bytes() == complete
    write_picture(album / "b.png", seed=8)
    describe(model, album, "--format", form)
    assert [row["file"] for row in rows(form)] == [str(album / name) for name in ("a.jpg", "deeper/c.jpg", "b.png")]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_dry_run_leaves_a_truncated_table_as_it_is(album, model, form, capsys):
    (album / "broken.jpg").unlink()
    describe(model, album, "--format", form)
    table = album.parent / f"alt-text.{form}"
    truncated = table.read_bytes()[:-20]
    table.write_bytes(truncated)
    capsys.readouterr()
    assert describe(model, album, "--format", form, "--dry-run") == 0
    assert "1 would be described, 2 already described" in capsys.readouterr().err and table.read_bytes() == truncated


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path, monkeypatch, form):
    """Peak of a run that describes all pictures and of one that finds them described, for 200 and for 2,000."""
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "one.png", seed=1)
    peaks = []
    for count in (200, 200, 2000):  # the first fills caches
        folder = tmp_path / f"album-{len(peaks)}"
        for number in range(count):
            picture = folder / f"{number // 100}" / f"{number}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.hardlink_to(tmp_path / "one.png")
        peaks.append(max(described_in(folder, form) for _ in range(2)))
        assert len(rows(form)) == count
        Path(f"alt-text.{form}").unlink()
    assert peaks[2] - peaks[1] < 100_000, f"{peaks[2] - peaks[1]:,} bytes more for 1,800 more pictures"


def described_in(folder: Path, form: str) -> int:
    """Bytes of Python's objects at the peak of describing `folder`, by a captioner that costs nothing."""
    origin = Origin("1", "m", "s")
    tracemalloc.start()
    try:
        session = Session(Table(Path(f"alt-text.{form}"), origin, as_json=form == "jsonl"), origin, None, None)
        for _ in session.images(session.undescribed(pictures([folder]))):
            session.write(Caption("a dog", ["a", "dog"], -1.0, -1.0, True, None))
        session.writer.finish()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("added", ["mine.jpg,by hand,,,,,,\n", "mine.jpg,by hand\ncut,sh"])
def test_rows_that_people_added_stay_even_short_ones(album, model, added):
    describe(model, album / "a.jpg", "--format", "csv")
    with open("alt-text.csv", "a", encoding="utf-8") as table:
        table.write(added)
    write_picture(album / "a.jpg", seed=9)
    assert describe(model, album / "a.jpg", "--format", "csv") == 0
    assert [row["caption"] for row in rows("csv") if row["file"] == "mine.jpg"] == ["by hand"]
    assert len(rows("csv")) == 2


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_that_are_saved_while_a_run_goes_on_stay(album, model, monkeypatch, form):
    """A person corrects captions, and sorts the rows, before the run ends."""
    (album / "broken.jpg").unlink()
    describe(model, album / "a.jpg", album / "b.png", "--format", form)
    for name in ("a.jpg", "b.png"):
        write_picture(album / name, seed=9)
    table, honest = Path(f"alt-text.{form}"), Table.finish

    def finish(self):
        corrected = table.read_text().replace(caption_of(model, album / "a.jpg"), "by hand")
        head, *body = corrected.splitlines()
        table.write_text("\n".join([head, *reversed(body)] if form == "csv" else [*reversed(body), head]) + "\n")
        honest(self)

    monkeypatch.setattr(Table, "finish", finish)
    assert describe(model, album, "--format", form) == 0
    assert sorted(Path(row["file"]).name for row in rows(form)) == ["a.jpg", "b.png", "c.jpg"]
    assert next(row["caption"] for row in rows(form) if row["file"].endswith("a.jpg")) == "by hand"


def test_a_second_run_on_the_same_table_is_refused(album, model):
    table = Table(Path("alt-text.csv"), Origin("1", "m", "s"), as_json=False)
    with table.alone():
        with pytest.raises(UserError, match=r"another showtell describe is writing alt-text\.csv; wait for it"):
            describe(model, album, "--format", "csv")
        assert not Path("alt-text.csv").exists()
    assert describe(model, album / "a.jpg", "--format", "csv") == 0


def test_a_picture_is_known_by_its_place_not_by_how_it_was_named(album, model, monkeypatch, capsys):
    describe(model, album / "a.jpg", "--format", "csv")
    capsys.readouterr()
    assert describe(model, Path(os.path.relpath(album / "a.jpg")), "--format", "csv") == 0
    assert "0 described, 1 already described" in capsys.readouterr().err and len(rows("csv")) == 1


def test_json_lines_are_utf8_whatever_a_name_is(album, model):
    os.rename(os.fsencode(album / "a.jpg"), os.fsencode(album) + b"/\xff.jpg")
    picture = Path(os.fsdecode(os.fsencode(album) + b"/\xff.jpg"))
    for _ in range(2):
        assert describe(model, picture, "--format", "jsonl") == 0
    (line,) = Path("alt-text.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["file"] == str(picture)


def test_a_table_keeps_its_mode_and_its_link(album, model):
    Path("real").mkdir()
    describe(model, album / "a.jpg", "--format", "csv", "--output", "real/table.csv")
    Path("real/table.csv").chmod(0o640)
    Path("alt-text.csv").symlink_to("real/table.csv")
    write_picture(album / "a.jpg", seed=9)
    assert describe(model, album / "a.jpg", "--format", "csv") == 0  # two rows, so that the file is written anew
    assert Path("alt-text.csv").is_symlink() and Path("real/table.csv").stat().st_mode & 0o777 == 0o640
    assert len(rows("csv")) == 1


def test_an_index_without_room_is_one_line(tmp_path):
    index = RowIndex(tmp_path / "alt-text.csv")
    index._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(UserError, match=r"alt-text.csv cannot be indexed in .+ full\); make room there, or set TMPDIR"):
        for number in range(1000):
            index.add(f"{number}.jpg", Kept("generated by showtell 1, model m", "0" * 16))


OTHER_COLUMNS = "has other columns than this version of showtell describe writes; name another --output"
UNREADABLE = "name another --output"


@pytest.mark.parametrize(("form", "content", "message"), [
    ("csv", "file,caption\na.jpg,mine\n", OTHER_COLUMNS),
    ("jsonl", '{"file": "a.jpg", "caption": "mine"}\n', OTHER_COLUMNS),
    ("jsonl", "mine\n", OTHER_COLUMNS),
    ("csv", f"{','.join(COLUMNS)}\n{'x' * 200_000}\n", UNREADABLE),
    ("jsonl", "[" * 20_000 + "\n", UNREADABLE),
    ("jsonl", "9" * 5_000 + "\n", UNREADABLE),
])  # fmt: skip
def test_other_and_unreadable_tables_are_one_line_and_not_changed(album, model, form, content, message):
    table = album.parent / f"alt-text.{form}"
    table.write_text(content)
    with pytest.raises(UserError, match=message):
        describe(model, album, "--format", form)
    assert table.read_text() == content


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_table_with_a_byte_order_mark_is_continued(album, model, capsys, form):
    describe(model, album / "a.jpg", "--format", form)
    table = Path(f"alt-text.{form}")
    content = table.read_bytes()
    table.write_bytes(b"\xef\xbb\xbf" + (content.replace(b"\n", b"\r\n") if form == "csv" else content))
    capsys.readouterr()
    assert describe(model, album / "a.jpg", album / "b.png", "--format", form) == 0
    assert "1 described, 1 already described" in capsys.readouterr().err
    write_picture(album / "a.jpg", seed=9)
    assert describe(model, album / "a.jpg", "--format", form) == 0  # two rows, of which the last stays
    content = table.read_text(encoding="utf-8")
    assert content[0] == "\ufeff" and content.count("\ufeff") == 1
    table.write_text(content[1:], encoding="utf-8")
    assert [row["file"] for row in rows(form)] == [str(album / "b.png"), str(album / "a.jpg")]


def test_an_empty_table_gets_its_head(album, model):
    Path("alt-text.csv").touch()  # a kill before the first row leaves it
    assert describe(model, album / "a.jpg", "--format", "csv") == 0
    assert [row["file"] for row in rows("csv")] == [str(album / "a.jpg")]
