"""Encoders of several families: features, frozen blocks, weights."""

import json
from functools import partial

import pytest
import torch
import torchvision
from conftest import tiny_params
from safetensors.torch import save_file

from showtell.core.errors import UserError
from showtell.core.params import validate
from showtell.core.tensor_files import load_tensors, save_tensors
from showtell.encoders.frozen import FrozenEncoder
from showtell.encoders.network import Encoder, EncoderParams, build_encoder, usable_batch_norm

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def encoder_of(name: str, output: str = "grid", node: str | None = None, size: int = 64, **more) -> Encoder:
    torch.manual_seed(0)
    config = {"name": name, "output": output, "node": node, "size": size, "mean": MEAN, "std": STD}
    return Encoder(config | more).eval()


def pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


# Grid and pooled features of a family, and how many channels its last map has at 64 pixels.
FAMILIES = {"resnet18": (4, 512), "mobilenet_v3_small": (4, 576), "densenet121": (4, 1024), "regnet_y_400mf": (4, 440)}


@pytest.mark.parametrize("name", FAMILIES)
def test_grid_is_the_last_map_and_pooled_its_mean(name):
    grid = encoder_of(name)
    pooled = encoder_of(name, "pooled")
    cells, channels = FAMILIES[name]
    with torch.inference_mode():
        features = grid(pictures())
        assert features.shape == (2, cells, channels) == (2, grid.cells, grid.channels)
        torch.testing.assert_close(pooled(pictures()), features.mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size", "cells"), [("vit_b_32", 224, 49), ("swin_t", 64, 4)])
def test_maps_in_other_dimension_orders(name, size, cells):
    encoder = encoder_of(name, size=size)
    assert (encoder.cells, encoder.channels) == (cells, 768)


@pytest.mark.parametrize(("node", "cells", "channels"), [("features.3", 64, 192), ("features.5", 16, 384)])
def test_layers_with_channels_last_are_maps_too(node, cells, channels):
    encoder = encoder_of("swin_t", size=64, node=node)
    assert (encoder.cells, encoder.channels) == (cells, channels)
    levels = encoder_of("swin_t", size=64, levels=[node])
    assert levels.channels == 768 + channels


def test_a_map_as_wide_as_it_has_channels_keeps_its_order():
    """At 384 pixels Swin's first map is 96 x 96 cells of 96 channels: its shape does not tell their order."""
    encoder = encoder_of("swin_t", size=384, node="features.1")
    pixels = pictures(1, 384)
    with torch.inference_mode():
        found, (expected,) = encoder(pixels), encoder.backbone.network(encoder._normalised(pixels)).values()
    assert torch.equal(found, expected.flatten(1, 2))


def test_networks_that_share_tensors_are_saved_and_loaded(tmp_path, monkeypatch):
    sizes = {"stem_channels": 8, "block_channels": [8, 16], "block_layers": [1, 1], "head_dim": 4, "partition_size": 4}
    small = partial(torchvision.models.MaxVit, (64, 64), stochastic_depth_prob=0.0, **sizes)  # maxvit_t takes seconds
    monkeypatch.setattr("showtell.encoders.torchvision_backbone.bare_network", lambda *_: small())
    encoder = encoder_of("maxvit_t")
    state = encoder.state_dict()
    assert len({tensor.data_ptr() for tensor in state.values()}) < len(state)
    save_tensors(tmp_path / "a.safetensors", state)
    again = Encoder(encoder.config)
    again.load_state_dict(load_tensors(tmp_path / "a.safetensors"))
    images = pictures(1)
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(images), encoder.eval()(images))


def test_cells_go_row_by_row_from_the_top_left():
    encoder = encoder_of("resnet18", node="layer1")
    images = pictures(1)
    changed = images.clone()
    changed[:, :, 48:, :16] = 255 - changed[:, :, 48:, :16]  # the bottom left corner
    with torch.inference_mode():
        moved = (encoder(images) - encoder(changed)).abs().sum(2).view(16, 16)
    assert moved.argmax() % 16 < 4 and moved.argmax() // 16 >= 12


def test_levels_are_the_maps_of_earlier_layers_averaged_to_the_cells():
    levels = ["conv1", "layer2"]
    encoder, plain = encoder_of("resnet18", node="layer3", levels=levels), encoder_of("resnet18", node="layer3")
    plain.load_state_dict(encoder.state_dict())
    network = torchvision.models.resnet18(weights=None).eval()
    network.load_state_dict(encoder.backbone.network.state_dict(), strict=False)
    images, seen = pictures(), []
    for level in levels:
        network.get_submodule(level).register_forward_hook(lambda module, args, out: seen.append(out.clone()))
    with torch.inference_mode():
        cells, own = encoder(images), plain(images)
        frozen = FrozenEncoder(encoder, "fp32")(images)
        network(normalised(images))
    # conv1 has 32 x 32 cells, layer2 8 x 8, the grid 4 x 4
    maps = [seen[0].unfold(2, 8, 8).unfold(3, 8, 8).mean((4, 5)), seen[1].unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))]
    expected = torch.cat([own, *(x.flatten(2).transpose(1, 2) for x in maps)], dim=2)
    torch.testing.assert_close(cells, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(frozen, expected, rtol=1e-3, atol=1e-3)
    assert encoder.channels == 256 + 64 + 128 and encoder.shift == plain.shift
    rebuilt = Encoder(json.loads(json.dumps(encoder.config))).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        assert torch.equal(rebuilt(images), cells)
        pooled = encoder_of("resnet18", "pooled", "layer3", levels=levels)
        pooled.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(pooled(images), cells.mean(dim=1))


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (["layer9"], r"resnet18 has no layer 'layer9' \(encoder\.levels\)"),
        (["layer4"], r"encoder\.levels: the output of layer4 is no map that can be averaged to the grid's 16 cells"),
        (["layer3"], r"encoder\.levels: layer3 is the grid itself \(encoder\.node\)"),
    ],
)
def test_levels_that_do_not_fit_the_grid_are_refused(levels, message):
    with pytest.raises(UserError, match=message):
        encoder_of("resnet18", node="layer3", levels=levels)


@pytest.mark.parametrize("layer", ["encoder.layers.encoder_layer_2.self_attention", "getattr"])
def test_layers_whose_output_is_no_map_are_refused(layer):
    """torchvision's self-attention gives a pair, other nodes of a graph the shape of a tensor."""
    for key, changes in (("node", {"node": layer}), ("levels", {"levels": [layer]})):
        with pytest.raises(UserError, match=rf"^encoder\.{key}: the output of {layer} is no map; name another layer$"):
            encoder_of("vit_b_32", **changes)


def test_levels_fit_what_the_decoder_gets(tmp_path):
    for changes, message in [
        ({"output": "hidden", "node": None, "levels": ["layer1"]}, "hidden features have no cells"),
        ({"levels": []}, "must name one layer or more, each once"),
        ({"levels": ["layer1", "layer1"]}, "must name one layer or more, each once"),
    ]:
        section = tiny_params()["encoder"] | changes
        with pytest.raises(UserError, match=rf"encoder\.levels = .*{message}"):
            validate("encoder", {"encoder": section}, tmp_path / "params.yaml")


def test_hidden_is_what_the_classifier_reads():
    for name in ("resnet18", "mobilenet_v3_small", "alexnet"):
        torch.manual_seed(0)
        network = torchvision.models.get_model(name, weights=None).eval()
        encoder = encoder_of(name, "hidden")
        encoder.backbone.network.load_state_dict(network.state_dict(), strict=False)
        last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
        seen = []
        last.register_forward_hook(lambda module, args, out, seen=seen: seen.append(args[0]))
        with torch.inference_mode():
            network(normalised(pictures()))
            torch.testing.assert_close(encoder(pictures()), seen[0], rtol=1e-4, atol=1e-4)
        assert encoder.channels == last.in_features


def test_hidden_of_a_map_is_its_mean():
    hidden, pooled = encoder_of("resnet18", "hidden", "layer3"), encoder_of("resnet18", "pooled", "layer3")
    with torch.inference_mode():
        torch.testing.assert_close(hidden(pictures()), pooled(pictures()))


def test_pixels_are_normalised_by_the_statistics_of_the_weights():
    encoder = encoder_of("resnet18", node="conv1")
    with torch.inference_mode():
        expected = encoder.backbone.network.conv1(normalised(pictures())).flatten(2).transpose(1, 2)
        torch.testing.assert_close(encoder(pictures()), expected, rtol=1e-4, atol=1e-4)


def test_crop_takes_the_centre_and_keeps_cropped_images():
    encoder = encoder_of("resnet18", "pooled", crop=48)
    images = pictures()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images), encoder(images[:, :, 8:56, 8:56]))
    with pytest.raises(UserError, match=r"encoder\.crop = 80 is more than the images have \(resize\.size = 64\)"):
        encoder_of("resnet18", "pooled", crop=80)


def test_crop_of_a_grid_is_refused(tmp_path):
    section = tiny_params()["encoder"] | {"crop": 32, "output": "grid"}
    with pytest.raises(UserError, match=r"encoder\.crop = 32: a grid's cells stand for places in the whole picture"):
        validate("encoder", {"encoder": section}, tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("block", "learning"),
    [
        ("layer3", ["layer3", "layer4"]),
        ("layer4.1", ["layer4.1"]),
        ("conv1", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        (None, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_blocks_from_one_on_learn(block, learning):
    encoder = encoder_of("resnet18")
    encoder.train_from(block)
    for name, parameter in encoder.backbone.network.named_parameters():
        assert parameter.requires_grad == any(name.startswith(part + ".") for part in learning), name
    kept = [name.removeprefix("backbone.network.") for name in encoder.trainable_state()]
    assert kept and all(name.startswith(tuple(learning)) for name in kept)


def test_nothing_learns_in_a_frozen_encoder():
    encoder = encoder_of("resnet18")
    encoder.train_from("layer3")
    encoder.freeze()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.trainable_state()
    assert not any(module.training for module in encoder.train().backbone.blocks().values())


def test_frozen_blocks_keep_their_statistics_in_training():
    encoder = encoder_of("resnet18")
    encoder.train_from("layer3.1")
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder.train()
    encoder(pictures(4))
    moved = {name for name, buffer in encoder.named_buffers() if not torch.equal(buffer, before[name])}
    assert moved and all(name.startswith(("backbone.network.layer3.1", "backbone.network.layer4")) for name in moved)
    encoder.freeze()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    encoder.train()
    encoder(pictures(4))
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())


def test_blocks_can_learn_with_frozen_statistics():
    encoder = encoder_of("resnet18")
    encoder.train_from("layer4", "frozen")
    encoder.train()
    before = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
    images = pictures(4)
    with torch.no_grad():
        in_use = encoder.eval()(images)
    features = encoder.train()(images)
    torch.testing.assert_close(features, in_use, rtol=1e-3, atol=1e-4)
    features.sum().backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in encoder.named_buffers())
    state = encoder.trainable_state()
    assert "backbone.network.layer4.0.bn1.weight" in state and not any("running" in name for name in state)
    assert all(p.grad is not None for p in encoder.backbone.network.layer4.parameters())
    encoder.train_from("layer4")
    assert "backbone.network.layer4.0.bn1.running_mean" in encoder.trainable_state()


def fold(encoder: Encoder) -> None:
    """Every norm's statistics into the convolution before it, as networks for 8-bit arithmetic have them."""
    convolution = None
    for module in encoder.backbone.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            fused = torch.nn.utils.fuse_conv_bn_eval(convolution, module)
            convolution.weight.data, module.bias.data = fused.weight.data, fused.bias.data
            module.weight.data.fill_(1.0)
            module.running_mean.zero_()
            module.running_var.fill_(1.0)
        convolution = module if isinstance(module, torch.nn.Conv2d) else convolution


@pytest.mark.parametrize("name", ["resnet18", "regnet_x_400mf"])
def test_a_single_image_with_a_single_cell_is_normed_by_the_running_statistics(name):
    """The last part of an epoch may have one image, and a map of one cell then has no variance."""
    encoder, images = encoder_of(name, size=32, output="hidden"), pictures(2, 32)
    alone = encoder(images[:1])
    encoder.train_from(None, "learning")
    encoder.train()
    norms = [module for module in encoder.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    found = encoder(images[:1])
    torch.testing.assert_close(found, alone)
    found.sum().backward()
    assert all(norm.training and torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))
    encoder(images)
    assert not torch.equal(norms[0].running_mean, before[0])


def test_folded_norms_are_recognised_and_stay_frozen(capsys):
    encoder = encoder_of("resnet18")
    assert not encoder.has_folded_norms() and usable_batch_norm(encoder, "learning", "key") == "learning"  # drawn anew
    encoder.train_from("conv1")
    encoder.train()(pictures(4))
    assert not encoder.has_folded_norms()
    fold(encoder.eval())
    assert encoder.has_folded_norms()
    assert usable_batch_norm(encoder, "learning", "a.key") == "frozen"
    said = capsys.readouterr().err
    assert said.startswith("the batch norms of resnet18 hold mean 0 and variance 1") and said.count("\n") == 1
    assert not encoder_of("squeezenet1_1").has_folded_norms()  # it has no norms


def test_frozen_blocks_have_no_dropout():
    encoder = encoder_of("alexnet", "hidden")
    encoder.train()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(pictures()), encoder(pictures()))


def test_frozen_blocks_compute_no_gradients():
    encoder = encoder_of("resnet18")
    encoder.train_from("layer4")
    encoder.train()
    encoder(pictures()).sum().backward()
    parameters = encoder.backbone.network.named_parameters()
    with_gradient = {name.split(".")[0] for name, p in parameters if p.grad is not None}
    assert with_gradient == {"layer4"}


def test_an_unknown_block_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"resnet18 has no block 'layer9'; its blocks are conv1, bn1, .*layer4"):
        encoder_of("resnet18").train_from("layer9")


def params_of(**changes) -> EncoderParams:
    return EncoderParams.model_validate(
        tiny_params()["encoder"] | {"name": "resnet18", "node": "layer3", "precision": "fp32"} | changes
    )


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_from_a_file(tmp_path, suffix):
    torch.manual_seed(9)
    network = torchvision.models.resnet18(weights=None)
    path = tmp_path / f"weights.{suffix}"
    torch.save(network.state_dict(), path) if suffix == "pth" else save_file(network.state_dict(), path)
    encoder = build_encoder(params_of(weights=str(path)), 64, seed=1)
    loaded, given = encoder.state_dict(), network.state_dict()
    assert all(torch.equal(tensor, given[name.removeprefix("backbone.network.")]) for name, tensor in loaded.items())


def test_weights_that_do_not_fit_are_refused_in_a_line(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.mobilenet_v3_small(weights=None).state_dict(), path)
    with pytest.raises(UserError, match=r"does not hold a state dict of resnet18: .+") as error:
        build_encoder(params_of(weights=str(path)), 64, seed=1)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        build_encoder(params_of(weights=str(tmp_path / "none.pth")), 64, seed=1)
    with pytest.raises(UserError, match="resnet18 knows DEFAULT, IMAGENET1K_V1"):
        build_encoder(params_of(weights="IMAGENET9"), 64, seed=1)


def test_unknown_networks_and_layers_are_refused():
    with pytest.raises(UserError, match=r"encoder\.name = 'resnet19' is not a class.*; did you mean resnet18\?"):
        build_encoder(params_of(name="resnet19"), 64, seed=1)
    with pytest.raises(UserError, match=r"resnet18 has no layer 'layer9' \(encoder\.node\)"):
        build_encoder(params_of(node="layer9"), 64, seed=1)


def test_random_weights_depend_on_the_seed():
    one, same, other = (build_encoder(params_of(), 64, seed=seed).hash() for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("name", "node", "size"),
    [("resnet18", "layer2", 96), ("regnet_x_400mf", "trunk_output.block2", 96), ("squeezenet1_1", "features.7", 96),
     ("mobilenet_v2", "features.6", 96), ("vgg11", "features.10", 64)],
)  # fmt: skip
def test_shift_is_the_offset_of_the_receptive_field(name, node, size):
    encoder = encoder_of(name, "grid", node, size).double()
    network = encoder.backbone.network
    for layer, module in list(network.named_modules()):  # constant weights: the gradient shows the receptive field
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, torch.nn.MaxPool2d):
            mean = torch.nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            network.set_submodule(layer, mean)
    images = torch.ones(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    side = round(encoder.cells**0.5)
    cell = side // 2
    encoder.backbone.network(images)["features"][0, :, cell, cell].sum().backward()
    seen = images.grad.sum(dim=(0, 1, 2))  # of each column of pixels
    middle = float((seen * (torch.arange(size) + 0.5)).sum() / seen.sum()) / size
    assert middle == pytest.approx((cell + 0.5) / side + encoder.shift, abs=0.02 / side)
    assert -0.6 / side < encoder.shift <= 0


def test_patch_embeddings_have_no_shift():
    assert encoder_of("vit_b_16", "grid", "encoder.ln", 224).shift == 0
