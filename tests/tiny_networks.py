"""Networks and batches small enough to train on in a test."""

import torch
from conftest import stage_params, tiny_params

from showtell.data.batches import Batch
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.network import Encoder
from showtell.learning.caption_task import CaptionTask, FinetuneParams, TrainParams

WORDS = 9  # in the vocabulary


def batch_of(seed: int, images: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(4) < torch.randint(1, 5, (images, 2, 1), generator=generator)
    inputs, targets = torch.randint(0, WORDS, (2, images, 2, 4), generator=generator).unbind()
    return Batch(torch.randn(images, 3, generator=generator), inputs, targets, mask)


def caption_network(encoder: Encoder | None = None, decoder: dict | None = None, **changes) -> CaptionTask:
    section, kind = ("finetune", FinetuneParams) if encoder is not None else ("train", TrainParams)
    params = kind.model_validate(stage_params(section) | {"precision": "fp32", "word_dropout": 0.0} | changes)
    torch.manual_seed(1)
    shape = DecoderParams.model_validate(tiny_params()["decoder"] | {"dropout": 0.0} | (decoder or {}))
    channels = encoder.channels if encoder is not None else 5
    return CaptionTask(build_decoder(shape, channels, WORDS), params, encoder)


def tiny_encoder(**changes) -> Encoder:
    torch.manual_seed(2)
    config = {"name": "resnet18", "node": "layer2", "output": "grid", "size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    return Encoder(config | changes)


def picture_batch(size: int = 32) -> Batch:
    return batch_of(3, 4)._replace(images=torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8))
