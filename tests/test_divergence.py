"""Training that diverges stops with one line that names the place; damaged checkpoints count as absent."""

import shutil

import pytest
import torch
from tiny_networks import batch_of
from training_runs import Line, loop_params, run

from showtell.core.errors import UserError
from showtell.core.workplace import Workplace
from showtell.data.batches import Batch
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.divergence import Watch
from showtell.learning.training_task import Counts


class Bad(Line):
    """In call `at` of `loss`, `what` is not finite."""

    def __init__(self, what: str, at: int):
        super().__init__()
        self.what, self.left = what, at

    def loss(self, batch: Batch, whole: Counts | None = None):
        self.left -= 1
        loss = super().loss(batch, whole)
        if self.left == 0 and self.what == "loss":
            return loss * float("nan")
        if self.left == 0 and self.what == "gradient norm":
            loss = loss + torch.sqrt(self.linear.bias - self.linear.bias.detach()).sum()  # 0, of infinite slope
        return loss


@pytest.mark.parametrize(
    ("clip", "precision", "remedy"),
    [
        ("none", "fp32", r"raise warmup_updates \(0\), set clip: norm \(none\)"),
        ("norm", "fp32", r"lower clip_at \(5\)"),
        ("none", "bf16", r"set clip: norm \(none\), or set precision: fp32 \(bf16\)"),
    ],
)
@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_the_update_and_the_settings_to_lower_are_named(what, clip, precision, remedy, tmp_path):
    params = loop_params(clip=clip).model_copy(update={"precision": precision})
    where = f"train: the {what} in epoch 2, update 2 of 3, is not finite"
    with pytest.raises(UserError, match=rf"{where}.*lower the learning rate \(0\.05\), .*{remedy}$") as told:
        run(tmp_path / "train-1", Bad(what, at=5), params)
    assert "\n" not in str(told.value)


def test_the_first_update_that_is_not_finite_is_named(tmp_path):
    """Losses of later updates are not finite either, since the weights are not."""
    with pytest.raises(UserError, match="the gradient norm in epoch 1, update 1 of 3,"):
        run(tmp_path, Bad("gradient norm", at=1), loop_params())


def test_features_that_are_not_finite_are_named(tmp_path):
    def batches(epoch: int) -> list[Batch]:
        batch = batch_of(0)
        images = batch.images.clone()
        images[1] = float("inf")
        return [batch, batch._replace(images=images)]

    with pytest.raises(UserError, match=r"feature of an image in epoch 1, update 2 of 2, is not.*repro -f features"):
        run(tmp_path, Line(), loop_params(), batches=batches)


def test_a_statistic_or_a_metric_that_is_not_finite_is_named(tmp_path):
    class Spoilt(Line):
        def weights(self):
            return {**super().weights(), "statistic": torch.tensor(float("inf"))}

    with pytest.raises(UserError, match="statistic after epoch 1 is not finite"):
        run(tmp_path, Spoilt(), loop_params())
    with pytest.raises(UserError, match="score of epoch 1 is not finite"):
        run(tmp_path, Line(), loop_params(), scores=[float("nan")])


def test_the_gradient_scaler_handles_fp16_overflow(tmp_path):
    params = loop_params(epochs=1).model_copy(update={"precision": "fp16"})
    history = run(tmp_path, Bad("gradient norm", at=2), params)
    assert len(history) == 1


def test_gradients_that_overflow_at_any_scale_are_named(tmp_path):
    class Worse(Bad):
        def loss(self, batch: Batch, whole: Counts | None = None):
            self.left = 1
            return super().loss(batch, whole)

    params = loop_params(epochs=30).model_copy(update={"precision": "fp16"})
    with pytest.raises(UserError, match="the gradient norm in epoch 6, update 2 of 3, is not finite"):
        run(tmp_path, Worse("gradient norm", at=1), params)


def damage(path, how: str) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    new = {
        "empty": b"",
        "cut": content[:middle],
        "zeros": content[:middle] + bytes(len(content) - middle),
        "one byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "other": b"not a checkpoint" * 10,
    }
    path.write_bytes(new[how])


@pytest.mark.parametrize("name", ["latest.pt", "best-*.pt"])
@pytest.mark.parametrize("how", ["empty", "cut", "zeros", "one byte", "other", "another run's"])
def test_a_damaged_checkpoint_counts_as_absent(name, how, tmp_path, capsys):
    whole = Line()
    history = run(tmp_path / "whole", whole, loop_params())
    run(tmp_path / "cut", Line(), loop_params(epochs=3))
    (path,) = (tmp_path / "cut").glob(name)
    if how == "another run's":
        shutil.copy(next((tmp_path / "whole").glob(name)), path)
    else:
        damage(path, how)
    capsys.readouterr()
    again = Line()
    assert run(tmp_path / "cut", again, loop_params()) == history
    assert torch.equal(again.linear.weight, whole.linear.weight)
    assert capsys.readouterr().err.startswith(f"{path} is damaged, missing or of another run: training starts")


def test_the_check_never_waits_for_an_accelerator():
    """On the meta device, which stores shapes only, reading a value is an error."""
    watch, number = Watch("train", "", torch.device("meta")), torch.ones((), device="meta")
    watch.note(1, [torch.ones(2, 3, device="meta")], number, number)


def test_missing_best_weights_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"best\.pt was damaged or removed"):
        Checkpoints(Workplace(tmp_path)).best()

