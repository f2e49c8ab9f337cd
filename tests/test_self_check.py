"""The check of an encoder before features are computed: its output, and the errors that it finds."""

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
        self.pos_embed = nn.Parameter(places * torch.randn(SIDE * SIDE, 16))
        self.spoil = spoil

    def maps(self, images: Tensor) -> list[Tensor]:
        return [self.spoil(self.network(images).flatten(2).transpose(1, 2) + self.pos_embed)]


def encoder_of(**changes) -> Encoder:
    config = {"name": "patches", "output": "grid", "node": None, "size": SIZE, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    return Encoder(config, Patches(**changes)).eval()


def pictures() -> Tensor:
    return torch.randint(0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


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
        ({"places": 0.0}, "position embeddings are zero"),
    ],
)
def test_invalid_encoders_are_one_line(changes, message):
    with pytest.raises(UserError, match=f"^self-check: .*{message}"):
        check_features(encoder_of(**changes), pictures(), "fp32")


def test_pooled_features_have_no_shift_check(capsys):
    config = {"name": "resnet18", "output": "pooled", "node": "layer2", "size": SIZE, "mean": (0.5,) * 3}
    check_features(Encoder(config | {"std": (0.2,) * 3}).eval(), pictures(), "fp32")
    assert len(capsys.readouterr().err.splitlines()) == 2
