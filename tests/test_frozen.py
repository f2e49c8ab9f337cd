"""The frozen form of an encoder gives the encoder's features."""

import pytest
import torch

from showtell.encoders import Encoder
from showtell.frozen import FrozenEncoder

NETWORKS = ("resnet18", "densenet121", "vgg11_bn", "mobilenet_v3_small", "regnet_y_400mf", "googlenet", "convnext_tiny")


def encoder_of(name: str) -> Encoder:
    torch.manual_seed(0)
    config = {"name": name, "node": None, "output": "grid", "size": 64, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    encoder = Encoder(config)
    for module in encoder.modules():  # as training leaves them: no two channels alike
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return encoder.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_the_encoder_s_and_it_stays_as_it_is(name):
    encoder = encoder_of(name)
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    before = encoder.hash()
    with torch.inference_mode():
        expected = encoder(images)
        found = FrozenEncoder(encoder, "fp32")(images)
        again = encoder(images)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert torch.equal(expected, again) and encoder.hash() == before


def test_norms_are_gone():
    frozen = FrozenEncoder(encoder_of("resnet18"), "fp32")
    assert not [module for module in frozen._encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
