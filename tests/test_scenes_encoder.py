"""The packaged encoder: its training at a small scale, and loading."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from showtell.commands import scenes_encoder
from showtell.core.errors import UserError
from showtell.core.files import sha256
from showtell.data import scene_labels as shown
from showtell.data.datasets.scenes.compose import is_unseen
from showtell.data.datasets.scenes.generate import make
from showtell.data.datasets.scenes.world import COLOURS, KINDS, UNSEEN_COLOURS
from showtell.data.drawn_scenes import DrawnParams, draw_split, open_split
from showtell.encoders import pretrained
from showtell.encoders.network import EncoderParams, build_encoder
from showtell.learning.scene_augmentation import mirrored, moved, recoloured
from showtell.learning.scene_targets import known_colours, targets

ROOT = Path(__file__).parent.parent
DRAWN = DrawnParams(seed=15, train=24, val=8, drawn_size=64, size=64, any_colours=0.5)
SCENES = EncoderParams(
    name="regnet_x_400mf", weights="scenes", output="grid", node="trunk_output.block3", levels=None, crop=None,
    precision="fp32",
)


@pytest.fixture
def drawn(tmp_path):
    for split in ("train", "val"):
        draw_split(split, DRAWN, tmp_path)
    return open_split("train", tmp_path)


def places(side):
    line = (torch.arange(side) + 0.5) / side
    return torch.stack([line.repeat(side), line.repeat_interleave(side)], dim=1)


def thing(kind, colour, box, nearness=0):
    row = torch.full((shown.FIELDS,), -1.0)
    row[[shown.KIND, shown.COLOUR, shown.POSE]] = torch.tensor(
        [float(shown.KIND_NAMES.index(kind)), float(shown.COLOUR_NAMES.index(colour)), 0.0]
    )
    row[[shown.LEFT, shown.TOP, shown.RIGHT, shown.BOTTOM]] = torch.tensor(box)
    row[shown.NEARNESS] = nearness
    return row


def things(*rows):
    empty = torch.full((shown.FIELDS,), -1.0)
    return torch.stack([*rows, *[empty] * (shown.THINGS - len(rows))]).unsqueeze(0)


def test_labels_equal_the_annotations():
    picture = make(15, "train", 3, 64)
    rows = shown.labels(picture)
    for row, one, box in zip(rows, picture.scene.things, picture.boxes, strict=False):
        assert shown.KIND_NAMES[int(row[shown.KIND])] == one.kind
        assert shown.COLOUR_NAMES[int(row[shown.COLOUR])] == one.colour
        assert (row[[shown.LEFT, shown.TOP, shown.RIGHT, shown.BOTTOM]] * 64).round().tolist() == list(box)
    assert (rows[len(picture.scene.things) : shown.THINGS] == -1).all()
    assert shown.SETTING_NAMES[int(rows[shown.THINGS, shown.SETTING])] == picture.scene.backdrop.setting


def test_killed_drawing_resumes_to_the_same_pictures(tmp_path, drawn, monkeypatch):
    from showtell.data import drawn_scenes

    def killed(numbers, params):
        yield drawn_scenes._draw((range(0, 5), params))
        raise KeyboardInterrupt

    folder = tmp_path / "again"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(drawn_scenes, "_drawn", killed)
        draw_split("train", DRAWN, folder)
    draw_split("train", DRAWN, folder)
    again, every = open_split("train", folder), list(range(DRAWN.train))
    for one, other in zip(again.__getitems__(every), drawn.__getitems__(every), strict=True):
        assert torch.equal(one, other)


def test_the_recipe_has_no_held_out_pairs():
    recipe = scenes_encoder.read(ROOT / scenes_encoder.RECIPE)
    drawn = recipe.drawn
    scenes = [make(drawn.seed, "train", number, 64, drawn.any_colours).scene for number in range(60)]
    assert not any(map(is_unseen, scenes))
    assert any(thing.colour not in KINDS[thing.kind].colours for scene in scenes for thing in scene.things)
    assert recipe.drawn.seed != yaml.safe_load((ROOT / "params.yaml").read_text())["scenes"]["seed"]


def test_cells_are_labelled_by_the_nearest_object():
    far, near = thing("sofa", "blue", (0.0, 0.0, 1.0, 0.5)), thing("dog", "brown", (0.0, 0.0, 0.5, 0.5), nearness=1)
    wanted = targets(things(far, near), places(4))
    kinds = wanted.owner[0, :, shown.KIND].view(4, 4)
    sofa, dog = shown.KIND_NAMES.index("sofa"), shown.KIND_NAMES.index("dog")
    assert kinds[:2, 0].tolist() == [dog, dog] and kinds[:2, 3].tolist() == [sofa, sofa]
    covered = wanted.kind[0].view(4, 4, -1)
    assert covered[0, 0, dog] == covered[0, 0, sofa] == 1 and covered[0, 3, dog] == 0 and covered[3].sum() == 0
    assert wanted.middle[0].sum(dim=0)[[sofa, dog]].tolist() == [1, 1]
    assert (wanted.weight[0].view(4, 4)[2:] == 0).all() and wanted.weight.sum() == pytest.approx(2)


def test_cells_are_labelled_with_how_many_things_are_like_theirs():
    left, right = thing("ball", "red", (0.0, 0.0, 0.3, 0.5)), thing("ball", "red", (0.6, 0.0, 0.9, 0.5))
    below, dog = thing("ball", "blue", (0.0, 0.6, 0.3, 1.0)), thing("dog", "red", (0.6, 0.6, 0.9, 1.0))
    wanted = targets(things(left, right, below, dog), places(4))
    corners = [(0, 0), (0, 3), (3, 0), (3, 3)]
    assert [int(wanted.number[0].view(4, 4)[corner]) for corner in corners] == [3, 3, 3, 1]
    assert [int(wanted.alike[0].view(4, 4)[corner]) for corner in corners] == [2, 2, 1, 1]


def test_an_object_smaller_than_a_cell_has_a_cell():
    wanted = targets(things(thing("ball", "red", (0.3, 0.3, 0.32, 0.32))), places(4))
    assert wanted.kind.sum() == wanted.middle.sum() == wanted.weight.sum() == 1


def test_colours_that_a_kind_never_has_are_left_out_of_the_loss(drawn):
    known = known_colours(drawn.labels)
    for kind, colour in UNSEEN_COLOURS:
        assert known[shown.KIND_NAMES.index(kind), shown.COLOUR_NAMES.index(colour)] == -float("inf")
    assert known.exp().nansum(dim=1).max() == pytest.approx(1)
    assert known.shape == (len(KINDS), len(COLOURS))


def test_boxes_move_with_the_picture():
    torch.manual_seed(0)
    images = torch.zeros(32, 3, 16, 16, dtype=torch.uint8)
    images[:, :, 4:8, 2:10] = 200
    rows = things(thing("car", "red", (2 / 16, 4 / 16, 10 / 16, 8 / 16))).expand(32, -1, -1)
    changed, boxes = moved(*mirrored(images, rows), 3)
    assert len({tuple(box.tolist()) for box in boxes[:, 0, shown.LEFT : shown.BOTTOM + 1]}) > 8
    for image, box in zip(changed, boxes[:, 0, shown.LEFT : shown.BOTTOM + 1] * 16, strict=True):
        left, top, right, bottom = box.round().int().tolist()
        bright = (image[0] == 200).nonzero()
        rows_found, columns = (bright[:, 0], bright[:, 1])
        assert (columns.min(), columns.max() + 1) == (max(left, 0), min(right, 16))
        assert (rows_found.min(), rows_found.max() + 1) == (max(top, 0), min(bottom, 16))


def test_false_colours_are_marked_and_true_ones_unchanged():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 4, 4), dtype=torch.uint8)
    changed, true = recoloured(images, 0.5)
    assert torch.equal(changed[true], images[true]) and 10 < true.sum() < 54
    assert all(not torch.equal(a, b) for a, b in zip(changed[~true], images[~true], strict=True))


@pytest.mark.slow
def test_a_short_training_gives_weights_that_load_and_score_above_chance(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = scenes_encoder.read(ROOT / scenes_encoder.RECIPE)
    short = recipe._replace(
        drawn=recipe.drawn.model_copy(update={"train": 192, "val": 48, "drawn_size": 64, "size": 64}),
        learning=recipe.learning.model_copy(
            update={"epochs": 6, "images_per_update": 16, "warmup_updates": 10, "ema": 0.9, "precision": "fp32"}
        ),
    )
    target = tmp_path / "scenes.safetensors"
    scenes_encoder.make(short, "a-short-recipe.yaml", target)

    card = target.with_suffix(".md").read_text()
    assert sha256(target) in card and "a-short-recipe.yaml" in card and "seed 15" in card
    rows = [row.split("|") for row in card.splitlines() if row.startswith("|") and "%" in row]
    scores = {row[1].strip(): float(row[2].strip(" %")) for row in rows}
    assert scores["settings of pictures"] > 2 * 100 / len(shown.SETTING_NAMES)

    monkeypatch.setitem(pretrained.SHIPPED, "scenes", target)
    encoder = build_encoder(SCENES, 64, seed=0)
    other = build_encoder(SCENES, 64, seed=1)  # no random weights
    assert encoder.hash() == other.hash()
    assert not list((tmp_path / "work").glob("*/"))  # no unfinished work remains


def test_the_packaged_weights_equal_their_card():
    path = pretrained.SHIPPED["scenes"]
    card, recipe = path.with_suffix(".md").read_text(), scenes_encoder.read(ROOT / scenes_encoder.RECIPE)
    assert path.stat().st_size <= 4_000_000
    assert sha256(path) in card
    with safe_open(path, "pt") as file:
        made = file.metadata()
    assert made["name"] == recipe.network.name and made["node"] == recipe.network.node
    assert int(made["size"]) == recipe.drawn.size
    assert len(json.loads(made["mean"])) == 3
    for said in (f"{recipe.drawn.train:,} pictures", f"seed {recipe.drawn.seed}", f"{recipe.learning.epochs} epochs"):
        assert said in card


@pytest.mark.parametrize(
    "change", [{"name": "resnet18"}, {"node": "trunk_output.block2"}, {"node": None}], ids=["name", "node", "no node"]
)
def test_weights_of_another_network_or_node_are_refused(change):
    with pytest.raises(UserError, match=r"'scenes' are of regnet_x_400mf up to trunk_output\.block3"):
        build_encoder(SCENES.model_copy(update=change), 64, seed=0)
