"""The look at an encoder before all features are made: what it says, and the mistakes that it stops."""

import pytest
import torch
from torch import Tensor, nn

from showtell.core.errors import UserError
from showtell.encoders.backbone import Backbone
from showtell.encoders.network import Encoder
from showtell.encoders.self_check import check_features

SIZE, SIDE = 32, 4


class Patches(Backbone):
    """A linear look at each of 4 x 4 patches, and then something that goes wrong."""

    def __init__(self, spoil=lambda cells: cells, places: float = 1.0):
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 16, SIZE // SIDE, SIZE // SIDE), None)
        self.pos_embed = nn.Parameter(places * torch.randn(SIDE * SIDE, 16))
        self.spoil = spoil

    def forward(self, images: Tensor) -> Tensor:
        return self.spoil(self.network(images).flatten(2).transpose(1, 2) + self.pos_embed)


def encoder_of(**changes) -> Encoder:
    config = {"name": "patches", "output": "grid", "node": None, "size": SIZE, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    return Encoder(config, Patches(**changes)).eval()


def pictures() -> Tensor:
    return torch.randint(0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def transposed(cells: Tensor) -> Tensor:
    return cells.unflatten(1, (SIDE, SIDE)).transpose(1, 2).flatten(1, 2)


def test_a_sound_encoder_is_told_in_a_line_each(capsys):
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
        ({"places": 0.0}, "position embeddings are zero"),
    ],
)
def test_mistakes_are_a_line(changes, message):
    with pytest.raises(UserError, match=f"^self-check: .*{message}"):
        check_features(encoder_of(**changes), pictures(), "fp32")


def test_one_vector_an_image_has_no_cells_to_move(capsys):
    config = {"name": "resnet18", "output": "pooled", "node": "layer2", "size": SIZE, "mean": (0.5,) * 3}
    check_features(Encoder(config | {"std": (0.2,) * 3}).eval(), pictures(), "fp32")
    assert len(capsys.readouterr().err.splitlines()) == 2
