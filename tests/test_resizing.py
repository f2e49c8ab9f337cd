"""Image stores: the same rows in caption order on any number of processes, and after a kill."""

import errno
import io
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from forked_scripts import Script
from PIL import Image

from showtell.core.errors import UserError, explained
from showtell.data import resizing
from showtell.data.audit import Facts
from showtell.data.datasets.picture_files import Pictures
from showtell.data.resizing import Journal, finish_split, listed, refuse_broken, resize_split, workers
from showtell.data.store import RowReader
from showtell.data.transform import ResizeParams, Transform, load_image

TRANSFORM = Transform(16, "stretch")


def make(folder: Path, count: int) -> list[str]:
    """`count` pictures of noise of many shapes, so that all rows differ."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        shape = (20 + number % 7, 20 + number % 5, 3)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{number:03d}.jpg")
    return [f"{number:03d}.jpg" for number in range(count)][::-1]


def store(tmp_path, files, folder, pool=None, place="place", out="train.h5"):
    images = listed([f"id-{file}" for file in files], files)
    journal = resize_split("train", files, Pictures.of([folder]), TRANSFORM, tmp_path / place, pool)
    facts = list(journal)
    finish_split("train", tmp_path / out, images, journal, TRANSFORM, tmp_path / place)
    return facts, tmp_path / out


def test_rows_equal_the_served_transform_in_caption_order(tmp_path):
    files = make(tmp_path / "photos", 40)
    _, path = store(tmp_path, files, tmp_path / "photos")
    reader = RowReader(path, "images")
    assert reader.ids == [f"id-{file}" for file in files]
    assert json.loads(reader.attrs["transform"]) == {"size": 16, "fit": "stretch", "filter": "bilinear"}
    rows = reader.rows(range(40))
    for file, row in zip(files, rows, strict=True):
        assert np.array_equal(row, TRANSFORM(load_image(tmp_path / "photos" / file)))


def test_several_processes_give_the_bytes_of_one(tmp_path):
    files = make(tmp_path / "photos", 70)
    _, alone = store(tmp_path, files, tmp_path / "photos", place="one", out="one.h5")
    with workers(10_000, count=2) as pool:
        assert pool is not None
        _, shared = store(tmp_path, files, tmp_path / "photos", pool, place="two", out="two.h5")
    assert alone.read_bytes() == shared.read_bytes()


def test_a_broken_picture_is_left_out(tmp_path):
    files = make(tmp_path / "photos", 20)
    (tmp_path / "photos" / files[3]).write_bytes(b"broken")
    (tmp_path / "photos" / files[7]).unlink()
    facts, path = store(tmp_path, files, tmp_path / "photos")
    reader = RowReader(path, "images")
    assert len(reader) == 18 and f"id-{files[3]}" not in reader.ids and f"id-{files[7]}" not in reader.ids
    assert [f.problem for f in facts if f.problem] == ["broken", "missing"]
    position = reader.ids.index(f"id-{files[8]}")
    assert np.array_equal(reader.rows([position])[0], TRANSFORM(load_image(tmp_path / "photos" / files[8])))


@pytest.mark.parametrize("error", [OSError(errno.EIO, "input/output error"), MemoryError()])
def test_an_error_of_the_machine_does_not_count_as_a_broken_picture(tmp_path, monkeypatch, error):
    files = make(tmp_path / "photos", 4)

    def fails(*_):
        raise error

    with monkeypatch.context() as machine:
        machine.setattr("showtell.data.datasets.archive_entries._whole_file", fails)
        if isinstance(error, MemoryError):
            machine.undo()
            machine.setattr("showtell.data.transform.Image.Image.load", fails)
            machine.setattr("PIL.ImageFile.ImageFile.load", fails)
        with pytest.raises(type(error)):
            store(tmp_path, files, tmp_path / "photos")
    facts, _ = store(tmp_path, files, tmp_path / "photos")
    assert [f.problem for f in facts] == [""] * 4


def test_broken_pictures_stop_the_run_and_are_all_listed(tmp_path, capsys):
    facts = {"train": [Facts(f"{i}.jpg", "", "broken", "no picture", [], 0) for i in range(5)] + [good("x.jpg")]}
    facts |= {split: [good("y.jpg"), good("z.jpg")] for split in ("val", "test")}
    with pytest.raises(UserError, match=r"5 pictures cannot be used .*resize\.broken: skip"):
        refuse_broken(facts, ResizeParams(size=16, fit="stretch", filter="auto", broken="error"))
    assert capsys.readouterr().err.splitlines() == [f"{i}.jpg: broken: no picture" for i in range(5)]
    refuse_broken(facts, ResizeParams(size=16, fit="stretch", filter="auto", broken="skip"))


def good(file: str) -> Facts:
    return Facts(file, "c", "", "", [], 0)


def test_splits_that_become_too_small_are_refused_before_training():
    facts = {split: [good("a.jpg"), good("b.jpg")] for split in ("train", "val", "test")}
    facts["test"][1] = Facts("b.jpg", "", "broken", "no picture", [], 0)
    message = r"without the 1 pictures .*b\.jpg: no picture.*too few images to split: .*test 1; at least test 2"
    with pytest.raises(UserError, match=message):
        refuse_broken(facts, ResizeParams(size=16, fit="crop", filter="auto", broken="skip"))


def test_a_split_without_any_picture_is_refused():
    with pytest.raises(UserError, match=r"no picture of split val can be used.*gone"):
        refuse_broken(
            {"val": [Facts("a.jpg", "", "missing", "gone", [], 0)]},
            ResizeParams(size=16, fit="crop", filter="auto", broken="skip"),
        )


def test_a_full_disk_is_reported_before_the_first_row(tmp_path, monkeypatch):
    files = make(tmp_path / "photos", 3)
    monkeypatch.setattr("showtell.core.files.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"needs 2,304 bytes more, with [0-9,]+ to spare, and its disk has 1,000 free"):
        store(tmp_path, files, tmp_path / "photos")


def test_a_disk_that_fills_up_is_one_line():
    journal = resizing.Journal(Path("/dev/full"))
    with pytest.raises(OSError, match="/dev/full") as told, workers(1000, 2):
        journal.add([Facts("a.jpg", "", "", "", [], 0)])
    assert explained(told.value).startswith("/dev/full: no space left on device; make room")


def test_a_truncated_journal_line_is_dropped(tmp_path):
    journal = Journal(tmp_path / "facts")
    journal.add([good("a.jpg"), good("b.jpg")])
    with open(journal.path, "a") as file:
        file.write('["c.jpg", "x"')
    assert [f.file for f in journal] == ["a.jpg", "b.jpg"]
    assert journal.cut(9) == 2 and journal.cut(1) == 1
    journal.add([good("d.jpg")])
    assert [f.file for f in journal] == ["a.jpg", "d.jpg"]


@pytest.mark.parametrize("moment", ["before the rows", "between rows and journal", "between journal and count"])
def test_a_run_stopped_between_any_two_writes_is_continued(tmp_path, monkeypatch, moment):
    files = make(tmp_path / "photos", 100)
    (tmp_path / "photos" / files[30]).write_bytes(b"broken")
    _, whole = store(tmp_path, files, tmp_path / "photos", place="whole", out="whole.h5")
    kept = stop_at(monkeypatch, moment)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path, files, tmp_path / "photos")
    monkeypatch.undo()
    decoded = count_decodes(monkeypatch)
    _, path = store(tmp_path, files, tmp_path / "photos")
    assert path.read_bytes() == whole.read_bytes()
    assert len(decoded) == 100 - kept


def stop_at(monkeypatch, moment: str) -> int:
    """Raise in the third chunk; returns how many pictures are stored by then."""
    target, name = {
        "before the rows": (resizing, "resize_chunk"),
        "between rows and journal": (Journal, "add"),
        "between journal and count": (resizing.RowWriter, "mark"),
    }[moment]
    original, calls = getattr(target, name), []

    def stopping(*args):
        calls.append(1)
        if len(calls) == (4 if name == "mark" else 3):  # creating the store sets the count once
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(target, name, stopping)
    return 2 * resizing.PICTURES_PER_JOB


def count_decodes(monkeypatch) -> list:
    calls, original = [], resizing.open_image
    monkeypatch.setattr(resizing, "open_image", lambda content: calls.append(1) or original(content))
    return calls


CHILD = """
from pathlib import Path
from showtell.data.datasets.picture_files import Pictures
from showtell.data.resizing import resize_split, workers
from showtell.data.transform import Transform
photos = Path("photos")
if __name__ == "__main__":
    files = [path.name for path in sorted(photos.iterdir(), reverse=True)]
    with workers(10_000, 2) as pool:
        resize_split("train", files, Pictures.of([photos]), Transform(16, "stretch"), Path("place"), pool)
"""


def test_killed_at_several_moments_the_bytes_are_the_same(tmp_path):
    files = make(tmp_path / "photos", 400)
    _, whole = store(tmp_path, files, tmp_path / "photos", place="whole", out="whole.h5")
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    in_time = []
    for reached in (1, 200):
        with Script(script, tmp_path) as child:
            in_time.append(reaches(tmp_path / "place" / "train.facts", reached, child))
            child.kill()
    assert any(in_time), "no process was killed at work"
    _, path = store(tmp_path, files, tmp_path / "photos")
    assert path.read_bytes() == whole.read_bytes()


def reaches(journal: Path, count: int, child: Script) -> bool:
    """Wait for so many rows; whether they came before the process ended by itself."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and child.returncode is None:
        if journal.exists() and journal.read_bytes().count(b"\n") >= count:
            return True
        time.sleep(0.002)
    return False


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from showtell.data.resizing import workers\n"
        "if __name__ == '__main__':\n"
        "    with workers(1000, 2) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(60)\n"
    )
    with Script(script, tmp_path) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and alive(worker):
        time.sleep(0.02)
    assert not alive(worker)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def test_stored_and_served_photographs_are_equal(tmp_path):
    """One photo through the store and through serving, rotated and in another colour model."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    x = np.linspace(0, 255, 50).astype(np.uint8)
    Image.fromarray(np.tile(x, (30, 1))).convert("CMYK").save(buffer, "JPEG", exif=exif)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(buffer.getvalue())
    facts, path = store(tmp_path, ["a.jpg"], tmp_path / "photos")
    assert facts[0].traits == ["cmyk", "rotated"]
    assert np.array_equal(RowReader(path, "images").rows([0])[0], TRANSFORM(load_image(buffer.getvalue())))
