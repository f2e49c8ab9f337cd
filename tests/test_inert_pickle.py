"""Checkpoints are read without executing code in them."""

import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from showtell.commands.conversion import bounded_pickle
from showtell.commands.conversion.inert_pickle import Record, module_state, read_checkpoint
from showtell.core.errors import UserError


class Small(nn.Module):
    """Whole modules are pickled with a reference to their class, which the reader must not import."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
        self.tied = self.head
        self.size = 14


class Words:
    def __init__(self):
        self.word2idx, self.idx = {"a": 0, "dog": 1}, 2


@pytest.mark.parametrize("modern", [True, False])
def test_a_whole_module_becomes_its_state_dict(tmp_path, modern):
    module = Small()
    torch.save({"epoch": 3, "model": module}, tmp_path / "x.pth", _use_new_zipfile_serialization=modern)
    content = read_checkpoint(tmp_path / "x.pth")
    assert content["epoch"] == 3 and isinstance(content["model"], Record)
    assert content["model"].attributes["size"] == 14
    state = module_state(content["model"])
    expected = {name: tensor for name, tensor in module.state_dict().items() if not name.startswith("tied")}
    found = {name.replace("tied.", "head."): tensor for name, tensor in state.items()}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("modern", [True, False])
def test_state_dicts_views_and_types_come_back(tmp_path, modern):
    base = torch.arange(12.0)
    content = OrderedDict(part=base.view(3, 4)[1:, ::2], half=base.half(), ints=base.long(), none=base[:0])
    content._metadata = {"version": 1}  # as that of a state dict
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=modern)
    found = read_checkpoint(tmp_path / "x.pth")
    for name, tensor in content.items():
        assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype


def test_a_pickled_object_is_a_record_of_its_attributes(tmp_path):
    (tmp_path / "vocab.pkl").write_bytes(pickle.dumps(Words()))
    record = read_checkpoint(tmp_path / "vocab.pkl")
    assert record.name.endswith("Words") and record.attributes == {"word2idx": {"a": 0, "dog": 1}, "idx": 2}


class Hostile:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_code_in_a_file_is_not_executed(tmp_path):
    mark = tmp_path / "ran"
    for number, call in enumerate((os.system, eval, exec)):
        text = f"touch {mark}" if call is os.system else f"open({str(mark)!r}, 'w')"
        torch.save({"model": Hostile(call, text)}, tmp_path / f"{number}.pth")
        content = read_checkpoint(tmp_path / f"{number}.pth")
        assert isinstance(content["model"], Record) and content["model"].arguments == (text,)
    assert not mark.exists()


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD sets attributes on any object on the stack, also on a stand-in for a known function."""
    hostile = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(U\x05_callU\x01xub."
    (tmp_path / "x.pkl").write_bytes(hostile)
    with pytest.raises(UserError, match="is not a PyTorch checkpoint that can be read safely"):
        read_checkpoint(tmp_path / "x.pkl")
    torch.save(torch.ones(2), tmp_path / "good.pth")
    assert torch.equal(read_checkpoint(tmp_path / "good.pth"), torch.ones(2))


def proto4(*operations: bytes) -> bytes:
    return b"\x80\x04" + b"".join(operations) + b"."


# () as 0, then 200 times the pair of the last and the last: hashing or printing it takes 2 ** 200 steps.
DOUBLED = b")" + b"2\x86" * 200
SLOW_KEYS = {
    "dictionary": proto4(b"}", DOUBLED, b"K\x01s"),
    "several": proto4(b"}(", DOUBLED, b"K\x01u"),
    "old dictionary": proto4(b"(", DOUBLED, b"K\x01d"),
    "set": proto4(b"\x8f(", DOUBLED, b"\x90"),
    "frozen set": proto4(b"(", DOUBLED, b"\x91"),
    "record": proto4(b"cx\ny\n)R", DOUBLED, b"K\x01s"),
    "ordered dictionary": proto4(b"ccollections\nOrderedDict\n(](", DOUBLED, b"K\x01\x86etR"),
    "frozen sets": proto4(b"}(", b"(\x91" + b"(2\x85\x91" * 3, b"K\x01u"),
    "number": proto4(b"}\x8b", struct.pack("<i", 100), b"\x01" * 100, b"K\x01s"),
}


@pytest.mark.parametrize("name", SLOW_KEYS)
def test_keys_that_take_for_ever_to_hash_are_refused(tmp_path, name):
    (tmp_path / "x.pkl").write_bytes(SLOW_KEYS[name])
    with pytest.raises(UserError, match="is not a PyTorch checkpoint that can be read safely"):
        read_checkpoint(tmp_path / "x.pkl")


def test_a_storage_with_an_endless_name_is_refused(tmp_path):
    name = proto4(b"(", b"\x8c\x07storage", b"ctorch\nFloatStorage\n", DOUBLED, b"\x8c\x03cpu", b"K\x01", b"tQ")
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", name)
    with pytest.raises(UserError, match="names a storage that makes no sense"):
        read_checkpoint(tmp_path / "x.pth")


def storage(count: int, key: str = "0") -> bytes:
    return (
        b"(\x8c\x07storage" + b"ctorch\nFloatStorage\n" + b"\x8c\x01" + key.encode() + b"\x8c\x03cpu"
        + b"\x8a\x09" + count.to_bytes(9, "little") + b"tQ"
    )  # fmt: skip


def checkpoint(path, pickled: bytes, *storages: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for number, content in enumerate(storages):
            archive.writestr(f"archive/data/{number}", content)


def test_a_storage_cannot_be_made_larger_by_the_pickle(tmp_path):
    """BUILD on the storage: a number as its bytes would be taken for their count."""
    grown = storage(1) + b"}(\x8c\x07content\x8a\x06" + (10**12).to_bytes(6, "little") + b"ub"
    checkpoint(tmp_path / "x.pth", proto4(grown), b"\0" * 4)
    with pytest.raises(UserError, match="it changes what reads it"):
        read_checkpoint(tmp_path / "x.pth")


def test_many_views_of_a_storage_share_its_memory(tmp_path):
    base = torch.zeros(1000)
    torch.save([base.view(10, 100) for _ in range(50)], tmp_path / "x.pth")
    views = read_checkpoint(tmp_path / "x.pth")
    assert len(views) == 50 and len({view.untyped_storage().data_ptr() for view in views}) == 1


def test_storages_are_together_no_larger_than_the_file(tmp_path):
    old = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
    (tmp_path / "x.pth").write_bytes(old + proto4(storage(10**15)) + proto4(b"](\x8c\x010e"))
    with pytest.raises(UserError, match="its storages are larger than the file"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_pickle_names_objects_by_any_number(tmp_path):
    """The unpickler in C keeps a table as long as the largest number: 32 GB for this one."""
    (tmp_path / "x.pkl").write_bytes(proto4(b"K\x07r" + struct.pack("<I", 2**31) + b"j" + struct.pack("<I", 2**31)))
    assert read_checkpoint(tmp_path / "x.pkl") == 7


def test_a_long_pickle_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_pickle, "LARGEST_PICKLE", 1000)
    (tmp_path / "x.pkl").write_bytes(proto4(b"}0" * 600, b"}"))
    with pytest.raises(UserError, match="its pickle has more than"):
        read_checkpoint(tmp_path / "x.pkl")


@pytest.mark.parametrize("size", [(1,) * 65, (2**64,), (2**40,) * 60])
def test_sizes_without_sense_are_refused(tmp_path, size):
    numbers = b"".join(b"\x8a\x09" + number.to_bytes(9, "little") for number in size)
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(1) + b"K\x00(" + numbers + b"t(" + numbers + b"ttR"
    checkpoint(tmp_path / "x.pth", proto4(tensor), b"\0" * 4)
    with pytest.raises(UserError, match=r"a tensor (with a broken shape|larger than its storage)"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("modern", [True, False])
def test_a_small_file_cannot_allocate_all_memory(tmp_path, modern):
    torch.save(torch.ones(1).expand(1000, 1000), tmp_path / "x.pth", _use_new_zipfile_serialization=modern)
    with pytest.raises(UserError, match="a tensor larger than its storage"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_compressed_pickle_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps([0] * 100_000))
    with pytest.raises(UserError, match="is compressed"):
        read_checkpoint(tmp_path / "x.pth")


def test_tuples_of_the_same_tuples_are_read_once_each(tmp_path):
    nested: tuple = ("a",)
    for _ in range(200):  # 2 ** 200 paths
        nested = nested, nested
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(nested))
    found = read_checkpoint(tmp_path / "x.pkl")
    while len(found) == 2 and found[0] is found[1]:
        found = found[0]
    assert found == ("a",)


DAMAGED = [
    b"", b"\x80", b"no pickle at all", b"\x80\x02X\xff\xff\xff\x7fabc", b"PK\x03\x04junk",
    b"\x80\x02" + b"(" * 100 + b".", b"\x80\x02cos\nsystem\n",
]  # fmt: skip


@pytest.mark.parametrize("content", [b"hello, world", b"\xff\xd8\xff\xe0\x00\x10JFIF", b'{"a": 1}', b""])
def test_other_files_are_not_explained_by_the_unpickler(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    told = "x.pth is not a PyTorch checkpoint that can be read safely: it begins neither as a file of torch.save nor"
    with pytest.raises(UserError, match=told):
        read_checkpoint(tmp_path / "x.pth")


def test_a_download_that_was_cut_short_is_told_as_one(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:-30])
    with pytest.raises(UserError, match="a zip archive without its end; get the file again"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_pickle_of_the_first_protocol_is_read(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=0))  # it begins like any text
    assert read_checkpoint(tmp_path / "x.pkl") == {"a": 1}


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_files_are_one_line(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"is not a PyTorch checkpoint that can be read safely: .+"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    torch.save(torch.ones(4), tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "x.pth").read_bytes()
    assert content.count(b"K\x04\x85") >= 1  # its size, (4,)
    (tmp_path / "x.pth").write_bytes(content.replace(b"K\x04\x85", b"K\x7f\x85"))
    with pytest.raises(UserError, match="a tensor larger than its storage"):
        read_checkpoint(tmp_path / "x.pth")
