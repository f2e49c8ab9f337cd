"""SPICE, computed by the jar in pycocoevalcap: F-score of a caption's scene graph against the references' graphs.

Anderson et al. 2016, "SPICE: Semantic Propositional Image Caption Evaluation". It needs Java and Stanford CoreNLP,
whose two jars it does not ship; a corpus's score is the mean of its images'. Nothing is downloaded here.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from showtell.metrics import meteor

JAR = "spice-1.0.jar"
CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def missing(folder: Path | None = None) -> str | None:
    """Why SPICE cannot be computed here (`folder`: that of the jar); None when it can."""
    if shutil.which("java") is None:
        return meteor.NEEDS_JAVA
    folder = folder or _folder()
    if folder is None:
        return meteor.NEEDS_PACKAGE
    absent = [name for name in CORENLP if not (folder / "lib" / name).is_file()]
    if absent:
        return f"not computed: needs {' and '.join(absent)} (stanford-corenlp-full-2015-12-09.zip) in {folder / 'lib'}"
    return None


def _folder() -> Path | None:
    path = meteor.package("spice", JAR)
    return path.parent if path else None


def spice(
    references: Mapping[Any, Sequence[str]], hypotheses: Mapping[Any, str], timeout: float = 3600.0
) -> np.ndarray | str:
    """F-scores (image) of tokenised captions, in the references' order; 0 for a caption with an empty graph.

    A string with the reason when they cannot be computed. The Java process is killed after `timeout` seconds.
    """
    reason, folder = missing(), _folder()
    if reason or folder is None:
        return reason or meteor.NEEDS_PACKAGE
    rows = [
        {"image_id": number, "test": hypotheses[image_id], "refs": list(captions)}
        for number, (image_id, captions) in enumerate(references.items())
    ]
    with TemporaryDirectory() as place:
        given, found = Path(place, "captions.json"), Path(place, "scores.json")
        given.write_text(json.dumps(rows))
        command = ["java", "-Xmx8G", "-jar", JAR, str(given), "-out", str(found), "-subset", "-silent"]
        try:
            subprocess.run(command, cwd=folder, check=True, timeout=timeout, capture_output=True)
            scores = {row["image_id"]: row["scores"]["All"]["f"] for row in json.loads(found.read_text())}
            return np.array([scores[row["image_id"]] or 0.0 for row in rows])
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
            return "not computed: SPICE's Java process failed"
