"""The check of an encoder before features are computed: its output, and the errors that it finds."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.encoders.backbone import Backbone
from showtell.encoders.network import Encoder
from showtell.encoders.self_check import check_features

SIZE, SIDE = 32, 4


class Patches(Backbone):
    """A linear layer on each of 4 x 4 patches, followed by an error."""

    def __init__(self, spoil=lambda cells: cells, places: float = 1.0):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 16, SIZE // SIDE, SIZE // SIDE), None)
        self.network.patch_embed = SimpleNamespace(patch_size=(SIZE // SIDE,) * 2)
        self.pos_embed = nn.Parameter(places * torch.randn(SIDE * SIDE, 16))
        self.spoil = spoil

    def maps(self, images: Tensor) -> list[Tensor]:
        return [self.spoil(self.network(images).flatten(2).transpose(1, 2) + self.pos_embed)]


def encoder_of(left_over: int = 0, **changes) -> Encoder:
    """For pictures with `left_over` pixels after the last patch."""
    config = {"name": "patches", "output": "grid", "node": None, "size": SIZE + left_over, "mean": (0.5,) * 3}
    return Encoder(config | {"std": (0.2,) * 3}, Patches(**changes)).eval()


def pictures(left_over: int = 0) -> Tensor:
    shape = (8, 3, SIZE + left_over, SIZE + left_over)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def transposed(cells: Tensor) -> Tensor:
    return cells.unflatten(1, (SIDE, SIDE)).transpose(1, 2).flatten(1, 2)


def test_a_valid_encoder_has_a_line_for_each_property(capsys):
    check_features(encoder_of(), pictures(), "fp32")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("self-check: ") for line in lines)
    assert "cells move with a shifted picture (correlation 1.00 sideways" in lines[2]
    assert "as used (precision fp32) they have cosine 1.00000 with single precision" in lines[3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spoil": lambda cells: cells * float("nan")}, "values that are not finite"),
        ({"spoil": lambda cells: cells.mean(1, keepdim=True).expand_as(cells)}, "all cells of a picture have the same"),
        ({"spoil": transposed}, "the map of patches is read in a wrong order"),
        ({"spoil": lambda cells: cells[:, 1:]}, "15 cells, which are no square"),
        ({"places": 0.0}, "the position embeddings of patches are zero"),
        ({"places": 1e-9}, "patches sees no places"),
        ({"places": 1e-9, "left_over": 5}, "patches sees no places"),
        ({"spoil": lambda cells: cells * 1e-9}, "0 in float16"),
        ({"spoil": lambda cells: cells * 1e9}, "too large for float16"),
    ],
)
def test_invalid_encoders_are_one_line(changes, message):
    with pytest.raises(UserError, match=f"^self-check: .*{message}"):
        check_features(encoder_of(**changes), pictures(changes.get("left_over", 0)), "fp32")


def test_pixels_beyond_the_last_patch_are_no_error(capsys):
    check_features(encoder_of(left_over=5), pictures(5), "fp32")
    assert "correlation 1.00 sideways" in capsys.readouterr().err


def test_a_map_of_two_by_two_is_not_judged_by_its_borders(capsys):
    config = {"name": "resnet18", "output": "grid", "node": "layer4", "size": 2 * SIZE, "mean": (0.5,) * 3}
    images = torch.nn.functional.interpolate(pictures(), scale_factor=2)
    check_features(Encoder(config | {"std": (0.2,) * 3}).eval(), images, "fp32")
    assert "a map of 2 x 2 cells is too small to see" in capsys.readouterr().err


def test_pooled_features_have_no_shift_check(capsys):
    config = {"name": "resnet18", "output": "pooled", "node": "layer2", "size": SIZE, "mean": (0.5,) * 3}
    check_features(Encoder(config | {"std": (0.2,) * 3}).eval(), pictures(), "fp32")
    assert len(capsys.readouterr().err.splitlines()) == 2
