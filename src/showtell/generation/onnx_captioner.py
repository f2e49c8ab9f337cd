"""Captions with an exported graph and onnxruntime, without PyTorch, whose import takes longer than a caption."""

import json
from numbers import Integral, Real
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from showtell.core.errors import UserError, extra
from showtell.core.machine import cores
from showtell.core.terminal import one_line
from showtell.data.transform import load_image
from showtell.data.words import join

# Inputs of a graph beside the image, with their minimum and maximum, as in `search_params.py`.
SETTINGS: dict[str, tuple[float, float]] = {"beam": (1, 100), "max_length": (1, 1000), "length_penalty": (0, 5)}
FRACTIONS = {"length_penalty"}  # those that are not whole numbers
# Settings, or values of them, that no graph has: they need training images, random numbers or another precision.
BEYOND = {
    "consensus", "neighbour_ngrams", "neighbour_bonus", "method=sample", "method=diverse_beam", "precision=bf16",
    "precision=auto",
}  # fmt: skip
QUIET = 3  # onnxruntime's log level for errors: it warns of inputs with a default


class GraphCaption(NamedTuple):
    """As `captioner.Caption`, without attention and confidence, which a graph does not compute."""

    text: str
    words: list[str]
    logprob: float
    score: float
    finished: bool
    attention: None = None
    probabilities: tuple[float, ...] = ()
    confidence: None = None
    truth: None = None
    abstained: None = None


class OnnxCaptioner:
    """Captions images. `OnnxCaptioner("model.onnx").caption("photo.jpg")`."""

    def __init__(self, path: Path | str):
        """The graph in a file of `showtell export`; `UserError` for any other file."""
        package = runtime_package()
        options = package.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = cores()
        if not Path(path).is_file():
            raise UserError(f"{path} does not exist; write it with `showtell export MODEL {path}`")
        try:
            self._session = package.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime raises exceptions of many types
            raise UserError(f"{path} is not a graph that onnxruntime can run: {one_line(error)}") from None
        about = self._session.get_modelmeta().custom_metadata_map
        inputs = [value.name for value in self._session.get_inputs()]
        outputs = [value.name for value in self._session.get_outputs()]
        whole = inputs == ["pixels"] and outputs == ["tokens", "logprob", "finished"]
        if not {"words", "search"} <= about.keys() or not whole:
            raise UserError(f"{path} is not a complete model of `showtell export MODEL OUT.onnx`")
        self.words: list[str] = json.loads(about["words"])
        self.search: dict[str, Any] = json.loads(about["search"])
        self.path = path

    def check(self, **settings: Any) -> None:
        """`UserError` for settings of the search that the graph does not take, or values out of range."""
        for name, value in settings.items():
            if name not in SETTINGS:
                if name not in self.search:
                    raise UserError(f"{name} is not a setting of the search; there are {', '.join(self.search)}")
                if value == self.search[name]:
                    continue
                if name in BEYOND or f"{name}={value}" in BEYOND:
                    raise UserError(f"{name} = {value}: an exported graph cannot do that; use the model's folder")
                raise UserError(f"{name} is fixed in {self.path}; set it when you export the model")
            if name == "beam" and value != 1 and self.search["method"] == "greedy":
                raise UserError(f"beam = {value}: {self.path} was exported with search.method greedy")
            least, most = SETTINGS[name]
            if not isinstance(value, Real if name in FRACTIONS else Integral) or isinstance(value, bool):
                raise UserError(f"{name} = {value!r}: must be a {'number' if name in FRACTIONS else 'whole number'}")
            if not least <= float(value) <= most:
                raise UserError(f"{name} = {value}: must be {least} to {most}")
        longest, shortest = settings.get("max_length", self.search["max_length"]), self.search["min_length"]
        if longest < shortest:
            raise UserError(f"max_length = {longest}: less than min_length, {shortest}, which is fixed in {self.path}")

    def caption(self, image: Any, **settings: Any) -> GraphCaption:
        """The best caption of one image: a path, the bytes of a file, a Pillow image or an array.

        `settings`: beam, max_length, length_penalty, instead of the model's own.
        """
        self.check(**settings)
        given = {name: value for name, value in settings.items() if name in SETTINGS}
        feed = {name: np.array(value, float if name in FRACTIONS else np.int64) for name, value in given.items()}
        pixels = np.asarray(load_image(image))
        tokens, logprob, finished = self._session.run(None, {"pixels": pixels, **feed})
        if not np.isfinite(logprob):
            raise UserError("the search finds nothing that may be said: the decoder gives every word probability 0")
        words = [self.words[token] for token in tokens]
        penalty = {**self.search, **given}["length_penalty"]
        score = float(logprob) / max(len(words) + bool(finished), 1) ** penalty
        return GraphCaption(join(words), words, float(logprob), score, bool(finished))


def runtime_package() -> ModuleType:
    """onnxruntime; `UserError` where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"onnxruntime is not installed; {extra('onnx')}") from None
    return onnxruntime


def onnx_package() -> ModuleType:
    """onnx, if its exporter is installed too; `UserError` naming the package that is not."""
    try:
        import onnx
        import onnxscript  # noqa: F401  # PyTorch's exporter needs it
    except ImportError as error:
        raise UserError(f"{error.name} is not installed, which writes ONNX; {extra('onnx')}") from None
    return onnx
