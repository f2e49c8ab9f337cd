"""Every recipe is valid, is applied by its command, and trains for one update at its full size."""

import json
import math
import shlex
import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from conftest import ROOT, inside, run_stage, write_params

from showtell.commands import cli, recipe
from showtell.commands.photographs import FOR_PHOTOGRAPHS
from showtell.core.errors import UserError
from showtell.core.params import merged, validate_all
from showtell.core.workplace import Workplace
from showtell.core.yaml_files import edited, parsed, read_sections
from showtell.data.batches import Batch, pad
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.network import EncoderParams, build_encoder
from showtell.learning.augmentation import cropped
from showtell.learning.caption_task import CaptionTask, FinetuneParams, TrainParams
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.loop import fit

DATASETS = ("coco", "flickr8k", "flickr30k", "scenes")
SYSTEMS = ("show-attend-tell", "resnet152-lstm", "vgg16-onehot-lstm", "densenet121-lstm", "showtell", "transformer")
TEXT = (ROOT / "params.yaml").read_text()
PARAMS = parsed(TEXT, "params.yaml")


def overlay_of(*names: str) -> dict:
    with inside(ROOT):
        return recipe.merged(names)


def params_of(*names: str) -> dict:
    return recipe.overlaid(PARAMS, overlay_of(*names))


def test_every_recipe_is_a_dataset_a_system_or_small():
    known = {*DATASETS, *SYSTEMS, *FOR_PHOTOGRAPHS, "base", "small", "scenes-from-nothing"}
    assert {path.stem for path in (ROOT / "recipes").glob("*.yaml")} == known


def test_recipes_are_short_and_systems_are_based_on_one():
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert path.stem == "base" or len(path.read_text().splitlines()) <= 25, path
    with inside(ROOT):
        assert all(recipe.read_recipe(name)[0] == recipe.read_recipe("base")[0] for name in SYSTEMS)


@pytest.mark.parametrize(
    "names",
    [
        *product(DATASETS, SYSTEMS),
        *((name, "small") for name in SYSTEMS),
        *((name,) for name in (*DATASETS, *FOR_PHOTOGRAPHS, "scenes-from-nothing")),
    ],
)
def test_any_system_goes_with_any_dataset(names):
    recipe.check(params_of(*names))


@pytest.mark.parametrize("name", FOR_PHOTOGRAPHS)
def test_photographs_are_swept_over_beams_at_the_recipes_own_settings(name):
    params = params_of(name)
    assert params["sweep"]["length_penalties"] == [params["search"]["length_penalty"]]
    assert 5 in params["sweep"]["beams"] and params["beam"] not in params["sweep"]["beams"]  # that one is added


def test_weights_that_learnt_with_quickgelu_are_in_networks_that_compute_with_it():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    names = {params_of(name)["encoder"]["name"] for name in (*SYSTEMS, *FOR_PHOTOGRAPHS)}
    named = {name.removeprefix("timm/") for name in names if name.startswith("timm/")}
    assert any("clip" in name for name in named)
    for name in named:
        notes = timm.get_pretrained_cfg(name).notes or ()
        assert "quickgelu" in name or not any("QuickGELU" in note for note in notes), name


def test_the_base_sets_every_key_that_a_recipe_sets():
    base = dict(recipe.flat(overlay_of("base")))
    for name in (*SYSTEMS, *FOR_PHOTOGRAPHS, "small"):
        assert dict(recipe.flat(overlay_of(name))).keys() <= base.keys(), name
    recipe.check(params_of("base"))


@pytest.mark.parametrize(
    "first",
    [
        {},
        {"train": {"precision": "fp32"}, "finetune": {"schedule": "step", "decay": 0.5, "step_epochs": 2}},
        {"reinforce": {"seed": 3}},
    ],
)
@pytest.mark.parametrize(("one", "other"), [*product([(s,) for s in SYSTEMS], repeat=2),
                                            (("densenet121-lstm", "small"), ("showtell", "small")),
                                            (("show-attend-tell", "small"), ("showtell",)),
                                            *(((name,), ("scenes-from-nothing",)) for name in FOR_PHOTOGRAPHS),
                                            ])  # fmt: skip
def test_a_recipe_keeps_no_value_of_another(one, other, first):
    """Written over another system's recipe, which may override keys for one stage."""
    before = recipe.laid_over(recipe.overlaid(PARAMS, overlay_of("scenes", *one)), first)
    assert recipe.overlaid(before, overlay_of("scenes", *other)) == params_of("scenes", *other)


@pytest.mark.parametrize("name", DATASETS)
def test_the_embedded_dataset_keeps_no_value_of_another(name):
    assert recipe.overlaid(params_of(name), overlay_of("scenes")) == PARAMS


def test_a_key_of_a_stage_overrides_the_shared_one_there_only():
    changed = recipe.laid_over(PARAMS, {"learning": {"clip_at": 1.0}, "finetune": {"clip_at": 2.0}})
    typed = validate_all(changed, Path("params.yaml"))
    assert (typed["train"].clip_at, typed["finetune"].clip_at) == (1.0, 2.0)


def test_reinforce_takes_some_shared_keys_and_no_others():
    assert validate_all(PARAMS, Path("params.yaml"))["reinforce"].clip_at == 5.0
    changed = recipe.laid_over(PARAMS, {"learning": {"accumulate": 2, "seed": 7, "clip_at": 1.0, "stop_after": 9}})
    taken = validate_all(changed, Path("params.yaml"))["reinforce"]
    assert (taken.accumulate, taken.seed, taken.clip_at, taken.stop_after) == (2, 7, 5.0, 3)
    own = validate_all(recipe.laid_over(changed, {"reinforce": {"seed": 8}}), Path("params.yaml"))
    assert (own["reinforce"].seed, own["finetune"].seed) == (8, 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning": {"decay": 0.8}}, r"learning\.decay = 0\.8: it does nothing with schedule cosine; take it out"),
        ({"finetune": {"schedule": "step"}}, r"learning\.decay = null: schedule step needs it"),
        ({"train": {"cosine_end": None}}, r"train\.cosine_end = null: schedule cosine needs it"),
        ({"learning": {"clip": "none"}}, r"learning\.clip_at = 5\.0: it does nothing with clip none"),
        ({"learning": {"sampling": 0.2}}, r"learning\.sampling_start = null: scheduled sampling"),
        ({"learning": {"sampling_rise": 3}}, r"learning\.sampling_rise = 3: it does nothing with sampling 0"),
        ({"learning": {"flip": True}}, r"unknown key learning\.flip, which train does not have"),
        ({"finetune": {"epoch": 1}}, r"unknown key finetune\.epoch$"),
        ({"reinforce": {"alpha_c": 1.0}}, r"unknown key reinforce\.alpha_c$"),
        ({"learning": {"accumulate": 0}}, r"learning\.accumulate = 0: "),
        ({"reinforce": {"accumulate": 0}}, r"reinforce\.accumulate = 0: "),
    ],
)
def test_keys_must_be_null_where_a_choice_does_not_read_them(change, said):
    with pytest.raises(UserError, match=said):
        recipe.check(recipe.laid_over(PARAMS, change))


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
        learning = TrainParams.model_validate(merged("train", params) | {"epochs": 1})
        with torch.inference_mode():
            features = encoder(pictures)
        # Deep networks with random weights have huge outputs, which saturate all gates.
        network, batch = CaptionTask(decoder, learning), small_batch(features / features.std())
    else:
        learning = FinetuneParams.model_validate(merged("finetune", params) | {"epochs": 1})
        encoder.train_from(learning.trainable_from)
        network, batch = CaptionTask(decoder, learning, encoder), small_batch(pictures)
    before = {key: tensor.clone() for key, tensor in network.weights().items()}
    history = fit(
        network, lambda epoch: [batch], lambda: {"score": 1.0}, learning, "score", Checkpoints(Workplace(tmp_path))
    )
    assert math.isfinite(history[0]["loss"])
    moved = {key for key, tensor in network.weights().items() if not torch.equal(tensor, before[key])}
    never = {"decoder.energy.bias"}  # no effect on the softmax
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


def applied(text: str, words: list[str]) -> dict:
    """params.yaml as DVC writes it with these flags."""
    from dvc.utils.hydra import apply_overrides

    assert words[::2] == ["-S"] * (len(words) // 2)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(text)
        apply_overrides(path, words[1::2])
        return read_sections(path)


@pytest.mark.parametrize("name", SYSTEMS)
def test_flags_equal_writing(capsys, name):
    words = shlex.split(run_recipe(capsys, "coco", name))
    assert "dataset=coco" in words
    assert applied(TEXT, words) == params_of("coco", name) == written("coco", name)


def test_flags_remove_overrides_of_a_stage():
    own = edited(TEXT, {"train.precision": "bf16", "finetune.optimizer": "adam", "reinforce.seed": 3})
    overlay = overlay_of("showtell")
    words = recipe.flags(parsed(own, "params.yaml"), overlay)
    assert applied(own, words) == params_of("showtell") == parsed(recipe.written(own, overlay), "params.yaml")


def test_flags_of_lists(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("encoder:\n  levels: [features.6, features.13]\n")
    words = recipe.flags(PARAMS, overlay_of(str(own)))
    assert words == ["-S", "encoder.levels=[features.6,features.13]"]
    assert applied(TEXT, words) == written(str(own))


def written(*names: str) -> dict:
    return parsed(recipe.written(TEXT, overlay_of(*names)), "params.yaml")


def test_no_names_lists_the_recipes(capsys):
    listed = run_recipe(capsys)
    assert all(name in listed for name in (*DATASETS, *SYSTEMS))


@pytest.mark.parametrize("name", SYSTEMS)
def test_writing_changes_values_and_keeps_every_comment(name, tmp_path):
    (tmp_path / "params.yaml").write_text(TEXT)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    with inside(tmp_path):
        assert cli.dispatch(["recipe", "flickr8k", name, "--write"]) == 0
    text = (tmp_path / "params.yaml").read_text()
    assert parsed(text, "params.yaml") == params_of("flickr8k", name)
    before, after = TEXT.split("\n"), text.split("\n")
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert old.partition("#")[1:] == new.partition("#")[1:]
        assert old.split(":")[0] == new.split(":")[0]
    # Writing again changes nothing.
    with inside(tmp_path):
        assert cli.dispatch(["recipe", "flickr8k", name, "--write"]) == 0
    assert (tmp_path / "params.yaml").read_text() == text


def test_outside_a_repository_is_an_error(tmp_path):
    with inside(tmp_path):
        for names in ([], ["coco"]):
            with pytest.raises(UserError, match=r"no recipes in .*recipes; run from the repository's root"):
                cli.dispatch(["recipe", *names])
        (tmp_path / "own.yaml").write_text("beam: 3\n")
        with pytest.raises(UserError, match=r"params\.yaml does not exist; run from the repository's root"):
            cli.dispatch(["recipe", "own.yaml", "--write"])


def test_wrong_arguments_are_one_line(tmp_path):
    with pytest.raises(UserError, match="there is no recipe 'show-tell'; there are base, coco, densenet121-lstm, "):
        overlay_of("show-tell")
    own = tmp_path / "own.yaml"
    own.write_text("train:\n  epoch: 3\n")
    with pytest.raises(UserError, match=r"params\.yaml: unknown key train\.epoch"):
        recipe.check(params_of(str(own)))
    own.write_text("train:\n  epochs: -1\n")
    with pytest.raises(UserError, match=r"params\.yaml: train\.epochs = -1"):
        recipe.check(params_of(str(own)))
    own.write_text("custom:\n  images: my photos\n")
    with pytest.raises(UserError, match=r"custom\.images = my photos cannot be a flag; use `showtell recipe --write`"):
        recipe.flags(PARAMS, overlay_of(str(own)))
    own.write_text("encoder:\n  levels: [features.2, a b]\n")
    with pytest.raises(UserError, match=r"encoder\.levels = \[features\.2,a b\] cannot be a flag"):
        recipe.flags(PARAMS, overlay_of(str(own)))
    own.write_text(f"based_on: {own}\n")
    with pytest.raises(UserError, match="based on itself"):
        overlay_of(str(own))


def test_a_mistyped_recipe_gives_dvc_a_flag_that_it_refuses(capsys):
    """Else `dvc exp run $(showtell recipe ...)` would run what is in params.yaml."""
    with inside(ROOT), pytest.raises(UserError, match="there is no recipe"):
        cli.dispatch(["recipe", "coco", "show-tell"])
    assert capsys.readouterr().out == "--no-such-recipe\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"train: \xff", "cannot be read"), (b"train: [", "is not valid YAML"), (b"- train", "must hold sections")],
)
def test_invalid_recipe_files_are_one_line(tmp_path, content, said):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"mine\.yaml {said}"):
        recipe.read_recipe(str(path))


def test_recipes_with_odd_keys_or_in_a_circle_are_one_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("1: 3\n")
    with pytest.raises(UserError, match=r"mine\.yaml: 1 is not the name of a section or parameter"):
        recipe.read_recipe(str(path))
    path.write_text(f"based_on: ../{tmp_path.name}/mine.yaml\n")
    with pytest.raises(UserError, match=r"mine\.yaml: it is based on itself"):
        recipe.read_recipe(str(path))


def test_the_command_needs_no_torch():
    code = "import sys; from showtell.commands import recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_random_crops_have_all_offsets():
    torch.manual_seed(0)
    images = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(300, 3, 6, 6)
    corners = cropped(images, 4)[:, 0, 0, 0]
    assert set(corners.tolist()) == {row * 6 + column for row in range(3) for column in range(3)}
    assert torch.equal(cropped(images, 6), images)


@pytest.mark.parametrize("name", ["densenet121-lstm", "vgg16-onehot-lstm"])
def test_systems_without_attention_go_through_every_stage(name, pipeline, copy_pipeline):
    """One without `train`, and one whose encoder is never trained."""
    folder = copy_pipeline("data")
    with inside(ROOT):
        overlay = recipe.merged([name, "small"])
    overlay["decoder"] |= {"hidden": 8} | ({"embedding": 8} if overlay["decoder"]["embedding"] else {})
    overlay = {key: overlay[key] for key in ("encoder", "decoder", "learning", "train", "finetune", "beam")}
    short = {"train": overlay["train"]["epochs"] and 1, "finetune": overlay["finetune"]["epochs"] and 1}
    for section, epochs in short.items():
        overlay[section] |= {"epochs": epochs, "images_per_update": 8}
    write_params(folder, pretrain={"enabled": False}, **overlay)
    for stage in ("encoder", "features", "train", "finetune", "reinforce", "evaluate"):
        run_stage(stage, folder)
    frozen, tuned = ((folder / "data" / "models" / m / "model.safetensors").read_bytes() for m in ("train", "finetune"))
    assert (frozen == tuned) == (name == "vgg16-onehot-lstm")
    metrics = json.loads((folder / "metrics" / "evaluate.json").read_text())
    assert math.isfinite(metrics["cider"]) and metrics["pointing"] is None
