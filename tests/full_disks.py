"""Writes one file with each library, each in a process of its own, while no file may be longer than 5,000 bytes."""

import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import save_file

from showtell.core.errors import run
from showtell.core.files import atomic, naming, write_json
from showtell.core.spools import Mapped


def full_hdf5(path: str) -> None:
    with naming(Path(path)), h5py.File(path, "w") as file:
        file["a"] = np.zeros(100_000)


def full_safetensors(path: str) -> None:
    with atomic(Path(path)) as temporary:
        save_file({"a": np.zeros(100_000, np.float32)}, temporary)


def full_text(path: str) -> None:
    write_json(Path(path), "x" * 100_000)


def full_map(path: str) -> None:
    Path(path).mkdir()
    tempfile.tempdir = path
    Mapped.blank(100_000, np.float32)


WRITERS = (full_hdf5, full_safetensors, full_text, full_map)

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    for write in WRITERS:
        if os.fork() == 0:  # a process for each, that imports nothing again
            os.mkdir(write.__name__)
            os.chdir(write.__name__)
            run(lambda write=write: write("a.file"))
        print(write.__name__, os.waitstatus_to_exitcode(os.wait()[1]), file=sys.stderr, flush=True)
