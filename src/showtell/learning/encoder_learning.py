"""How the encoder learns, in pretraining and in fine-tuning: which of its blocks, and at which rates."""

from pydantic import Field

from showtell.encoders.network import BatchNormMode, Encoder
from showtell.learning.augmentation import AugmentationParams
from showtell.learning.training_task import ParameterGroup


class EncoderLearningParams(AugmentationParams):
    """What trainings of the encoder share, beside the parameters of the loop."""

    trainable_from: str | None = Field(description="first block of the encoder that learns to the end; null: all do")
    batch_norm: BatchNormMode = Field(description="statistics of the encoder's blocks that learn")
    encoder_learning_rate: float | None = Field(gt=0, lt=1, description="of the encoder; null: learning_rate")
    first_layer_rate: float = Field(gt=0, le=1, description="share of that rate at the first layer; 1: of all")


def encoder_groups(encoder: Encoder, params: EncoderLearningParams, learning_rate: float) -> list[ParameterGroup]:
    """The encoder's trainable parameters; `learning_rate` is the decoder's or detector's.

    With `first_layer_rate` below 1 each layer has a rate of its own, from that share of the encoder's rate at its first
    layer (whether that learns or not) to all of it at its last, rising by the same factor from layer to layer. What
    early layers detect is the same in all pictures: Howard and Ruder, "Universal Language Model Fine-tuning for Text
    Classification" (ACL 2018), section 3.2, discriminative fine-tuning.
    """
    rate = params.encoder_learning_rate or learning_rate
    if params.first_layer_rate == 1:
        return ParameterGroup.of(encoder, rate)
    layers = encoder.layers()
    below = max(len(layers) - 1, 1)
    learning = [[p for p in layer if p.requires_grad] for layer in layers]
    return [
        ParameterGroup(parameters, rate * params.first_layer_rate ** (1 - depth / below))
        for depth, parameters in enumerate(learning)
        if parameters
    ]
