"""Every recipe is a valid overlay, does what its command says, and learns for one update at its real size."""

import json
import math
import shlex
import subprocess
import sys
from itertools import product

import pytest
import torch
import yaml
from conftest import ROOT, inside, run_stage, write_params

from showtell.commands import cli, recipe
from showtell.core.errors import UserError
from showtell.core.workplace import Workplace
from showtell.data.batches import Batch, pad
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.network import EncoderParams, build_encoder
from showtell.learning.augmentation import cropped
from showtell.learning.caption_task import CaptionTask, FinetuneParams, TrainParams
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import fit

DATASETS = ("coco", "flickr8k", "flickr30k", "scenes")
SYSTEMS = ("show-attend-tell", "resnet152-lstm", "vgg16-onehot-lstm", "densenet121-lstm", "showtell")
PARAMS = (ROOT / "params.yaml").read_text()


def overlay_of(*names: str) -> dict:
    with inside(ROOT):
        return recipe.merged(names)


def params_of(*names: str) -> dict:
    return recipe.overlaid(yaml.safe_load(PARAMS), overlay_of(*names))


def test_every_recipe_is_a_dataset_a_system_or_small():
    assert {path.stem for path in (ROOT / "recipes").glob("*.yaml")} == {*DATASETS, *SYSTEMS, "small"}


@pytest.mark.parametrize(
    "names", [*product(DATASETS, SYSTEMS), *((name, "small") for name in SYSTEMS), *((n,) for n in DATASETS)]
)
def test_any_system_goes_with_any_dataset(names):
    recipe.check(params_of(*names))


@pytest.mark.parametrize("names", list(product(SYSTEMS, repeat=2)))
def test_a_recipe_says_all_that_another_could_have_changed(names):
    """Written over another system's, a recipe gives valid parameters with its own decoder, whole."""
    params = params_of(*names)
    recipe.check(params)
    assert params["decoder"] == params_of(names[1])["decoder"]
    assert params["encoder"] == params_of(names[1])["encoder"]


def small_batch(images: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(0)
    captions = [[[1, *torch.randint(4, 30, (n,), generator=generator).tolist(), 2] for n in (5, 3)] for _ in images]
    return Batch(images, *pad(captions))


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_learns_for_one_update(name, tmp_path):
    """The real networks, drawn at random, on pictures of 64 pixels: cached features where the encoder is frozen."""
    params = params_of(name)
    section = params["encoder"] | {"weights": "none", "crop": params["encoder"]["crop"] and 48}
    encoder = build_encoder(EncoderParams.model_validate(section), 64, seed=1)
    shape = DecoderParams.model_validate(params["decoder"])
    torch.manual_seed(0)
    decoder = build_decoder(shape, encoder.channels, 30)
    pictures = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    if params["train"]["epochs"]:
        learning = TrainParams.model_validate(params["train"] | {"epochs": 1})
        with torch.inference_mode():
            features = encoder(pictures)
        # Drawn at random, a deep network gives huge numbers; they saturate every gate, and nothing would move.
        network, batch = CaptionTask(decoder, learning), small_batch(features / features.std())
    else:
        learning = FinetuneParams.model_validate(params["finetune"] | {"epochs": 1})
        encoder.train_from(learning.trainable_from)
        network, batch = CaptionTask(decoder, learning, encoder), small_batch(pictures)
    before = {key: tensor.clone() for key, tensor in network.weights().items()}
    history = fit(
        network, lambda epoch: [batch], lambda: {"score": 1.0}, learning, "score", Checkpoints(Workplace(tmp_path))
    )
    assert math.isfinite(history[0]["loss"])
    moved = {key for key, tensor in network.weights().items() if not torch.equal(tensor, before[key])}
    never = {"decoder.energy.bias"}  # softmax does not see it
    assert {key for key, _ in network.named_parameters()} & set(before) - moved <= never


def test_published_sizes():
    """Parameters of the decoders, by the formulas of their papers."""
    words, sizes = 9490, {}
    for name in ("show-attend-tell", "resnet152-lstm"):
        shape = DecoderParams.model_validate(params_of(name)["decoder"])
        sizes[name] = sum(p.numel() for p in build_decoder(shape, 2048, words).parameters())
    attention = 2048 * 512 + 512 + 512 * 512 + 512 + 512 + 1
    recurrent = 4 * 512 * (512 + 2048 + 512 + 2)
    rest = words * 512 + 2 * (2048 * 512 + 512) + 512 * 2048 + 2048 + 512 * words + words
    assert sizes["show-attend-tell"] == attention + recurrent + rest
    image, norm, recurrent = 2048 * 256 + 256, 2 * 256, 4 * 512 * (256 + 512 + 2)
    assert sizes["resnet152-lstm"] == words * 256 + image + norm + recurrent + 512 * words + words


def run_recipe(capsys, *arguments: str) -> str:
    with inside(ROOT):
        assert cli.dispatch(["recipe", *arguments]) == 0
    return capsys.readouterr().out


def test_flags_are_what_dvc_reads(capsys):
    words = shlex.split(run_recipe(capsys, "coco", "show-attend-tell"))
    assert words[::2] == ["-S"] * (len(words) // 2)
    values = dict(word.split("=", 1) for word in words[1::2])
    assert values["dataset"] == "coco"
    assert values["encoder.name"] == "resnet101"
    assert values["encoder.node"] == "null"
    assert values["decoder.normalise_grid"] == "false"
    overlay = {key: yaml.safe_load(value) for key, value in values.items()}
    assert overlay == dict(recipe.flat(overlay_of("coco", "show-attend-tell")))


def test_no_names_lists_what_there_is(capsys):
    listed = run_recipe(capsys)
    assert all(name in listed for name in (*DATASETS, *SYSTEMS))


@pytest.mark.parametrize("name", SYSTEMS)
def test_writing_changes_values_and_keeps_every_comment(name, tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    with inside(tmp_path):
        assert cli.dispatch(["recipe", "flickr8k", name, "--write"]) == 0
    written = (tmp_path / "params.yaml").read_text()
    assert yaml.safe_load(written) == params_of("flickr8k", name)
    before, after = PARAMS.split("\n"), written.split("\n")
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert old.partition("#")[1:] == new.partition("#")[1:]
        assert old.split(":")[0] == new.split(":")[0]
    # Written again, nothing moves.
    with inside(tmp_path):
        assert cli.dispatch(["recipe", "flickr8k", name, "--write"]) == 0
    assert (tmp_path / "params.yaml").read_text() == written


def test_comments_stay_in_their_column():
    text = "train:\n  epochs: 5    # passes\n  rate: 0.1  # of learning\n"
    edited = recipe.edited(text, {"train": {"epochs": 120, "rate": 0.00001}})
    assert edited == "train:\n  epochs: 120  # passes\n  rate: 0.00001  # of learning\n"


def test_numbers_are_numbers_to_yaml():
    for value in (0.0004, 1e-5, 1e-7, 0.0, 10.0, 3, True, None, "adam"):
        assert yaml.safe_load(recipe.shown(value)) == value


def test_what_is_wrong_is_told_in_a_line(tmp_path):
    with pytest.raises(UserError, match="there is no recipe 'show-tell'; there are coco, densenet121-lstm, "):
        overlay_of("show-tell")
    own = tmp_path / "own.yaml"
    own.write_text("train:\n  epoch: 3\n")
    with pytest.raises(UserError, match=r"a recipe sets train\.epoch, which params\.yaml does not have"):
        params_of(str(own))
    own.write_text("train:\n  epochs: -1\n")
    with pytest.raises(UserError, match=r"params\.yaml: train\.epochs = -1"):
        recipe.check(params_of(str(own)))
    own.write_text("custom:\n  images: my photos\n")
    with pytest.raises(UserError, match=r"custom\.images = my photos cannot be a flag; use `showtell recipe --write`"):
        recipe.flags(overlay_of(str(own)))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"train: \xff", "cannot be read"), (b"train: [", "is not valid YAML"), (b"- train", "must hold sections")],
)
def test_a_file_that_is_no_recipe_is_told_in_a_line(tmp_path, content, said):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"mine\.yaml {said}"):
        recipe.read_recipe(str(path))


def test_the_command_needs_no_torch():
    code = "import sys; from showtell.commands import recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_crops_are_everywhere():
    torch.manual_seed(0)
    images = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(300, 3, 6, 6)
    corners = cropped(images, 4)[:, 0, 0, 0]
    assert set(corners.tolist()) == {row * 6 + column for row in range(3) for column in range(3)}
    assert torch.equal(cropped(images, 6), images)


@pytest.mark.parametrize("name", ["densenet121-lstm", "vgg16-onehot-lstm"])
def test_systems_without_attention_go_through_every_stage(name, pipeline, copy_pipeline):
    """One that learns from images alone, and one whose encoder never learns."""
    folder = copy_pipeline("data")
    with inside(ROOT):
        overlay = recipe.merged([name, "small"])
    overlay["decoder"] |= {"hidden": 8} | ({"embedding": 8} if overlay["decoder"]["embedding"] else {})
    overlay = {key: overlay[key] for key in ("encoder", "decoder", "train", "finetune", "beam")}
    short = {"train": overlay["train"]["epochs"] and 1, "finetune": overlay["finetune"]["epochs"] and 1}
    for section, epochs in short.items():
        overlay[section] |= {"epochs": epochs, "images_per_update": 8}
    write_params(folder, pretrain={"enabled": False}, **overlay)
    for stage in ("features", "train", "finetune", "evaluate"):
        run_stage(stage, folder)
    frozen, tuned = ((folder / "data" / "models" / m / "model.safetensors").read_bytes() for m in ("train", "finetune"))
    assert (frozen == tuned) == (name == "vgg16-onehot-lstm")
    metrics = json.loads((folder / "metrics" / "evaluate.json").read_text())
    assert math.isfinite(metrics["cider"]) and metrics["pointing"] is None
