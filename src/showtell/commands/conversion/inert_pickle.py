"""Reading files of `torch.save` and `pickle` without running code in them.

A pickle is a program that names functions and classes and calls them. This reader creates only tensors, their storages
and plain containers. Every other class or function becomes an inert `Record` of its arguments and attributes, so that a
pickled module is a tree of records with tensors as leaves.

`torch.save` has two formats: a zip archive (PyTorch 1.6 and later) with the pickle in `data.pkl` and a file for each
storage, and before that a sequence of pickles followed by the storages' bytes.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from showtell.commands.conversion.bounded_pickle import BoundedUnpickler, checked_key
from showtell.commands.conversion.foreign_tensors import Fixed, LazyTensor, Storage, Storages, is_count
from showtell.core.errors import UserError
from showtell.core.terminal import one_line

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format


class Record:
    """Stands for an object of the file: the name of its class, its arguments and its attributes."""

    name = "record"

    def __new__(cls, *arguments: Any, **named: Any) -> "Record":
        record = object.__new__(cls)
        record.arguments = arguments
        record.attributes = dict(named)
        record.items = []
        return record

    def __init__(self, *arguments: Any, **named: Any):
        pass

    arguments: tuple[Any, ...]
    attributes: dict[str, Any]
    items: list[Any]

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # (dict, slots), or one of them
            if isinstance(part, dict):
                self.attributes.update({str(key): value for key, value in part.items()})

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: Any) -> None:
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.attributes[str(key)] = value

    def __reduce__(self) -> Any:
        raise TypeError("a record of a foreign file is not to be written again")


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> LazyTensor:
    return LazyTensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: Any, *rest: Any) -> Any:
    return data


class _Dictionary(dict):
    """Stands for an OrderedDict; attributes of a state dict's OrderedDict are ignored, they hold no weights."""

    def __setstate__(self, state: Any) -> None:
        pass


def _dictionary(*items: Any) -> _Dictionary:
    pairs = items[0] if items and isinstance(items[0], list | tuple) else ()
    content = _Dictionary(items[0]) if items and isinstance(items[0], dict) else _Dictionary()
    for key, value in pairs:
        content[checked_key(key)] = value
    return content


class _Plain(Fixed):
    """Wraps a function of this module that replaces one of PyTorch's."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.nn.parameter", "Parameter"): _rebuild_parameter,
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
    ("collections", "OrderedDict"): _dictionary,
}


class _InertUnpickler(BoundedUnpickler):
    """Unpickles tensors and plain containers. `storage(kind, key, count)` returns a storage by its name in the file."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, str, int], Storage] | None):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        known = _KNOWN.get((module, name))
        if known is not None:
            return _Plain(known)
        # a new class each time, so that they share no state
        return type("Record", (Record,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        if self._storage is None or not isinstance(pid, tuple) or not pid:
            raise pickle.UnpicklingError("it refers to something outside of it")
        if pid[0] == "module":  # the older format stores a class with its source
            return pid[1]
        _, kind, key, *rest = *pid, None, None
        if pid[0] != "storage" or not isinstance(key, str) or not is_count(rest[1]):
            raise pickle.UnpicklingError("it names a storage that makes no sense")
        return self._storage(str(getattr(kind, "name", "")).rpartition(".")[2], key, rest[1])


def read_checkpoint(path: Path) -> Any:
    """The content of a file of `torch.save` or `pickle`: dicts, lists, tensors on the processor, and `Record`s.

    `UserError` when the file is neither, is damaged, or its pickle is not valid. No code in it is run.
    """
    start = b""
    try:
        with open(path, "rb") as file:
            start = file.read(2)
            if zipfile.is_zipfile(file):
                return _finished(_read_zip(file))
            if start == b"PK":
                raise zipfile.BadZipFile("it is a zip archive without its end; get the file again")
            file.seek(0)
            return _finished(_read_legacy(file))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, TypeError, KeyError, IndexError,
            AttributeError, ImportError, UnicodeDecodeError, OverflowError, MemoryError, RecursionError,
            RuntimeError, struct.error) as error:  # fmt: skip
        if start != b"PK" and not start.startswith(pickle.PROTO):  # what the unpickler says of it means nothing
            reason = "it begins neither as a file of torch.save nor as a pickle"
        else:
            reason = one_line(error) or type(error).__name__
        raise UserError(f"{path} is not a PyTorch checkpoint that can be read safely: {reason}") from None


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(names) != 1:
            raise ValueError("a zip archive without one data.pkl")
        if archive.getinfo(names[0]).compress_type != zipfile.ZIP_STORED:
            raise ValueError("its data.pkl is compressed, which torch.save never does")
        folder = names[0].rpartition("/")[0]
        found = Storages(file)

        def storage(kind: str, key: str, count: int) -> Storage:
            one = found.named(kind, key, count)
            if one.flat is None:
                info = archive.getinfo(f"{folder}/data/{key}")
                if info.file_size != one.size or info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"storage {key} has another size than it says")
                one.fill(archive.read(info))
            return one

        return _InertUnpickler(io.BytesIO(archive.read(names[0])), storage).load()


def _read_legacy(file: BinaryIO) -> Any:
    """The older format, or a plain pickle."""
    first = _InertUnpickler(file, None).load()
    if first != LEGACY_MAGIC:
        return first
    for _ in range(2):  # protocol version, and a description of the machine
        _InertUnpickler(file, None).load()
    found = Storages(file)
    content = _InertUnpickler(file, found.named).load()
    for key in _InertUnpickler(file, None).load():
        (count,) = struct.unpack("<q", file.read(8))
        one = found[key]
        if count != one.count:
            raise ValueError(f"storage {key} has another size than it says")
        one.fill(file.read(one.size))
    return content


def _finished(content: Any) -> Any:
    """`content` with tensors in place of views; an object that occurs several times is converted once."""
    done: dict[int, Any] = {}

    def finish(value: Any) -> Any:
        if isinstance(value, LazyTensor):
            if id(value) not in done:
                done[id(value)] = value.tensor()
            return done[id(value)]
        if not isinstance(value, dict | list | tuple | Record) or id(value) in done:
            return done.get(id(value), value)
        if isinstance(value, tuple):
            done[id(value)] = finished = tuple(finish(item) for item in value)
            return finished
        done[id(value)] = value
        if isinstance(value, dict):
            value.update({key: finish(item) for key, item in value.items()})
        elif isinstance(value, list):
            value[:] = [finish(item) for item in value]
        else:
            value.attributes = finish(value.attributes)
            value.items, value.arguments = finish(value.items), finish(value.arguments)
        return value

    return finish(content)


def module_state(module: Any) -> dict[str, Tensor]:
    """The state dict of a pickled `nn.Module`'s record (or a state dict unchanged), with PyTorch's names."""
    if isinstance(module, dict):
        return {str(name): tensor for name, tensor in module.items() if isinstance(tensor, Tensor)}
    if not isinstance(module, Record):
        raise UserError("the checkpoint holds no module where one is expected")
    state: dict[str, Tensor] = {}
    waiting: list[tuple[str, Record]] = [("", module)]
    seen: set[int] = set()
    while waiting:
        prefix, record = waiting.pop()
        if id(record) in seen:
            continue
        seen.add(id(record))
        for group in ("_parameters", "_buffers"):
            for name, tensor in _items(record.attributes.get(group)):
                if isinstance(tensor, Tensor):
                    state[f"{prefix}{name}"] = tensor
        for name, child in _items(record.attributes.get("_modules")):
            if isinstance(child, Record):
                waiting.append((f"{prefix}{name}.", child))
    return state


def _items(group: Any) -> list[tuple[Any, Any]]:
    return list(group.items()) if isinstance(group, dict) else []
