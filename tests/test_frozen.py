"""The frozen form of an encoder gives the same features."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from showtell.encoders import frozen
from showtell.encoders.folding import norms_folded
from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder
from showtell.encoders.trace import trace


def of_timm(*values: str):
    return pytest.param(*values, marks=pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed"))


NETWORKS = (
    "resnet18", "densenet121", "vgg11_bn", "mobilenet_v3_small", "regnet_y_400mf", "googlenet", "convnext_tiny",
    *map(of_timm, ("timm/tf_efficientnet_lite0", "timm/test_resnet", "timm/resnetv2_18", "timm/mixnet_s",
                   "timm/densenet121", "timm/mobileone_s0", "timm/test_vit")),
)  # fmt: skip


def encoder_of(name: str, size: int = 64) -> Encoder:
    torch.manual_seed(0)
    config = {"name": name, "node": None, "output": "grid", "size": size, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    encoder = Encoder(config)
    for module in encoder.modules():  # as after training: channels differ
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
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


@pytest.mark.parametrize(("pixels", "parts"), [(2 * 64 * 64 + 1, [2, 2, 1]), (64 * 64 - 1, [1] * 5), (2**20, [5])])
def test_as_many_images_at_a_time_as_have_so_many_pixels(pixels, parts, monkeypatch):
    made = FrozenEncoder(encoder_of("resnet18"), "fp32")
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    expected, taken = made(images), []
    monkeypatch.setattr(frozen, "ON_PROCESSOR", pixels)
    monkeypatch.setattr(frozen, "ON_ACCELERATOR", max(parts))
    made._encoder.register_forward_pre_hook(lambda _, inputs: taken.append(len(inputs[0])))
    found = made(images)
    assert taken == parts
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", [
    "resnet18", "regnet_x_400mf", "mobilenet_v3_small",
    *map(of_timm, ("timm/tf_efficientnet_lite0", "timm/test_resnet", "timm/efficientvit_m0")),
])  # fmt: skip
def test_norms_are_folded(name):
    frozen = FrozenEncoder(encoder_of(name, size=224 if "vit" in name else 64), "fp32")
    assert not [module for module in frozen._encoder.modules() if isinstance(module, nn.BatchNorm2d)]


class Convolved(nn.Module):
    """A convolution with a norm after it, whose outputs `combine` makes one."""

    def __init__(self, combine):
        super().__init__()
        self.convolution, self.norm, self.unused = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Linear(2, 2)
        self.combine = combine

    def forward(self, images):
        return self.combine(self, images)


@pytest.mark.parametrize(("combine", "norms"), [
    (lambda net, x: net.norm(net.convolution(x)), {"norm": "convolution"}),
    (lambda net, x: net.norm(net.convolution(x).relu()), {}),
    (lambda net, x: net.norm(y := net.convolution(x)) + y, {}),
    (lambda net, x: torch.cat([net.norm(y := net.convolution(x)), y]), {}),
    (lambda net, x: net.convolution(net.norm(net.convolution(x))), {}),
    (lambda net, x: net.norm(net.norm(net.convolution(x))), {}),
])  # fmt: skip
def test_a_norm_belongs_to_a_convolution_that_nothing_else_reads(combine, norms):
    network = Convolved(combine).train()
    network.norm.eval()
    network.norm.weight.requires_grad_(False)
    found = trace(network, lambda: network(torch.rand(2, 3, 4, 4)))
    assert found.norms == norms and found.order == ["convolution", "norm"]
    assert found.unused == {"unused.weight", "unused.bias"}
    assert network.training and network.convolution.training and not network.norm.training
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["norm.weight"]


@pytest.mark.parametrize("kept", [True, False])
def test_only_norms_with_statistics_are_folded(kept):
    network = Convolved(lambda net, x: net.norm(net.convolution(x)))
    network.norm = nn.BatchNorm2d(3, track_running_stats=kept)
    network.norm.bias.data += 0.5
    images = torch.rand(2, 3, 4, 4)
    norms = trace(network, lambda: network(images)).norms
    folded = norms_folded(network.eval(), norms, {nn.Conv2d, nn.BatchNorm2d}, set())
    assert isinstance(folded.norm, nn.BatchNorm2d) != kept
    torch.testing.assert_close(folded(images), network(images))
    whole = norms_folded(network, norms, {nn.Conv2d, nn.BatchNorm2d}, {network.norm})  # the norm learns
    assert whole.norm is network.norm and whole.convolution is network.convolution


def learnt(encoder: Encoder, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Features in training, and the gradients of what learns."""
    torch.manual_seed(0)  # stochastic depth
    features = encoder(images)
    features.square().mean().backward()
    return features.detach(), {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("name", "block"),
    [("resnet18", "layer2"), ("regnet_y_400mf", "trunk_output.block2"), ("mobilenet_v3_small", "features.3"),
     ("densenet121", "features.denseblock2"), ("convnext_tiny", "features.4"),
     of_timm("timm/tf_efficientnet_lite0", "blocks.3"), of_timm("timm/resnetv2_18", "stages.2"),
     of_timm("timm/mixnet_s", "blocks.3")],
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
