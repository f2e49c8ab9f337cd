"""Row stores: round trips, several processes, kills, damage."""

import multiprocessing
import os
import pickle

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from showtell.core.damage import remedy
from showtell.core.errors import UserError
from showtell.data.store import RowReader, RowWriter
from showtell.data.store_layout import SUM_TYPE, SUMS, sum_of_names

ROWS = np.arange(10 * 3 * 2, dtype=np.float16).reshape(10, 3, 2)


def write(tmp_path, rows=ROWS, capacity=None, name="store.h5"):
    writer = RowWriter(tmp_path / f"{name}.part", "grid", capacity or len(rows), rows.shape[1:], rows.dtype)
    writer.append(rows)
    writer.finish(tmp_path / name, [f"id{i}" for i in range(len(rows))], {"transform": "t"})
    return tmp_path / name


def test_it_is_plain_hdf5(tmp_path):
    with h5py.File(write(tmp_path)) as file:
        assert np.array_equal(file["grid"][()], ROWS)
        assert file["image_id"].asstr()[3] == "id3" and file.attrs["transform"] == "t"


def test_rows_in_any_order(tmp_path):
    reader = RowReader(write(tmp_path), "grid")
    assert np.array_equal(reader.rows([7, 0, 7]), ROWS[[7, 0, 7]])
    assert reader.ids[9] == "id9" and reader.attrs == {"transform": "t"} and len(reader) == 10
    assert reader.rows([]).shape == (0, 3, 2)
    with pytest.raises(IndexError):
        reader.rows([10])


@settings(max_examples=20)
@given(st.lists(st.integers(0, 4), max_size=6))
def test_writes_in_pieces_give_the_same_bytes(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("store")
    rows = np.random.default_rng(0).integers(0, 256, (sum(pieces) + 1, 5), np.uint8)
    whole = write(folder, rows).read_bytes()
    written, ends = 0, [*np.cumsum(pieces), len(rows)]
    for end in ends:
        writer = RowWriter(folder / "p.part", "grid", len(rows), (5,), np.uint8)  # as after a kill
        assert writer.done == written
        writer.append(rows[written:end])
        written = int(end)
    writer.finish(folder / "p.h5", [f"id{i}" for i in range(len(rows))], {"transform": "t"})
    assert (folder / "p.h5").read_bytes() == whole


def test_fewer_rows_than_planned_leave_no_gap(tmp_path):
    path = write(tmp_path, ROWS[:4], capacity=10, name="fewer.h5")
    assert path.read_bytes() == write(tmp_path, ROWS[:4], name="exact.h5").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exact.h5", "fewer.h5"]


def test_a_kill_while_ids_are_written_is_repaired(tmp_path, monkeypatch):
    part = tmp_path / "a.h5.part"
    writer = RowWriter(part, "grid", 10, (3, 2), np.float16)
    writer.append(ROWS)
    ids = [f"id{i}" for i in range(10)]
    with monkeypatch.context() as patch:
        patch.setattr("showtell.data.store.os.replace", None)
        with pytest.raises(TypeError):
            writer.finish(tmp_path / "a.h5", ids, {"transform": "t"})
    writer = RowWriter(part, "grid", 10, (3, 2), np.float16)
    assert writer.done == 10
    writer.finish(tmp_path / "a.h5", ids, {"transform": "t"})
    assert (tmp_path / "a.h5").read_bytes() == write(tmp_path).read_bytes()


def test_an_unfinished_part_of_another_shape_is_replaced(tmp_path):
    part = tmp_path / "a.part"
    RowWriter(part, "grid", 10, (3, 2), np.float16).append(ROWS[:5])
    assert RowWriter(part, "grid", 10, (3, 2), np.float16).done == 5
    assert RowWriter(part, "grid", 11, (3, 2), np.float16).done == 0


def test_wrong_rows_are_refused(tmp_path):
    writer = RowWriter(tmp_path / "a.part", "grid", 2, (3, 2), np.float16)
    for rows in (ROWS[:, :2], ROWS.astype(np.float32), ROWS):
        with pytest.raises(ValueError, match="rows"):
            writer.append(rows)
    with pytest.raises(ValueError, match="1 ids for 0 rows"):
        writer.finish(tmp_path / "a.h5", ["x"], {})


def test_other_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.h5 does not exist"):
        RowReader(tmp_path / "a.h5", "grid")
    (tmp_path / "a.h5").write_bytes(b"text")
    with pytest.raises(UserError, match=r"a\.h5 is not a store of grid"):
        RowReader(tmp_path / "a.h5", "grid")
    with pytest.raises(UserError, match="is not a store of images"):
        RowReader(write(tmp_path), "images")


def test_a_store_without_read_permission_is_not_called_damaged(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(UserError, match=r"^\S*/folder/a\.h5: not a directory; something of another kind has that name"):
        RowReader(tmp_path / "folder" / "a.h5", "grid")


def test_a_truncated_store_is_detected(tmp_path):
    path = write(tmp_path, np.zeros((100, 1000), np.uint8))
    reader = RowReader(path, "grid")
    with open(path, "r+b") as file:
        file.truncate(50_000)
    with pytest.raises(UserError, match=r"store\.h5 is damaged: it is cut short; delete it and run"):
        reader.rows([99])


def position_of(content: bytes, path) -> int:
    found = path.read_bytes()
    assert found.count(content) == 1
    return found.index(content)


def flip(path, position: int) -> None:
    """Flip one bit of a file; its size and times are unchanged."""
    times = path.stat()
    with open(path, "r+b") as file:
        byte = os.pread(file.fileno(), 1, position)[0]
        os.pwrite(file.fileno(), bytes([byte ^ 1]), position)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@settings(max_examples=20)
@given(st.integers(0, ROWS.nbytes - 1))
def test_one_changed_bit_in_a_row_is_one_line_when_that_row_is_read(tmp_path_factory, place):
    path = write(tmp_path_factory.mktemp("store"))
    flip(path, position_of(ROWS.tobytes(), path) + place)
    row = place // ROWS[0].nbytes
    reader, others = RowReader(path, "grid"), [other for other in range(10) if other != row]
    assert np.array_equal(reader.rows(others), ROWS[others])
    for _ in range(2):  # also when it is read again
        with pytest.raises(UserError, match=rf"store\.h5 is damaged: row {row} \(image id{row}\) is not as"):
            reader.rows([row])


def test_changed_checksums_and_ids_are_detected(tmp_path):
    sums, names = write(tmp_path, name="sums.h5"), write(tmp_path, name="names.h5")
    with h5py.File(sums) as file:
        content = file[SUMS][()].tobytes()
    flip(sums, position_of(content, sums) + 4 * 3)
    with pytest.raises(UserError, match=r"row 3 .image id3"):
        RowReader(sums, "grid").rows([3])
    flip(names, position_of(b"id7", names) + 2)
    with pytest.raises(UserError, match=r"names\.h5 is not a store of grid: the names of its images"):
        RowReader(names, "grid")


def test_rows_of_an_unfinished_store_have_their_sums_in_the_next_run(tmp_path):
    def reopened() -> RowWriter:
        return RowWriter(tmp_path / "a.h5.part", "grid", 12, (3, 2), np.float16)

    reopened().append(ROWS[:4])
    writer = reopened()
    writer.append(ROWS[4:])
    writer.keep([9, 0, 5])
    writer.finish(tmp_path / "a.h5", ["9", "0", "5"], {})
    assert np.array_equal(RowReader(tmp_path / "a.h5", "grid").rows([0, 1, 2]), ROWS[[9, 0, 5]])
    flip(tmp_path / "a.h5", position_of(ROWS[[9, 0, 5]].tobytes(), tmp_path / "a.h5"))
    with pytest.raises(UserError, match=r"row 0 .image 9"):
        RowReader(tmp_path / "a.h5", "grid").rows([0])


def test_the_copy_in_dvc_s_cache_that_is_the_same_file_is_named_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, cache = write(tmp_path), tmp_path / ".dvc" / "cache" / "files" / "md5" / "1d"
    cache.mkdir(parents=True)
    (cache / "other").write_bytes(b"1")
    assert remedy(path) == "delete it and run `dvc repro`"
    os.link(path, cache / "a7")
    both = "delete it and .dvc/cache/files/md5/1d/a7, the same file in DVC's cache, and run `dvc repro`"
    assert remedy(path) == both
    path.unlink()
    path.symlink_to(cache / "a7")
    assert remedy(path) == both


def read_in_child(reader, queue):
    queue.put(reader.rows([4, 2]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_an_open_reader_works_in_other_processes(tmp_path, method):
    reader = RowReader(write(tmp_path), "grid")
    reader.rows([0])
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(reader, queue))
    child.start()
    assert np.array_equal(queue.get(timeout=300), ROWS[[4, 2]])
    child.join()
    queue.close()
    queue.join_thread()
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).rows([1]), ROWS[[1]])


def test_after_a_power_cut_only_flushed_rows_count(tmp_path, monkeypatch):
    def reopened() -> RowWriter:
        return RowWriter(tmp_path / "a.part", "grid", 10, (3, 2), np.float16)

    writer = reopened()
    writer.append(ROWS[:4])
    writer.flush()
    writer.append(ROWS[4:7])
    assert reopened().done == 7  # a kill alone loses nothing
    monkeypatch.setattr("showtell.data.store._boot", lambda: "another")
    writer = reopened()
    assert writer.done == 4
    writer.append(ROWS[4:])
    writer.finish(tmp_path / "a.h5", [f"id{i}" for i in range(10)], {"transform": "t"})
    assert (tmp_path / "a.h5").read_bytes() == write(tmp_path).read_bytes()


def test_rows_are_flushed_regularly(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("showtell.data.store.time.monotonic", lambda: now[0])
    writer = RowWriter(tmp_path / "a.part", "grid", 10, (3, 2), np.float16)
    for start in range(0, 10, 2):
        now[0] += 2.0
        writer.append(ROWS[start : start + 2])
    assert (tmp_path / "a.part.flushed").read_text().startswith("6 ")  # after 5 seconds, not again since


def spoilt(path, name: str, how: str) -> None:
    """An HDF5 file with the names of a store, damaged by `how`."""
    with h5py.File(path, "w") as file:
        ids = ["a", "b"]
        if how == "chunked":
            file.create_dataset(name, data=np.zeros((2, 3), np.uint8), chunks=(1, 3))
        elif how == "compressed":
            file.create_dataset(name, data=np.zeros((2, 3), np.uint8), compression="gzip")
        elif how == "a group":
            file.create_group(name)
        elif how == "text":
            file.create_dataset(name, data=["x", "y"], dtype=h5py.string_dtype())
        elif how == "a scalar":
            file[name] = 5
        elif how == "flat":
            file[name] = np.zeros(2, np.uint8)
        elif how == "empty":
            file[name] = h5py.Empty("f")
        elif how == "a link":
            file[name] = h5py.ExternalLink("elsewhere.h5", name)
        elif how == "elsewhere":
            file.create_dataset(name, (2, 3), np.uint8, external=[(str(path.with_name("raw")), 0, 6)])
        else:
            file[name] = np.zeros((2, 3), np.uint8)
        file["image_id"] = {"ids are numbers": [1, 2], "too few ids": ["a"], "ids are a table": [["a", "b"]]}.get(
            how, ids
        )
        if file["image_id"].dtype.kind == "O":  # the rest of the file is valid
            names = np.ravel(file["image_id"].asstr()[()]).tolist()
            file["image_id"].attrs[SUMS] = np.array(sum_of_names(names), SUM_TYPE)
        file[SUMS] = np.zeros((1 if how == "too few sums" else 2, 1), np.int64 if how == "other sums" else SUM_TYPE)
        file.attrs["transform"] = 5 if how == "attributes are numbers" else "t"
        if how == "no image ids":
            del file["image_id"]


@pytest.mark.parametrize(
    "how",
    [
        "chunked", "compressed", "a group", "text", "a scalar", "flat", "empty", "a link", "elsewhere", "no image ids",
        "ids are numbers", "too few ids", "ids are a table", "attributes are numbers", "too few sums", "other sums",
    ],
)  # fmt: skip
def test_other_hdf5_files_are_one_line(tmp_path, how):
    path = tmp_path / "a.h5"
    spoilt(path, "grid", how)
    with pytest.raises(UserError, match=r"a\.h5 is not a store of grid: .*delete it and run") as caught:
        RowReader(path, "grid")
    assert "\n" not in str(caught.value)


def test_image_stores_need_a_transform(tmp_path):
    spoilt(tmp_path / "a.h5", "images", "well")
    with pytest.raises(UserError, match="it has no attribute 'content'"):
        RowReader(tmp_path / "a.h5", "images")
