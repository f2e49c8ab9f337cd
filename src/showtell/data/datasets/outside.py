"""The state of files outside the repository, written where DVC can compare it.

DVC hashes the dependencies of a stage, but the paths of images and captions are values in params.yaml, which DVC
compares as text. The stage `source` therefore runs every time and writes the state of these files; `download` depends
on its output.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from showtell.core import paths
from showtell.core.errors import UserError
from showtell.core.files import fingerprint, read_json
from showtell.core.paths import given, matches
from showtell.core.progress import log

# Outputs of all stages, or the folders that they are in. DVC deletes them before it runs the stage that writes them.
OUTPUTS = (
    paths.CHECKED, paths.SOURCE, paths.CAPTIONS_RAW, paths.OBJECTS, paths.IMAGES_RAW, paths.CAPTIONS, paths.VOCAB,
    paths.IMAGES, paths.SKIPPED, paths.NEAR_DUPLICATES, paths.FEATURES, paths.ENCODER, paths.TRAIN_MODEL,
    paths.FINETUNE_MODEL, paths.REINFORCE_MODEL, paths.MODEL, paths.HYPOTHESES, paths.ATTENTION, paths.METRICS,
)  # fmt: skip


def regular_files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Name (relative, with `/`) and stat of every regular file below `root`, links followed.

    Hidden files and folders are left out, and so are dead links, sockets, FIFOs and devices: opening a FIFO would wait
    forever.
    """
    visited = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a parent folder
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        inside = PurePosixPath(os.path.relpath(folder, root))
        for name in sorted(files):
            if name.startswith("."):
                continue
            try:
                state = os.stat(os.path.join(folder, name))
            except OSError:  # a dead link, or a circle of links
                continue
            if stat.S_ISREG(state.st_mode):
                yield str(inside / name), state


def stamp_of(state: os.stat_result) -> tuple[int, int, int]:
    """Values that change when a file's content does. ctime is included because programs cannot set it, unlike mtime."""
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def state_of(path: Path) -> str:
    """16 hex digits that change when the file, or any file of the folder, is changed, replaced, added or removed."""
    if path.is_dir():
        return fingerprint([(name, stamp_of(state)) for name, state in regular_files(path)])
    return fingerprint(stamp_of(path.stat()))


def refuse_outputs(path: Path, name: str) -> None:
    """`UserError` when a file or folder of the user, called `name`, is an output of a stage, or lies in one, or around
    one: DVC would delete it, or it would change with every run."""
    here, places = Path.cwd(), {Path(os.path.abspath(path)), path.resolve()}
    for output in OUTPUTS:
        if any(place.is_relative_to(here / output) or (here / output).is_relative_to(place) for place in places):
            raise UserError(
                f"{name}: the pipeline writes {output} there, and DVC deletes what it finds there before; keep your "
                "own files in another folder"
            )


def states(named: dict[str, str | None], before: Path) -> dict[str, str]:
    """The state of each path, by the key of params.yaml that names it; keys that are null are left out.

    A path that does not exist on this machine is assumed to be as in the file `before`: if the outputs of `download`
    exist (from a colleague, or with the disk unmounted), later stages do not need it. `UserError` if it is not in that
    file either.
    """
    found: dict[str, str] = {}
    known = read_json(before) if before.is_file() else {}
    for key, name in named.items():
        if name is None:
            continue
        path = given(name)
        refuse_outputs(path, f"{key} = {name!r}")
        several = [] if path.exists() else matches(path)
        if path.exists():
            found[key] = f"{path} {state_of(path)}"
        elif several:
            found[key] = f"{path} {fingerprint([(str(one), state_of(one)) for one in several])}"
        elif _is_of(str(known.get(key, "")), name):
            log(f"{key} = {name!r} is not on this machine now; taken as unchanged")
            found[key] = known[key]
        else:
            raise UserError(
                f"{key} = {name!r} does not exist; correct it, or run the stages that do without it by name, such as "
                "`dvc repro -s evaluate`"
            )
    return found


def _is_of(recorded: str, name: str) -> bool:
    """Whether a recorded state is of the path `name`; a relative one may have been recorded in another clone."""
    parts = Path(name).parts
    return Path(recorded.rpartition(" ")[0]).parts[-len(parts) :] == parts
