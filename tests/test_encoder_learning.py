"""Learning rates of the encoder by depth."""

from itertools import pairwise

import pytest
from conftest import tiny_params
from tiny_networks import caption_network, tiny_encoder

from showtell.learning.encoder_learning import encoder_groups
from showtell.learning.optimisation import build_optimizer, remedy
from showtell.learning.pretraining import PretrainParams


def params_of(**changes) -> PretrainParams:
    return PretrainParams.model_validate(tiny_params()["pretrain"] | {"learning_rate": 0.01} | changes)


def rates(encoder, groups) -> dict[str, float]:
    of = {id(parameter): group.rate for group in groups for parameter in group.parameters}
    return {name: of[id(p)] for name, p in encoder.backbone.network.named_parameters() if id(p) in of}


def test_the_rate_rises_by_one_factor_from_the_first_layer_to_the_last():
    encoder = tiny_encoder()
    encoder.train_from(None)
    found = rates(encoder, encoder_groups(encoder, params_of(first_layer_rate=0.1), 0.01))
    in_order = [found[f"{name}.weight"] for name in encoder.backbone.blocks() if f"{name}.weight" in found]
    assert in_order[0] == pytest.approx(0.001) and in_order[-1] == pytest.approx(0.01)
    factors = [after / before for before, after in pairwise(in_order)]
    assert factors == pytest.approx([10 ** (1 / len(factors))] * len(factors))


def test_a_layer_has_the_same_rate_wherever_learning_begins():
    encoder, params = tiny_encoder(), params_of(first_layer_rate=0.1, encoder_learning_rate=0.004)
    encoder.train_from(None)
    whole = rates(encoder, encoder_groups(encoder, params, 0.01))
    encoder.train_from("layer2")
    part = rates(encoder, encoder_groups(encoder, params, 0.01))
    assert part and all(name.startswith("layer2.") for name in part)
    assert part == {name: whole[name] for name in part}
    assert max(whole.values()) == pytest.approx(0.004)  # the encoder's own rate


def test_with_a_share_of_one_all_layers_have_the_same_rate():
    encoder = tiny_encoder()
    encoder.train_from("layer2")
    (group,) = encoder_groups(encoder, params_of(first_layer_rate=1.0, encoder_learning_rate=None), 0.01)
    assert group.rate == 0.01 and len(group.parameters) == sum(p.requires_grad for p in encoder.parameters())


def test_fine_tuning_learns_with_rates_by_depth():
    """The optimiser has every parameter that learns once, each at its layer's rate."""
    encoder = tiny_encoder()
    encoder.train_from(None)
    task = caption_network(encoder, first_layer_rate=0.5, encoder_learning_rate=0.002, learning_rate=0.01)
    optimizer = build_optimizer(task, task.params)
    highest = {id(p): group["highest"] for group in optimizer.param_groups for p in group["params"]}
    assert highest.keys() == {id(p) for p in task.parameters() if p.requires_grad}
    assert {highest[id(p)] for p in task.decoder.parameters() if p.requires_grad} == {0.01}
    of_encoder = {highest[id(p)] for p in encoder.parameters()}
    assert (min(of_encoder), max(of_encoder)) == pytest.approx((0.001, 0.002))
    assert remedy(optimizer, task.params).startswith("lower the learning rate (0.001 to 0.01), ")
