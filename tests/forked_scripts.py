"""Scripts as processes of their own, forked from a server that has imported torch once."""

import os
import runpy
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

IMPORTED = ["torch", "torchvision", "h5py", "showtell.learning.loop", "showtell.evaluation.judge"]


class Script:
    """`python SCRIPT` in `folder`, with the attributes of `subprocess.Popen` that tests use."""

    def __init__(self, script: Path, folder: Path, **environment: str):
        context = get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        pipes = [context.Pipe(duplex=False) for _ in range(2)]
        writers = [writer for _, writer in pipes]
        self._process = context.Process(target=_run, args=(str(script), str(folder), environment, *writers))
        self._process.start()
        for writer in writers:
            writer.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(reader.fileno()), encoding="utf-8") for reader, _ in pipes)
        for reader, _ in pipes:
            reader.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """All output, which must fit a pipe, after the script's end."""
        self._process.join(timeout)
        assert self.returncode is not None, "the script does not end"
        return self.stdout.read(), self.stderr.read()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def __enter__(self) -> "Script":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.join()
        self.stdout.close()
        self.stderr.close()


def _run(script: str, folder: str, environment: dict[str, str], stdout: Connection, stderr: Connection) -> None:
    """In the new process."""
    for stream, pipe in ((1, stdout), (2, stderr)):
        os.dup2(pipe.fileno(), stream)
        pipe.close()
    # the server's streams may have been files with a position, which a pipe has not
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 open to the end
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")
