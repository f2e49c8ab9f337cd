"""The frozen form of an encoder gives the same features."""

import pytest
import torch

from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder

NETWORKS = ("resnet18", "densenet121", "vgg11_bn", "mobilenet_v3_small", "regnet_y_400mf", "googlenet", "convnext_tiny")


def encoder_of(name: str) -> Encoder:
    torch.manual_seed(0)
    config = {"name": name, "node": None, "output": "grid", "size": 64, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    encoder = Encoder(config)
    for module in encoder.modules():  # as after training: channels differ
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return encoder.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_features_equal_the_encoders_and_the_encoder_is_unchanged(name):
    encoder = encoder_of(name)
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    before = encoder.hash()
    with torch.inference_mode():
        expected = encoder(images)
        found = FrozenEncoder(encoder, "fp32")(images)
        again = encoder(images)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert torch.equal(expected, again) and encoder.hash() == before


@pytest.mark.parametrize("name", ["resnet18", "regnet_x_400mf", "mobilenet_v3_small"])
def test_norms_are_folded(name):
    frozen = FrozenEncoder(encoder_of(name), "fp32")
    assert not [module for module in frozen._encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]


def learnt(encoder: Encoder, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Features in training, and the gradients of what learns."""
    torch.manual_seed(0)  # stochastic depth
    features = encoder(images)
    features.square().mean().backward()
    return features.detach(), {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("name", "block"),
    [("resnet18", "layer2"), ("regnet_y_400mf", "trunk_output.block2"), ("mobilenet_v3_small", "features.3"),
     ("densenet121", "features.denseblock2"), ("convnext_tiny", "features.4")],
)  # fmt: skip
def test_frozen_blocks_are_simplified_and_the_others_have_the_same_gradients(name, block):
    encoder, plain = encoder_of(name), encoder_of(name)
    for one in (encoder, plain):
        one.train_from(block)
        one.train()
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    keys = set(encoder.state_dict())
    plain._simplified.clear()
    features, gradients = learnt(encoder, images)
    expected, expected_gradients = learnt(plain, images)
    assert (features - expected).abs().max() <= 1e-3 * expected.abs().max()
    assert gradients.keys() == expected_gradients.keys() and gradients
    whole = torch.cat([g.flatten() for g in expected_gradients.values()]).norm()
    # Inputs within rounding of zero have either gradient of a ReLU.
    assert all((gradients[key] - g).norm() <= 2e-2 * whole for key, g in expected_gradients.items())
    assert set(encoder.state_dict()) == keys
    for (key, ours), theirs in zip(encoder.state_dict().items(), plain.state_dict().values(), strict=True):
        assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max(), key  # statistics of batch norms included


def test_simplified_blocks_follow_newly_loaded_weights():
    encoder, other = encoder_of("resnet18"), encoder_of("resnet18")
    encoder.train_from("layer2")
    encoder.train()
    with torch.no_grad():
        other.backbone.network.conv1.weight.mul_(-1)
    encoder.load_state_dict(other.state_dict())
    other.train_from("layer2")
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(encoder.train()(images), other.train()(images))
