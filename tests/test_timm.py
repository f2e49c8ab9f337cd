"""Encoders of timm: a CNN, channels-last and hybrid transformers, class and register tokens, all tiny."""

import json
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from showtell.commands import cli, list_encoders
from showtell.core.errors import UserError
from showtell.encoders.encoder_params import EncoderParams, image_statistics
from showtell.encoders.network import Encoder, build_encoder

timm = pytest.importorskip("timm")

# Pixels; cells and channels of the last map; a block to learn from.
FAMILIES = {
    "mobilenetv3_small_050": (128, 16, 288, "blocks.4"),  # has a head layer after the map
    "convnext_atto": (64, 4, 320, "stages.2"),
    "swin_tiny_patch4_window7_224": (64, 4, 768, "layers.3"),  # channels last
    "vit_small_patch14_reg4_dinov2": (56, 16, 384, "blocks.10"),  # a class token and four registers
    "vit_tiny_r_s16_p8_224": (64, 4, 192, "blocks.11"),  # a CNN in front of the transformer
    "hiera_tiny_224": (64, 4, 768, "blocks.11"),  # without a final norm of its map
}
SMALL = "mobilenetv3_small_050"


def params_of(name: str, **changes) -> EncoderParams:
    section = {"name": f"timm/{name}", "weights": "none", "output": "grid", "node": None, "levels": None, "crop": None}
    return EncoderParams.model_validate({**section, "precision": "fp32", **changes})


def encoder_of(name: str, size: int = 64, **changes) -> Encoder:
    return build_encoder(params_of(name, **changes), size, seed=0)


def pictures(count: int, size: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def refused(name: str, size: int = 64, **changes) -> str:
    with pytest.raises(UserError) as caught:
        encoder_of(name, size, **changes)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    return message


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_of_every_family_follow_its_own_channels(name):
    size, cells, channels, _ = FAMILIES[name]
    plain, images = encoder_of(name, size), pictures(2, size)
    network = timm.create_model(name, num_classes=0)
    first = (network.feature_info if isinstance(network.feature_info, list) else network.feature_info.info)[0]["module"]
    encoder = encoder_of(name, size, levels=[first])
    plain.load_state_dict(encoder.state_dict(), strict=False)
    with torch.no_grad():
        features, own = encoder(images), plain(images)
    assert features.shape[1] == cells and encoder.channels > channels
    torch.testing.assert_close(features[..., :channels], own)
    assert features[..., channels:].std() > 0
    refused(name, size, levels=["blocks.99"])


@pytest.mark.parametrize(
    ("name", "node", "later"), [("resnet18", "layer2", "layer3"), ("vit_tiny_patch16_224", "blocks.5", "blocks.8")]
)
def test_levels_after_the_node_are_refused(name, node, later):
    """Layers after the node are removed: the node's own map would stand for theirs."""
    message = f"encoder.levels: {later} comes after encoder.node = {node}; name layers before it"
    assert refused(name, node=node, levels=[later]) == message


@pytest.mark.parametrize("name", ["rexnet_100", "skresnet18"])
def test_a_single_image_is_learnt_from_where_norms_follow_global_pooling(name):
    """Squeeze and excitation, and selective kernels, have batch norms of a single cell: an image alone, the rest of an
    epoch, has no variance there."""
    encoder, images = encoder_of(name), pictures(2, 64)
    encoder.train_from(None)
    encoder.train()
    found = encoder(images[:1])
    torch.testing.assert_close(found, encoder.eval()(images[:1]))
    encoder.train()(images)
    norms = [module for module in encoder.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.training and norm.running_mean.any() for norm in norms if norm.num_batches_tracked)
    assert any(norm.num_batches_tracked for norm in norms)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_cells_and_is_rebuilt_from_its_configuration(name):
    size, cells, channels, _ = FAMILIES[name]
    encoder, images = encoder_of(name, size), pictures(2, size)
    with torch.no_grad():
        features = encoder(images)
        again = Encoder(json.loads(json.dumps(encoder.config))).eval()
        again.load_state_dict(encoder.state_dict())
        assert torch.equal(again(images), features)
        changed = images.clone()
        changed[:, :, size // 2 :, : size // 2] = 255 - changed[:, :, size // 2 :, : size // 2]  # the bottom left
        moved = (encoder(changed) - features).square().sum(2).mean(0)
    assert features.shape == (2, cells, channels) == (2, encoder.cells, encoder.channels)
    side = round(cells**0.5)
    quarters = moved.view(2, side // 2, 2, side // 2).sum((1, 3))
    assert quarters.argmax() == 2


@pytest.mark.parametrize("name", FAMILIES)
def test_blocks_from_one_on_learn_and_nothing_before(name):
    size, _, _, block = FAMILIES[name]
    encoder, images = encoder_of(name, size), pictures(4, size)
    encoder.train_from(block)
    before = {key: buffer.clone() for key, buffer in encoder.named_buffers()}
    torch.manual_seed(0)
    encoder.train()(images).square().mean().backward()
    learning = {key for key, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert learning == {key for key, parameter in encoder.named_parameters() if parameter.grad is not None}
    names = list(encoder.backbone.blocks())
    later = set(names[names.index(block) :])
    assert learning and {key.removeprefix("backbone.network.").rpartition(".")[0] for key in learning} <= later
    moved = {key for key, buffer in encoder.named_buffers() if not torch.equal(buffer, before[key])}
    assert {key.removeprefix("backbone.network.").rpartition(".")[0] for key in moved} <= later
    assert bool(moved) == (name == SMALL)  # it has batch norms after the node
    encoder.train_from(block, "frozen")
    assert not {key for key in encoder.trainable_state() if "running" in key}


def test_blocks_are_in_the_order_in_which_images_pass_them():
    """Twins declares all patch embeddings first, and uses each before its blocks."""
    encoder = encoder_of("twins_svt_small", 64)
    names = [name for name in encoder.backbone.blocks() if name.count(".") == 1]
    order = [f"{part}.{stage}" for stage in range(4) for part in ("patch_embeds", "blocks", "pos_block")]
    assert [name for name in names if name in order] == order
    encoder.train_from("blocks.2")
    network = encoder.train().backbone.network
    assert [any(p.requires_grad for p in m.parameters()) for m in network.patch_embeds] == [False, False, False, True]
    assert [module.training for module in network.blocks] == [False, False, True, True]


def test_networks_with_convolutions_of_three_dimensions_are_built():
    assert encoder_of("lambda_resnet26t", 64).cells == 4


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_is_of_one_layer_the_first_ones_before_the_blocks(name):
    size, _, _, block = FAMILIES[name]
    encoder = encoder_of(name, size)
    layers = encoder.layers()
    depth = {id(p): number for number, layer in enumerate(layers) for p in layer}
    assert len(depth) == sum(map(len, layers)) == len(list(encoder.backbone.parameters()))
    parameters = {key: depth[id(p)] for key, p in encoder.backbone.network.named_parameters()}
    of_block = [number for key, number in parameters.items() if key.startswith(f"{block}.")]
    assert min(of_block) > 0
    assert all(number == 0 for key, number in parameters.items() if "." not in key)  # tokens, positions


def test_layers_after_the_node_are_removed():
    whole, half = encoder_of("vit_small_patch14_reg4_dinov2", 56), encoder_of(
        "vit_small_patch14_reg4_dinov2", 56, node="blocks.5"
    )
    count = {name: sum(p.numel() for p in one.parameters()) for name, one in (("whole", whole), ("half", half))}
    assert count["half"] < 0.6 * count["whole"] and half.cells == whole.cells
    message = refused(SMALL, node="blocks.9")
    assert message.startswith(f"timm/{SMALL} has no layer 'blocks.9' (encoder.node); its maps are those of")


def test_hidden_is_what_the_classifier_reads():
    torch.manual_seed(0)
    network = timm.create_model(SMALL, pretrained=False).eval()
    encoder = encoder_of(SMALL, output="hidden")
    encoder.backbone.network.load_state_dict(network.state_dict(), strict=False)
    seen = []
    network.get_classifier().register_forward_hook(lambda module, args, out: seen.append(args[0]))
    with torch.no_grad():
        images = pictures(2, 64)
        network((images - encoder.mean) / encoder.std)
        torch.testing.assert_close(encoder(images), seen[0], rtol=1e-4, atol=1e-4)
        pooled = encoder_of(SMALL, output="pooled")
        torch.testing.assert_close(pooled(images), encoder_of(SMALL)(images).mean(1))


@pytest.mark.parametrize("classes", [1000, 7, 0])
def test_weights_of_a_file_with_any_classifier(tmp_path, classes):
    network = timm.create_model(SMALL, num_classes=classes)
    save_file(network.half().state_dict(), tmp_path / "mine.safetensors")
    encoder = encoder_of(SMALL, weights=str(tmp_path / "mine.safetensors"))
    found = encoder.backbone.network.state_dict()
    for name, tensor in network.state_dict().items():
        if "classifier" not in name:
            assert torch.equal(found[name], tensor.to(found[name].dtype)), name


def test_position_embeddings_are_interpolated(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    nn.init.normal_(network.pos_embed)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    encoder = encoder_of("vit_tiny_patch16_224", weights=str(tmp_path / "vit.pth"))
    embeddings = encoder.backbone.network.pos_embed
    assert embeddings.shape[1] == 17 and embeddings.std() > 0.1 and encoder.cells == 16


def test_wrong_names_and_files_are_a_line(tmp_path):
    assert refused("mobilenetv3_smal_050").startswith(
        "encoder.name = 'timm/mobilenetv3_smal_050': timm has no network 'mobilenetv3_smal_050'; did you mean "
        "mobilenetv3_small_050 or "
    )
    assert "mobilenetv3_small_050 knows DEFAULT, lamb_in1k, none, or a" in refused(SMALL, weights="openai")
    assert refused(f"{SMALL}.openai") == f"encoder.name = 'timm/{SMALL}.openai': its weights are lamb_in1k"
    assert "no such file" in refused(SMALL, weights=str(tmp_path / "nothing.pth"))
    path = tmp_path / "other.safetensors"
    save_file(timm.create_model("mobilenetv3_small_075").state_dict(), path)
    assert f"does not hold a state dict of {SMALL}: " in refused(SMALL, weights=str(path))
    assert refused(f"{SMALL}.") == f"encoder.name = 'timm/{SMALL}.': its weights are lamb_in1k"
    for content in ([1, 2], {}):  # timm would take its own weights for an empty dict
        torch.save(content, tmp_path / "other.pth")
        message = refused(SMALL, weights=str(tmp_path / "other.pth"))
        assert "does not hold a state dict, a tensor for each name" in message


def test_a_block_after_the_map_cannot_learn():
    encoder = encoder_of("convnext_atto")
    with pytest.raises(UserError, match="nothing from block 'head' on is part of the map; name an earlier block"):
        encoder.train_from("head")


def test_strided_points_have_the_gradient_of_a_convolution():
    # with channels-last images torch would write outside its memory
    encoder = encoder_of("repvgg_a0", node="stem")
    stem = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1))
    assert type(stem) is not nn.Conv2d  # whose failure would end the tests, on some processors
    images = pictures(2, 64).float().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(stem(images), nn.functional.conv2d(images.contiguous(), stem.weight, stride=2))
    stem.weight.requires_grad_()
    for _ in range(5):
        (gradient,) = torch.autograd.grad(stem(images).sum(), stem.weight)
    expected = images[:, :, ::2, ::2].sum((0, 2, 3)).expand(len(gradient), 3)
    torch.testing.assert_close(gradient[:, :, 0, 0], expected)


def test_without_network_one_line_says_which_file_to_bring(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
    monkeypatch.setattr("httpx.head", lambda *_, **__: None)
    for weights in ("DEFAULT", "lamb_in1k"):
        message = refused(SMALL, weights=weights)
        assert "(network is unreachable); bring model.safetensors from https://huggingface.co/timm/" in message
        assert "set encoder.weights to its path" in message and f"encoder.name to timm/{SMALL}.lamb_in1k" in message


def test_a_hub_out_of_reach_is_not_asked_again_and_again(monkeypatch):
    import httpx
    from huggingface_hub import constants

    def out_of_reach(*args, **kwargs):
        raise httpx.ConnectError("no route")

    def load(*args, **kwargs):
        offline.append(constants.HF_HUB_OFFLINE)
        return timm.create_model(SMALL).state_dict()

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    offline: list[bool] = []
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", load)
    for answer in (out_of_reach, lambda *_, **__: None):
        monkeypatch.setattr("httpx.head", answer)
        encoder_of(SMALL, weights="DEFAULT")
    assert offline == [True, False] and constants.HF_HUB_OFFLINE is False
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("httpx.head", lambda *_, **__: pytest.fail("asked although it is set to be offline"))
    encoder_of(SMALL, weights="DEFAULT")


def test_published_weights_are_copied_whole(monkeypatch):
    source = timm.create_model(SMALL)
    monkeypatch.setattr("httpx.head", lambda *_, **__: None)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: source.state_dict())
    found = encoder_of(SMALL, weights="DEFAULT").backbone.network.state_dict()
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in found.items())


def test_without_timm_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refused(SMALL) == (
        "encoder.name = timm/...: timm is not installed; in the clone of this repository: pip install -e '.[timm]'"
    )


def test_the_list_has_size_and_licence(capsys):
    assert cli.dispatch(["encoders", "timm/mobilenetv3_small_05*", "--size", "64"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.startswith("encoder.name") and row.split() == f"timm/{SMALL} 0.6 M 4 x 288 2,304 - apache-2.0".split()
    for command in (["encoders"], ["encoders", ""]):  # no figures: those of all networks would take minutes
        assert cli.dispatch(command) == 0
        names = capsys.readouterr().out.splitlines()
        assert {"resnet18", "timm/resnet18"} <= set(names)
    with pytest.raises(UserError, match="no network of torchvision or timm has 'resnet17' in its name"):
        cli.dispatch(["encoders", "resnet17"])


def test_each_row_is_printed_as_soon_as_it_is_known(capsys, monkeypatch):
    printed = []

    def slow(name, size, real):
        printed.append(capsys.readouterr().out)
        raise UserError("takes minutes")

    monkeypatch.setattr(list_encoders, "_encoder", slow)
    assert cli.dispatch(["encoders", "vgg1*_bn", "--size", "64"]) == 0
    head, first, *_ = printed
    assert head.startswith("encoder.name") and first.split() == ["vgg11_bn", "takes", "minutes"]


def test_the_transform_is_that_of_the_weights():
    lite = image_statistics(params_of("tf_efficientnet_lite2"))
    assert (lite.mean, lite.std, lite.filter, lite.size) == ((0.5,) * 3, (0.5,) * 3, "bicubic", 260)
    assert encoder_of("vit_tiny_patch16_224").config["mean"] == [0.5] * 3
    assert image_statistics(params_of("resnet18.tv_in1k")).filter == "bilinear"
