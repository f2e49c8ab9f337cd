"""The task of `train` and `finetune`: captions, learned by the decoder alone or by decoder and encoder together."""

from typing import Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from showtell.core.params import fits_choice
from showtell.core.precision import autocast
from showtell.data.batches import Batch
from showtell.data.vocabulary import UNK
from showtell.decoders import Decoded, Decoder
from showtell.encoders.detection import WordDetector
from showtell.encoders.network import Encoder
from showtell.learning.augmentation import augmented
from showtell.learning.encoder_learning import EncoderLearningParams, encoder_groups
from showtell.learning.losses import caption_loss
from showtell.learning.optimisation import LoopParams
from showtell.learning.scheduled_sampling import SamplingSchedule, own_word_share, with_own_words
from showtell.learning.training_task import Counts, ParameterGroup, TrainingTask


class SelectingParams(LoopParams):
    """Parameters of every training on captions: which captions, and how the best epoch is selected on val."""

    captions_per_update: int | None = Field(ge=1, le=1000, description="captions of an image, drawn anew; null: all")
    select: Literal["cider", "bleu4"] = Field(description="metric of captions generated for val that picks the epoch")
    validation_beam: int = Field(ge=1, le=100, description="beam width of those captions")


class CaptionParams(SelectingParams):
    """Parameters of training on given captions (cross-entropy), beside those of the loop."""

    alpha_c: float = Field(ge=0, description="weight of the doubly stochastic attention penalty")
    label_smoothing: float = Field(ge=0, lt=1, description="share of probability spread over all words")
    word_dropout: float = Field(ge=0, le=1, description="share of input words shown as <unk>, so that the image counts")
    sampling: float = Field(ge=0, le=1, description="share of input words that are the model's own, at its highest")
    sampling_start: int | None = Field(None, ge=1, description="first epoch with scheduled sampling")
    sampling_schedule: SamplingSchedule | None = Field(None, description="how the share rises from there")
    sampling_rise: int | None = Field(None, ge=1, description="epochs that set the pace of its rise; constant: null")

    @field_validator("sampling_start", "sampling_schedule", "sampling_rise")
    @classmethod
    def _fits_sampling(cls, value: Any, info: ValidationInfo) -> Any:
        if "sampling" in info.data and info.data["sampling"] == 0:
            if value is not None:
                raise PydanticCustomError("unused", "it does nothing with sampling 0; take it out or set it to null")
        elif info.field_name == "sampling_rise":
            return fits_choice(value, info, "sampling_schedule", ("linear", "exponential", "inverse_sigmoid"))
        elif value is None and "sampling" in info.data:
            raise PydanticCustomError("needed", "scheduled sampling (sampling above 0) needs it")
        return value


class TrainParams(CaptionParams):
    """`learning` and `train`: the decoder, on stored features of the frozen encoder."""


class FinetuneParams(CaptionParams, EncoderLearningParams):
    """`learning` and `finetune`: decoder and encoder, from images."""

    word_loss: float = Field(ge=0, description="weight of the loss of detecting the words of its captions in the map")


def word_dropout(inputs: Tensor, share: float) -> Tensor:
    """Tokens (..., step) with each but the first replaced by <unk> with probability `share`.

    Word dropout: Bowman et al., "Generating Sentences from a Continuous Space" (CoNLL 2016), section 3.1. Captions name
    absent objects where the preceding words make them likely (Rohrbach et al., "Object Hallucination in Image
    Captioning", EMNLP 2018); with some of those words hidden, the decoder depends on the image.
    """
    if not share:
        return inputs
    hidden = torch.rand(inputs.shape, device=inputs.device) < share
    hidden[..., 0] = False
    return inputs.masked_fill(hidden, UNK)


class DecoderTask(TrainingTask[Batch]):
    """A decoder that learns on features: what learning from given captions and from rewards have in common."""

    def __init__(self, decoder: Decoder, params: SelectingParams):
        super().__init__()
        self.decoder, self.params = decoder, params

    def features(self, images: Tensor) -> Tensor:
        """The decoder's input, float32: stored features."""
        return images.float()

    def given_loss(
        self, decoded: Decoded, batch: Batch, whole: Counts, alpha_c: float = 0.0, label_smoothing: float = 0.0
    ) -> Tensor:
        """The loss of given captions, a mean over the whole update: cross-entropy, the attention penalty with weight
        `alpha_c`, and what the decoder adds itself."""
        parts = whole.positions, whole.captions
        loss = caption_loss(decoded, batch.targets, batch.mask, alpha_c, label_smoothing, *parts)
        if decoded.extra_loss is not None:
            loss = loss + decoded.extra_loss(batch.targets[batch.mask]) / whole.positions
        return loss

    def groups(self) -> list[ParameterGroup]:
        return ParameterGroup.of(self.decoder, self.params.learning_rate, self.decoder.without_decay())

    def weights(self) -> dict[str, Tensor]:
        return {f"decoder.{name}": tensor for name, tensor in self.decoder.state_dict().items()}


class CaptionTask(DecoderTask):
    """A decoder; in fine-tuning with the encoder and, as an auxiliary loss, a word detector on the encoder's map.

    Captions alone teach co-occurrence: the encoder learns only what separates likely captions. Detecting words at the
    same time teaches it each object by itself.
    """

    params: CaptionParams

    def __init__(
        self,
        decoder: Decoder,
        params: CaptionParams,
        encoder: Encoder | None = None,
        detector: WordDetector | None = None,
    ):
        super().__init__(decoder, params)
        self.encoder, self.detector = encoder, detector
        self.own_words = 0.0  # scheduled sampling: share of input words predicted by the decoder, in this epoch

    def begin_epoch(self, epoch: int) -> None:
        p = self.params
        self.own_words = own_word_share(epoch, p.sampling, p.sampling_start, p.sampling_schedule, p.sampling_rise)

    def features(self, images: Tensor) -> Tensor:
        """The decoder's input, float32: encoded images, or stored features unchanged."""
        return self._features(self._feature_map(images))

    def _feature_map(self, images: Tensor) -> Tensor:
        """The encoder's map, (image, cell, channel); stored features unchanged."""
        return self.encoder.feature_map(images) if self.encoder is not None else images

    def _features(self, feature_map: Tensor) -> Tensor:
        return (self.encoder.output(feature_map) if self.encoder is not None else feature_map).float()

    def augmented(self, images: Tensor) -> Tensor:
        """Augmented images for an encoder that learns; stored features unchanged."""
        if self.encoder is None:
            return images
        assert isinstance(self.params, FinetuneParams)  # only fine-tuning trains an encoder
        return augmented(images, self.encoder.crop, self.params)

    def loss(self, batch: Batch, whole: Counts | None = None) -> Tensor:
        whole = whole or Counts.of(batch)
        with autocast(self.params.precision):
            feature_map = self._feature_map(self.augmented(batch.images))
            features, inputs = self._features(feature_map), batch.inputs
            if self.own_words:
                inputs = with_own_words(self.decoder, features.detach(), inputs, batch.mask, self.own_words)
                torch.clear_autocast_cache()  # PyTorch 2.9 would go on with weights cast without gradients
            inputs = word_dropout(inputs, self.params.word_dropout)
            decoded = self.decoder(features, inputs, batch.mask)
            absent = self.detector(feature_map) if self.detector is not None else None
        loss = self.given_loss(decoded, batch, whole, self.params.alpha_c, self.params.label_smoothing)
        if self.detector is not None and absent is not None:
            assert isinstance(self.params, FinetuneParams)
            loss = loss + self.params.word_loss * self.detector.loss(absent, batch.targets, batch.mask) / whole.images
        return loss

    def groups(self) -> list[ParameterGroup]:
        groups = super().groups()
        if self.encoder is not None:
            assert isinstance(self.params, FinetuneParams)
            groups += encoder_groups(self.encoder, self.params, self.params.learning_rate)
        if self.detector is not None:
            groups += ParameterGroup.of(self.detector, self.params.learning_rate)
        return groups

    def weights(self) -> dict[str, Tensor]:
        state = super().weights()
        if self.encoder is not None:
            state |= {f"encoder.{name}": tensor for name, tensor in self.encoder.trainable_state().items()}
        if self.detector is not None:
            state |= {f"detector.{name}": tensor for name, tensor in self.detector.state_dict().items()}
        return state
