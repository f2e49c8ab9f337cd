"""Arithmetic and devices: tested at run time, refused in one line where they are missing."""

import pytest
import torch
from layouts import settle

from showtell.core import precision
from showtell.core.errors import UserError
from showtell.core.params import load_all


@pytest.fixture(autouse=True)
def asked_anew():
    """Results of the checks on a patched machine must not be cached."""
    for answer in (precision._device, precision._can_compute, precision._as_fast_as_fp32):
        answer.cache_clear()
    yield
    for answer in (precision._device, precision._can_compute, precision._as_fast_as_fp32):
        answer.cache_clear()


@pytest.fixture
def without_bf16_lstm(monkeypatch):
    """A processor like that of most laptops: bf16 products are emulated, and there is no bf16 LSTM."""
    real = torch.nn.LSTM.forward

    def missing(self, *inputs):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")
        return real(self, *inputs)

    monkeypatch.setattr(torch.nn.LSTM, "forward", missing)
    monkeypatch.setenv("SHOWTELL_DEVICE", "cpu")


def test_auto_is_fp32_where_a_kernel_is_missing(without_bf16_lstm):
    with precision.autocast("auto"):
        assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("key", ["encoder.precision", "learning.precision", "finetune.precision", "search.precision"])
def test_missing_arithmetic_is_refused_by_key_in_whatever_stage_reads_first(tmp_path, without_bf16_lstm, key):
    settle(tmp_path, **{key: "bf16"})
    with pytest.raises(UserError, match=rf"{key} = 'bf16': the device 'cpu' of this machine has no such arithmetic"):
        load_all(tmp_path / "params.yaml")


def test_auto_avoids_slowly_emulated_arithmetic(monkeypatch):
    monkeypatch.setenv("SHOWTELL_DEVICE", "cpu")
    monkeypatch.setattr(precision, "_can_compute", precision.cache(lambda where, dtype: True))
    slow = {torch.float32: 1, torch.bfloat16: 10}
    clock = {"now": 0.0}

    def product(a, b):
        clock["now"] += slow[a.dtype]
        return a

    monkeypatch.setattr(torch, "mm", product)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock["now"])
    assert not precision.computes_fast("bf16")
    precision._as_fast_as_fp32.cache_clear()
    slow[torch.bfloat16] = 0.5
    assert precision.computes_fast("bf16")


def test_the_checks_draw_no_random_numbers():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    precision.can_compute("bf16")
    assert torch.equal(torch.rand(3), expected)


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv("SHOWTELL_DEVICE", "tpu")
    with pytest.raises(UserError, match="SHOWTELL_DEVICE = 'tpu': this machine has cpu"):
        precision.device()


def test_the_processor_can_be_selected(monkeypatch):
    monkeypatch.setenv("SHOWTELL_DEVICE", "cpu")
    assert precision.device() == torch.device("cpu") and not precision.accelerated()
