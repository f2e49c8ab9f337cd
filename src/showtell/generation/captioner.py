"""Encoder, decoder, vocabulary and transform as one bundle: all that is needed to caption a picture, in one folder.

`config.json` (what to build), `vocab.json` and `model.safetensors` (the weights): no pickle, no params.yaml, no DVC.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.core.files import atomic, fingerprint, read_json, write_json
from showtell.core.precision import Precision, autocast, device
from showtell.data.transform import Transform, load_image
from showtell.data.vocabulary import END, PAD, START, UNK, Vocabulary
from showtell.decoders import Decoder, DecoderParams, build_decoder
from showtell.encoders.detection import WordDetector
from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder, state_hash
from showtell.generation.search import Hypothesis, beam_search

FORMAT = 1  # of the folder; raised when older code could not read it
BATCH = 32  # images decoded side by side; bounds memory, changes no result


Picture = Path | str | bytes | Image.Image | np.ndarray | Tensor


@dataclass(frozen=True)
class Caption:
    """One generated caption. `words` are those of `text`; `attention` (word, cell) is where each was looked for.

    What a cell sees lies around its middle, moved right and down by `shift`, a share of the picture.
    Of an image's several captions only the first knows its attention.
    """

    text: str
    words: list[str]
    logprob: float  # natural log, the end of the caption included when `finished`
    score: float  # logprob / length ** penalty: what ranks the beams
    finished: bool
    attention: np.ndarray | None
    shift: float = 0.0


class Captioner:
    """Describes images. `Captioner.load(folder).caption([path, ...])`.

    `detector`: of words in the encoder's grid, where the two learnt together (`finetune.word_loss`).
    """

    def __init__(
        self, encoder: Encoder, decoder: Decoder, params: DecoderParams, vocabulary: Vocabulary, transform: Transform,
        precision: Precision, detector: WordDetector | None = None,
    ):  # fmt: skip
        self.encoder, self.decoder = encoder.eval().to(device()), decoder.eval().to(device())
        self.params, self.vocabulary, self.transform, self.precision = params, vocabulary, transform, precision
        self.detector = detector.eval().to(device()) if detector is not None else None

    def caption(self, images: Iterable[Picture], beam: int = 5, **search: Any) -> list[Caption]:
        """The best caption of each image; `search` as in `decode`.

        An image is a path, the bytes of a file, a Pillow image, an array (height, width[, 3]) or a tensor
        (3 or 1, height, width), RGB: uint8 0-255, or floating point 0-1. `UserError` for one that cannot be read.
        """
        return [best[0] for best in self.n_best(images, beam, n_best=1, **search)]

    def n_best(self, images: Iterable[Picture], beam: int = 5, n_best: int = 5, **search: Any) -> list[list[Caption]]:
        """The `n_best` best captions of each image, best first; as `caption` otherwise."""
        if isinstance(images, Path | str | bytes | Image.Image) or getattr(images, "ndim", 4) < 4:
            raise UserError("caption takes several images: put a single one in a list, caption([image])")
        captions, waiting = [], iter(images)
        while batch := list(islice(waiting, BATCH)):  # few at a time: an iterable may hold more than the memory
            squares = [self.transform(load_image(as_picture(image))) for image in batch]
            captions += self.generate(torch.from_numpy(np.stack(squares)), beam, n_best=n_best, **search)
        return captions

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """uint8 (image, 3, height, width) -> features, in the precision of the frozen encoder, as float32."""
        return self._frozen(pixels).float()

    @cached_property
    def _frozen(self) -> FrozenEncoder:
        return FrozenEncoder(self.encoder, self.precision)

    def generate(self, pixels: Tensor, beam: int, n_best: int = 1, **search: Any) -> list[list[Caption]]:
        """Captions of transformed images uint8 (image, 3, height, width)."""
        return self.decode(self.encode(pixels), beam, n_best=n_best, **search)

    @torch.inference_mode()
    def decode(
        self, features: Tensor, beam: int, max_length: int = 50, length_penalty: float = 0.0, block_ngrams: int = 0,
        allow_unknown: bool = False, detection_weight: float = 0.7, precision: Precision = "fp32", n_best: int = 1,
        attention: bool = True,
    ) -> list[list[Caption]]:  # fmt: skip
        """Captions of encoded images; the arguments of `beam_search` in the words of params.yaml.

        `detection_weight` does nothing without a detector.
        """
        settings = beam, max_length, length_penalty, block_ngrams, allow_unknown, n_best
        logit_bias = None
        if self.detector is not None and detection_weight:
            logit_bias = detection_weight * self.detector.logit_bias(features)
        with autocast(precision):
            found = search_captions(self.decoder, features, *settings, logit_bias)
            seen = attention_of(self.decoder, features, [best for best, *_ in found]) if attention else None
        return [
            [self._caption(h, seen[image] if seen and h is hypotheses[0] else None) for h in hypotheses]
            for image, hypotheses in enumerate(found)
        ]

    def _caption(self, hypothesis: Hypothesis, attention: np.ndarray | None) -> Caption:
        h, words = hypothesis, self.vocabulary.decode(hypothesis.tokens)
        text = self.vocabulary.caption(h.tokens)
        return Caption(text, words, h.logprob, h.score, h.finished, attention, self.encoder.shift)

    def hash(self) -> str:
        """Names everything that decides what it says."""
        return fingerprint(self._config(), *(state_hash(module) for module in self._modules().values()))

    def _modules(self) -> dict[str, nn.Module]:
        """The networks, by what their weights' names begin with."""
        modules = {"encoder": self.encoder, "decoder": self.decoder, "detector": self.detector}
        return {name: module for name, module in modules.items() if module is not None}

    def settings(self) -> dict[str, Any]:
        """How its parts are built, as JSON-able content."""
        return {
            "encoder": self.encoder.config,
            "decoder": self.params.model_dump(),
            "transform": self.transform.to_dict(),
            "precision": self.precision,
        }

    def _config(self) -> dict[str, Any]:
        return {"format": FORMAT, **self.settings(), "vocabulary": self.vocabulary.hash}

    def _identity(self) -> str:
        """What the weights were learnt for, as text that people can read too."""
        return f"vocabulary {self.vocabulary.hash}, transform {self.transform.hash}"

    def save(self, folder: Path, notes: dict[str, Any]) -> None:
        """Write the bundle; `notes` (JSON-able) is kept in config.json for people, and read by nobody."""
        weights = {
            f"{prefix}.{name}": tensor
            for prefix, module in self._modules().items()
            for name, tensor in module.state_dict().items()
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        with atomic(Path(folder) / "model.safetensors") as temporary:
            whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            save_file(whole, temporary, {"belongs_to": self._identity()})
        self.vocabulary.save(Path(folder) / "vocab.json")
        write_json(
            Path(folder) / "config.json", {**self._config(), "notes": notes}
        )  # last: a folder that has it is whole

    @classmethod
    def load(cls, folder: Path | str) -> "Captioner":
        """The bundle in `folder`; `UserError` naming both sides when its parts do not belong together."""
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} holds no model (no config.json); train one with `dvc repro`")
        config, vocabulary = read_json(folder / "config.json"), Vocabulary.load(folder / "vocab.json")
        try:
            if config["format"] != FORMAT:
                raise UserError(f"{folder} is of format {config['format']}, this version reads {FORMAT}")
            if config["vocabulary"] != vocabulary.hash:
                trained = config["vocabulary"]
                raise UserError(f"{folder}: trained with vocabulary {trained}, vocab.json is {vocabulary.hash}")
            params = DecoderParams.model_validate(config["decoder"])
            encoder = Encoder(config["encoder"])
            decoder = build_decoder(params, encoder.channels, len(vocabulary))
            transform, precision = Transform.from_dict(config["transform"]), config["precision"]
            if encoder.size != transform.size:
                raise UserError(
                    f"{folder}: the encoder takes images of {encoder.size} pixels, the transform makes "
                    f"them {transform.size}"
                )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder}/config.json is not a model's configuration: {_one_line(error)}") from None
        captioner = cls(encoder, decoder, params, vocabulary, transform, precision)
        captioner._load_weights(folder / "model.safetensors")
        return captioner

    def _load_weights(self, path: Path) -> None:
        """Fill the networks; other words in the same number would fit as well, so the file says what it belongs to."""
        identity = self._identity()
        try:
            with safe_open(path, "pt") as file:
                belongs_to = (file.metadata() or {}).get("belongs_to", identity)
            if belongs_to != identity:
                raise UserError(f"{path} belongs to {belongs_to}, its folder has {identity}")
            weights = load_file(path)
            if "detector.words" in weights:
                words = torch.zeros_like(weights["detector.words"])
                self.detector = WordDetector(self.encoder, words, len(self.vocabulary)).eval().to(device())
            for prefix, module in self._modules().items():
                mine = (name for name in weights if name.startswith(f"{prefix}."))
                module.load_state_dict({name.removeprefix(f"{prefix}."): weights[name] for name in mine})
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = _one_line(error)
            raise UserError(f"{path} does not hold the weights that config.json describes: {reason}") from None


def _one_line(error: Exception) -> str:
    reason = " ".join(str(error).split())
    return reason if len(reason) < 300 else f"{reason[:300]}..."


def search_captions(
    decoder: Decoder, features: Tensor, beam: int, max_length: int, length_penalty: float = 0.0, block_ngrams: int = 0,
    allow_unknown: bool = False, n_best: int = 1, logit_bias: Tensor | None = None,
) -> list[list[Hypothesis]]:  # fmt: skip
    """Beam search over a decoder, all images of `features` side by side; `logit_bias` (image, word)."""
    start = torch.full((len(features),), START, device=features.device)
    never = (PAD, START) if allow_unknown else (PAD, START, UNK)
    options = max_length, length_penalty, block_ngrams, never, n_best, logit_bias
    return beam_search(decoder.steps(), decoder.start(features), start, END, beam, *options)


def attention_of(decoder: Decoder, features: Tensor, best: Sequence[Hypothesis]) -> list[np.ndarray] | None:
    """Attention (word, cell) of each image's hypothesis; None if the decoder does not attend.

    The hypothesis is read to the decoder again: that costs one pass, and spares the search the maps of every beam that
    it drops.
    """
    longest = max(len(hypothesis.tokens) for hypothesis in best)
    inputs = torch.full((len(best), 1, max(longest, 1)), PAD)
    mask = torch.zeros(inputs.shape, dtype=torch.bool)  # (image, 1, step)
    inputs[:, :, 0] = START
    for image, hypothesis in enumerate(best):
        inputs[image, 0, 1 : len(hypothesis.tokens)] = torch.tensor(hypothesis.tokens[:-1])
        mask[image, 0, : len(hypothesis.tokens)] = True
    attention = decoder(features, inputs.to(features.device), mask).attention
    if attention is None:
        return None
    maps = attention.float().cpu().numpy()
    # Copies: a view would keep the padded maps of the whole batch in memory.
    return [maps[image, 0, : len(hypothesis.tokens)].copy() for image, hypothesis in enumerate(best)]


def as_picture(image: Picture) -> Any:
    """A tensor (3 or 1, height, width) or array as a uint8 array (height, width[, 3]); anything else as it is."""
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        if image.dim() == 3 and image.shape[0] not in (1, 3):
            raise UserError(f"an image tensor must be (3, height, width), not {tuple(image.shape)}")
        image = (image.permute(1, 2, 0) if image.dim() == 3 else image).numpy()
    if not isinstance(image, np.ndarray):
        return image
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if np.issubdtype(image.dtype, np.floating):
        if image.size and not (image.min() >= 0 and image.max() <= 1):
            raise UserError(
                "an image of floating point numbers must hold 0 to 1; normalised ones must be given before that"
            )
        image = np.rint(image * 255).astype(np.uint8)
    return image
