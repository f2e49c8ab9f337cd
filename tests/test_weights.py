"""Weights from torchvision's cache and from files: one line for errors, and no code in a file is executed."""

import hashlib
import os
import pickle
import urllib.request
from functools import cache
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from showtell.core.errors import UserError
from showtell.data.transform import Transform
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.features import StoredEncoder, load_encoder, save_encoder
from showtell.encoders.network import EncoderParams, build_encoder
from showtell.encoders.weights import bare_network, load_weights

NAME = "squeezenet1_1"


@cache
def state(name: str = NAME) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return bare_network(name).state_dict()


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """torch's cache, empty, on a machine without network; returns the folder of its files."""

    def unreachable(*args, **kwargs):
        raise URLError("network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def publish(monkeypatch, folder: Path, weight: str = "IMAGENET1K_V1", name: str = NAME) -> Path:
    """A file in the cache in place of torchvision's `weight`."""
    path = folder / "made.pth"
    torch.save(state(name), path)
    named = path.rename(folder / f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    entry = torchvision.models.get_model_weights(name)[weight]
    monkeypatch.setattr(entry.value, "url", f"https://weights.invalid/models/{named.name}")
    return named


def encoder_of(weights: str, name: str = NAME, seed: int = 0, **more):
    params = {"output": "grid", "node": None, "levels": None, "crop": None, "precision": "fp32"} | more
    return build_encoder(EncoderParams(name=name, weights=weights, **params), 64, seed)


def same(network: nn.Module, expected: dict[str, torch.Tensor]) -> bool:
    found = network.state_dict()
    return all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def refused(weights: str, name: str = NAME) -> str:
    """The message, one short line."""
    with pytest.raises(UserError) as caught:
        load_weights(bare_network(name), name, weights)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300 + len(weights)
    return message


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_torchvision_weights_come_from_its_cache(hub, monkeypatch, weights):
    publish(monkeypatch, hub)
    network = bare_network(NAME)
    statistics = load_weights(network, NAME, weights)
    assert same(network, state())
    assert statistics == ImageStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 224)


def test_torchvision_weights_are_downloaded_checked_and_kept(hub, monkeypatch, tmp_path, capfd):
    made = publish(monkeypatch, hub)
    (tmp_path / "web").mkdir()
    source = made.rename(tmp_path / "web" / made.name)
    entry = torchvision.models.get_model_weights(NAME)["DEFAULT"]
    monkeypatch.setattr(entry.value, "url", source.as_uri())
    monkeypatch.setattr(torch.hub, "urlopen", urllib.request.build_opener().open)
    load_weights(bare_network(NAME), NAME, "DEFAULT")
    source.unlink()
    network = bare_network(NAME)
    load_weights(network, NAME, "DEFAULT")  # from the cache
    assert same(network, state())
    made.unlink()
    source.write_bytes(b"something else")
    assert f"what came from {source.as_uri()} is damaged (invalid hash value" in refused("DEFAULT")
    assert list(hub.iterdir()) == []


def test_without_network_one_line_says_how_to_bring_the_file(hub):
    message = refused("DEFAULT")
    assert message == (
        "cannot download https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth (network is unreachable); "
        f"bring the file and put it in {hub}, or set encoder.weights to its path"
    )


def test_a_damaged_file_in_the_cache_is_detected_by_its_checksum(hub, monkeypatch):
    path = publish(monkeypatch, hub)
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is damaged: its checksum begins with" in refused("DEFAULT")


def test_random_weights_depend_on_the_seed_and_need_no_files(hub):
    assert encoder_of("none").hash() == encoder_of("none").hash() != encoder_of("none", seed=1).hash()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_state_dict_in_a_file(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    save_file(state(), path) if suffix == ".safetensors" else torch.save(state(), path)
    network = bare_network(NAME)
    assert load_weights(network, NAME, str(path)).size is None  # a file has no transform
    assert same(network, state())


def test_the_same_weights_are_the_same_encoder_wherever_they_come_from(hub, monkeypatch, tmp_path):
    torch.save(state(), tmp_path / "a.pth")
    save_file(state(), tmp_path / "b.safetensors")
    publish(monkeypatch, hub)
    hashes = {encoder_of(weights).hash() for weights in (f"{tmp_path}/a.pth", f"{tmp_path}/b.safetensors", "DEFAULT")}
    assert len(hashes) == 1


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy", "among weights"])
def test_a_malicious_pickle_does_nothing(tmp_path, form):
    path, mark = tmp_path / "weights.pth", tmp_path / "mark"
    bomb = {**state(), "more": Bomb(mark)} if form == "among weights" else Bomb(mark)
    if form == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path, _use_new_zipfile_serialization=form != "legacy")
    assert "its pickle asks for more than tensors), and nothing in it was run" in refused(str(path))
    assert not mark.exists()


def test_a_malicious_pickle_in_torch_s_cache_does_nothing(hub, monkeypatch, tmp_path):
    path = publish(monkeypatch, hub)
    torch.save(Bomb(tmp_path / "mark"), path)
    named = path.rename(hub / f"bad-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")
    entry = torchvision.models.get_model_weights(NAME)["DEFAULT"]
    monkeypatch.setattr(entry.value, "url", f"https://weights.invalid/{named.name}")
    assert "is damaged" in refused("DEFAULT")
    assert not (tmp_path / "mark").exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pth")
    assert "save a state dict, with torch.save(model.state_dict(), path)" in refused(str(tmp_path / "whole.pth"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensor: tensor.index_fill(0, torch.tensor([0]), torch.nan), "holds values that are NaN"),
        (lambda tensor: tensor.to_sparse(), "is sparse"),
        (lambda tensor: tensor.to("meta"), "is without values"),
        (lambda tensor: tensor.to(torch.complex64), "is complex"),
    ],
)
def test_tensors_that_no_network_can_use_are_named(tmp_path, change, says):
    content = state()
    name = next(key for key in content if key.endswith("weight"))
    torch.save({**content, name: change(content[name])}, tmp_path / "odd.pth")
    message = refused(str(tmp_path / "odd.pth"))
    assert name in message and says in message
    torch.save({**content, 5: torch.ones(2)}, tmp_path / "odd.pth")
    assert "name is 5" in refused(str(tmp_path / "odd.pth"))


def test_other_files_than_weights_are_refused(tmp_path):
    for name, content in (("a.pth", b"text"), ("b.pth", b""), ("c.safetensors", b"text"), ("d.safetensors", b"")):
        (tmp_path / name).write_bytes(content)
        assert f"encoder.weights = '{tmp_path / name}' is damaged or" in refused(str(tmp_path / name))
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    torch.save({"epoch": 3, "state_dict": state()}, tmp_path / "checkpoint.pth")
    for name in ("list.pth", "checkpoint.pth"):
        assert "does not hold a state dict, a tensor for each name" in refused(str(tmp_path / name))
    torch.save(state(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:100_000])
    assert "is damaged" in refused(str(tmp_path / "cut.pth"))


def test_a_state_dict_of_another_network(tmp_path):
    torch.save(state(), tmp_path / "a.pth")
    message = refused(str(tmp_path / "a.pth"), "resnet18")
    assert "does not hold a state dict of resnet18: 102 of its 122 tensors are missing, such as conv1.weight" in message
    torch.save({f"module.{key}": tensor for key, tensor in state().items()}, tmp_path / "parallel.pth")
    assert "others are there, such as module." in refused(str(tmp_path / "parallel.pth"))
    torch.save({**state(), "epoch": 3}, tmp_path / "more.pth")
    assert refused(str(tmp_path / "more.pth")).endswith("does not hold a state dict, a tensor for each name")
    torch.save({"epoch": 3, "model": state()}, tmp_path / "within.pth")
    assert "there is one in its part model: save that alone" in refused(str(tmp_path / "within.pth"))
    torch.save({**state(), "head.bias": torch.zeros(3)}, tmp_path / "b.pth")
    assert "1 tensors are not of this network, such as head.bias" in refused(str(tmp_path / "b.pth"))
    torch.save({**state(), "classifier.1.bias": torch.zeros(7)}, tmp_path / "c.pth")
    assert "classifier.1.bias has shape 7, not 1000" in refused(str(tmp_path / "c.pth"))


def test_a_file_without_what_no_feature_is_computed_from(tmp_path):
    """Networks that learnt without labels are published without a classifier."""
    whole, path = state("resnet18"), tmp_path / "own.pth"
    torch.save(whole, tmp_path / "whole.pth")
    expected = encoder_of(f"{tmp_path}/whole.pth", "resnet18").hash()
    torch.save({key: tensor for key, tensor in whole.items() if not key.startswith("fc.")}, path)
    assert encoder_of(str(path), "resnet18").hash() == expected
    torch.save({key: tensor for key, tensor in whole.items() if not key.startswith(("fc.", "layer4."))}, path)
    encoder_of(str(path), "resnet18", node="layer3")
    with pytest.raises(UserError, match=r"of its 122 tensors are missing, such as layer4\.0\.conv1\.weight"):
        encoder_of(str(path), "resnet18")


def test_a_file_of_another_number_of_classes(tmp_path):
    """As weights that have learnt places or species are published."""
    whole, path = state("resnet18"), tmp_path / "places.pth"
    torch.save(whole, tmp_path / "whole.pth")
    expected = encoder_of(f"{tmp_path}/whole.pth", "resnet18").hash()
    torch.save({**whole, "fc.weight": torch.zeros(365, 512), "fc.bias": torch.zeros(365)}, path)
    assert encoder_of(str(path), "resnet18").hash() == expected
    for classes, inputs, says in ((365, 500, "fc.weight has shape 365 x 500"), (1000, 500, "fc.weight has shape")):
        torch.save({**whole, "fc.weight": torch.zeros(classes, inputs), "fc.bias": torch.zeros(classes)}, path)
        with pytest.raises(UserError, match=says):
            encoder_of(str(path), "resnet18")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_networks_whose_state_dicts_have_versions(tmp_path, suffix):
    """MNASNet refuses a state dict without one, and files of tensors alone have none."""
    path, state = tmp_path / f"own{suffix}", bare_network("mnasnet0_5").state_dict()
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    network = bare_network("mnasnet0_5")
    load_weights(network, "mnasnet0_5", str(path))
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def test_position_embeddings_of_torchvision_are_interpolated(tmp_path):
    torch.save(bare_network("vit_b_32", 64).state_dict(), tmp_path / "own.pth")
    network = bare_network("vit_b_32", 96)
    load_weights(network, "vit_b_32", str(tmp_path / "own.pth"))
    assert network.encoder.pos_embedding.shape == (1, 1 + 3 * 3, 768)
    with pytest.raises(UserError, match=r"vit_b_32 cuts pictures into patches of 32 x 32 pixels: set resize\.size"):
        bare_network("vit_b_32", 100)


def test_missing_paths_and_unknown_names(tmp_path):
    (tmp_path / "folder.pth").mkdir()
    assert "it is a folder, not a file" in refused(str(tmp_path / "folder.pth"))
    assert "no such file" in refused(str(tmp_path / "nowhere.safetensors"))
    message = refused("IMAGENET21K")
    assert message == (
        "encoder.weights = 'IMAGENET21K': squeezenet1_1 knows DEFAULT, IMAGENET1K_V1, none, scenes, "
        "or a file whose name ends in .pth, .pt or .safetensors"
    )
    with pytest.raises(UserError, match=r"encoder\.name = 'squeeze' is not a classification model"):
        encoder_of("none", "squeeze")


def test_the_old_names_in_torchvision_s_densenet_files(tmp_path):
    import re

    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): t for key, t in state("densenet121").items()
    }
    assert set(old) != set(state("densenet121"))
    torch.save(old, tmp_path / "densenet.pth")
    network = bare_network("densenet121")
    load_weights(network, "densenet121", str(tmp_path / "densenet.pth"))
    assert same(network, state("densenet121"))


def test_a_rebuilt_googlenet_gives_the_same_features(tmp_path):
    """torchvision enables its own normalisation for its weights only; the published file has auxiliary heads."""
    published = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True).state_dict()
    torch.save(published, tmp_path / "googlenet.pth")
    encoder = encoder_of(f"{tmp_path}/googlenet.pth", "googlenet", node="inception3b.cat")
    save_encoder(tmp_path / "saved", StoredEncoder(encoder, Transform(64, "stretch"), "fp32", None))
    again, transform, precision, detector = load_encoder(tmp_path / "saved")
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(encoder(images), again(images)) and again.hash() == encoder.hash()
    assert transform == Transform(64, "stretch") and precision == "fp32" and detector is None
    reference = torchvision.models.googlenet(
        weights=None, init_weights=False, aux_logits=True, transform_input=True
    ).eval()
    reference.load_state_dict(published)
    seen = []
    reference.inception3b.register_forward_hook(lambda *call: seen.append(call[2]))
    reference((images / 255 - encoder.mean / 255) / (encoder.std / 255))
    assert torch.allclose(encoder(images), seen[0].flatten(2).transpose(1, 2), atol=1e-4)


def test_images_too_small_for_a_network_are_one_line():
    with pytest.raises(UserError, match=r"alexnet cannot look at 32 x 32 pixels \(.*\); change resize.size"):
        alexnet = {"name": "alexnet", "weights": "none", "output": "grid", "node": None, "levels": None, "crop": None}
        build_encoder(EncoderParams(**alexnet, precision="fp32"), 32, 0)
