"""METEOR 1.5, computed by the jar in pycocoevalcap; needs Java.

Denkowski & Lavie 2014, "Meteor Universal: Language Specific Translation Evaluation for Any Target Language". The corpus
score comes from summed statistics, so it is not the mean of the images' scores; the jar computes both. The formula from
statistics to score is implemented here as well, so that the corpus score can be resampled.
"""

import importlib.util
import shutil
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

NEEDS_JAVA = "not computed: needs Java"
NEEDS_PACKAGE = "not computed: needs the package pycocoevalcap"
# The jar's parameters for English: recall weight, fragmentation exponent and weight, content word weight, and how much
# matches by form, stem, synonym and paraphrase count
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MATCHES = np.array([1.0, 0.6, 0.8, 0.6])
# Columns of the statistics: lengths, function words, then per kind of match content and function words of both sides
_LENGTH, _FUNCTION, _STAGES, _CHUNKS, _MATCHED = slice(0, 2), slice(2, 4), slice(4, 20), 20, slice(21, 23)


class MeteorScores(NamedTuple):
    """`corpus` and `images` (image) as fractions; `statistics` (image, column), which add up to a corpus."""

    corpus: float
    images: np.ndarray
    statistics: np.ndarray


def jar() -> Path | None:
    """The METEOR jar, or None where pycocoevalcap is not installed."""
    return package("meteor", "meteor-1.5.jar")


def package(*place: str) -> Path | None:
    """The file at `place` in pycocoevalcap, or None where it is not installed."""
    spec = importlib.util.find_spec("pycocoevalcap")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, *place)
        if path.is_file():
            return path
    return None


def missing() -> str | None:
    """Why METEOR cannot be computed here, or None when it can."""
    if shutil.which("java") is None:
        return NEEDS_JAVA
    return None if jar() else NEEDS_PACKAGE


def meteor(
    references: Iterable[Sequence[str]], hypotheses: Iterable[str], timeout: float = 900.0
) -> MeteorScores | str:
    """Scores of tokenised captions: `references` of each image and its caption, each gone through once.

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
            _ask(process, f"SCORE ||| {' ||| '.join(captions)} ||| {_clean(said)}")
            for captions, said in zip(references, hypotheses, strict=True)
        ]
        scores = [float(_ask(process, " ||| ".join(("EVAL", *statistics))))]
        scores += [float(_read(process)) for _ in statistics]
    except (OSError, ValueError):
        return "not computed: METEOR's Java process failed"
    finally:
        timer.cancel()
        process.kill()
        process.communicate()
    return MeteorScores(scores[-1], np.array(scores[:-1]), _additive(statistics))


def _additive(lines: Sequence[str]) -> np.ndarray:
    """The jar's statistics (image, column) in the form in which it sums them: a perfect match has no fragmentation."""
    table = np.array([line.split() for line in lines], float)
    whole = (table[:, _LENGTH] == table[:, _MATCHED]).all(axis=1) & (table[:, _CHUNKS] == 1)
    table[whole, _CHUNKS] = 0
    return table


def from_statistics(sums: np.ndarray) -> np.ndarray:
    """METEOR (...) of summed statistics (..., column); the formula of section 2 with the parameters for English."""
    content, function = sums[..., _LENGTH] - sums[..., _FUNCTION], sums[..., _FUNCTION]  # (..., side)
    stages = sums[..., _STAGES].reshape(*sums.shape[:-1], 4, 2, 2)  # (..., kind of match, content or function, side)
    matches = _DELTA * stages[..., 0, :] + (1 - _DELTA) * stages[..., 1, :]
    matched = (_MATCHES[:, None] * matches).sum(axis=-2)  # (..., side)
    length = _DELTA * content + (1 - _DELTA) * function
    share = np.divide(matched, length, out=np.zeros_like(matched), where=length > 0)
    precision, recall = share[..., 0], share[..., 1]
    weighted = _ALPHA * precision + (1 - _ALPHA) * recall
    mean = np.divide(precision * recall, weighted, out=np.zeros_like(recall), where=weighted > 0)
    words = sums[..., _MATCHED].mean(axis=-1)
    fragments = np.divide(sums[..., _CHUNKS], words, out=np.zeros_like(words), where=words > 0)
    return mean * (1 - _GAMMA * fragments**_BETA)


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
