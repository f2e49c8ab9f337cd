"""Learning rate schedules, gradient clipping, weight decay."""

import pytest
import torch
from tiny_networks import caption_network
from training_runs import Line, epoch_batches, loop_params, run

from showtell.data.batches import Batch
from showtell.learning.optimisation import LoopParams, TrainingProgress, build_optimizer, rate_scale


def rates(params: LoopParams, standings: list[TrainingProgress]) -> list[float]:
    return [rate_scale(standing, params, 20) for standing in standings]


def test_plateau_lowers_the_rate_after_patience_and_again(tmp_path):
    learner, seen = Line(), []
    params = loop_params(epochs=8, patience=2, decay=0.5, stop_after=20, warmup_updates=0)

    def recorded(epoch: int) -> list[Batch]:
        return epoch_batches(epoch)

    scores = [0.5, 0.4, 0.4, 0.4, 0.4, 0.6, 0.5, 0.5]
    original = torch.optim.Adam.step

    def step(self, *args, **kwargs):
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        run(tmp_path, learner, params, scores=scores, batches=recorded)
    assert seen[::3] == pytest.approx([0.05, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125, 0.0125])


def test_schedules():
    step = loop_params(schedule="step", step_epochs=2, decay=0.1, warmup_updates=0)
    assert rates(step, [TrainingProgress(epoch=e) for e in range(5)]) == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    cosine = loop_params(schedule="cosine", warmup_updates=0)
    assert rates(cosine, [TrainingProgress(update=u) for u in (0, 10, 20)]) == pytest.approx([1, 0.5, 0])
    part = loop_params(schedule="cosine", warmup_updates=0, cosine_end=0.2)
    assert rates(part, [TrainingProgress(update=u) for u in (0, 10, 20)]) == pytest.approx([1, 0.6, 0.2])
    warm = loop_params(schedule="cosine", warmup_updates=10)
    assert rates(warm, [TrainingProgress(update=u) for u in (0, 4, 9, 15)]) == pytest.approx([0.1, 0.5, 1, 0.5])


@pytest.mark.parametrize("clip", ["value", "norm"])
def test_gradients_are_clipped(tmp_path, clip):
    learner = Line()
    run(tmp_path, learner, loop_params(epochs=1, clip=clip, clip_at=1e-3))
    gradients = torch.cat([p.grad.flatten() for p in learner.linear.parameters()])
    size = gradients.abs().max() if clip == "value" else gradients.norm()
    assert size == pytest.approx(1e-3, rel=1e-3)
    assert all(p.grad is None for p in learner.fixed.parameters())


def test_parameters_without_decay_are_not_decayed(monkeypatch):
    task = caption_network(weight_decay=0.5, optimizer="adamw")
    monkeypatch.setattr(task.decoder, "without_decay", lambda: [task.decoder.output.bias, task.decoder.energy.bias])
    optimizer = build_optimizer(task, task.params)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    before = {name: parameter.detach().clone().fill_(1.0) for name, parameter in task.named_parameters()}
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kept = {name for name, parameter in task.named_parameters() if torch.equal(parameter, before[name])}
    assert kept == {"decoder.output.bias", "decoder.energy.bias"}  # the second has no gradient
