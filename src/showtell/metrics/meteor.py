"""METEOR 1.5, through the jar that pycocoevalcap ships; the one metric that needs Java.

Denkowski & Lavie 2014, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language". The corpus
score comes from summed statistics, so it is not the mean of the images' scores; the jar computes both.
"""

import importlib.util
import shutil
import subprocess
import threading
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np

NEEDS_JAVA = "not computed: needs Java"
NEEDS_PACKAGE = "not computed: needs the package pycocoevalcap"


def jar() -> Path | None:
    """The METEOR jar, or None where pycocoevalcap is not installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "meteor" / "meteor-1.5.jar"
        if path.is_file():
            return path
    return None


def missing() -> str | None:
    """Why METEOR cannot be computed here, or None when it can."""
    if shutil.which("java") is None:
        return NEEDS_JAVA
    return None if jar() else NEEDS_PACKAGE


def meteor(
    references: Mapping[Hashable, Sequence[str]], hypotheses: Mapping[Hashable, str], timeout: float = 900.0
) -> tuple[float, np.ndarray] | str:
    """Corpus score and each image's score (image) of tokenised captions, in the references' order, as fractions.

    A string with the reason when it cannot be computed. The Java process never outlives the call, and is killed
    after `timeout` seconds.
    """
    reason = missing()
    if reason:
        return reason
    path = jar()
    assert path is not None
    command = ["java", "-Xmx2G", "-jar", path.name, "-", "-", "-stdio", "-l", "en", "-norm"]
    process = subprocess.Popen(
        command, cwd=path.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, encoding="utf-8",
    )  # fmt: skip
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    try:
        statistics = [
            _ask(process, f"SCORE ||| {' ||| '.join(captions)} ||| {_clean(hypotheses[image_id])}")
            for image_id, captions in references.items()
        ]
        scores = [float(_ask(process, " ||| ".join(("EVAL", *statistics))))]
        scores += [float(_read(process)) for _ in statistics]
    except (OSError, ValueError):
        return "not computed: METEOR's Java process failed"
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
    return scores[-1], np.array(scores[:-1])


def _clean(caption: str) -> str:
    return caption.replace("|||", "").replace("  ", " ")


def _ask(process: "subprocess.Popen[str]", line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return _read(process)


def _read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ValueError("METEOR ended early")
    return line.strip()
