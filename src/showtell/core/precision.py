"""The device that the networks run on, and the precision they compute in. No other module tests what a machine can do.

Support is tested by running it: a product, a convolution and an LSTM, forward and backward, in that precision. A table
of processors and their instructions would go out of date; a missing kernel raises an error.
"""

import os
import time
from contextlib import AbstractContextManager
from functools import cache
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from showtell.core.errors import UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device() -> torch.device:
    """The device for the networks: the accelerator (CUDA, MPS, XPU, ...) if there is one, else the processor.

    SHOWTELL_DEVICE (`cpu`, `cuda`, `mps`, `xpu`) overrides it. Not a parameter: it must not make a cached stage stale.
    """
    return _device(os.environ.get("SHOWTELL_DEVICE") or None)


@cache
def _device(asked: str | None) -> torch.device:
    present = torch.accelerator.current_accelerator(check_available=True)
    if asked is None:
        return present or torch.device("cpu")
    there = {"cpu"} | ({present.type} if present else set())
    if asked not in there:
        raise UserError(f"SHOWTELL_DEVICE = {asked!r}: this machine has {' and '.join(sorted(there))}")
    return torch.device(asked)


def accelerated() -> bool:
    """Whether the networks run on an accelerator."""
    return device().type != "cpu"


def _there(precision: str) -> str:
    if precision in ("bf16", "fp16") and not can_compute(precision):
        message = "{where} has no such arithmetic (a product, a convolution or an LSTM failed); use auto or fp32"
        raise PydanticCustomError("precision", message, {"where": f"the device {device().type!r} of this machine"})
    return precision


# Type of a key of params.yaml. A precision that this machine lacks is refused by key, before any work starts.
Precision = Annotated[Literal["auto", "fp32", "bf16", "fp16"], AfterValidator(_there)]


def autocast(precision: str) -> AbstractContextManager:
    """The autocast context of a precision on this device; `auto` is bf16 where that is fast, else fp32."""
    if precision == "auto":
        precision = "bf16" if computes_fast("bf16") else "fp32"
    return torch.autocast(device().type, dtype=DTYPES[precision], enabled=precision != "fp32")


def can_compute(precision: str) -> bool:
    """Whether this device has the kernels of `precision` that training needs."""
    return precision == "fp32" or _can_compute(device(), DTYPES[precision])


def computes_fast(precision: str) -> bool:
    """Whether this device has these kernels and multiplies at least as fast with them as in fp32.

    Some processors emulate bf16, ten or more times slower than fp32; processors that have it take about half the time.
    """
    return can_compute(precision) and _as_fast_as_fp32(device(), DTYPES[precision])


@cache
def _can_compute(where: torch.device, dtype: torch.dtype) -> bool:
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        product, convolution, lstm = nn.Linear(8, 8), nn.Conv2d(4, 4, 3), nn.LSTM(8, 8, batch_first=True)
        try:
            for layer in (product, convolution, lstm):
                layer.to(where)
            with torch.autocast(where.type, dtype=dtype):
                outputs = (
                    product(torch.ones(2, 3, 8, device=where)),
                    convolution(torch.ones(2, 4, 5, 5, device=where)),
                    lstm(torch.ones(2, 3, 8, device=where))[0],  # fp32 inputs, which autocast casts to `dtype`
                )
            sum(output.float().sum() for output in outputs).backward()
        except (RuntimeError, NotImplementedError, TypeError):
            return False
        return True


@cache
def _as_fast_as_fp32(where: torch.device, dtype: torch.dtype) -> bool:
    """Compares the minimum of several runs on one thread: with more threads, waiting for a core would be measured."""
    if where.type != "cpu":
        return True  # an accelerator with the kernels has them in hardware, or raises an error
    taken: dict[torch.dtype, float] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(7):
        for kind in (torch.float32, dtype):
            a, b = torch.ones(32, 512, dtype=kind), torch.ones(512, 512, dtype=kind)
            started = time.perf_counter()
            torch.mm(a, b)
            taken[kind] = min(taken.get(kind, float("inf")), time.perf_counter() - started)
    torch.set_num_threads(threads)
    return taken[dtype] <= 1.5 * taken[torch.float32]


def wide(x: Tensor) -> Tensor:
    """`x` in float32 at least: sums over steps and exponentials need more than half precision."""
    return x.to(wide_dtype(x))


def wide_dtype(x: Tensor) -> torch.dtype:
    """The dtype of `wide(x)`."""
    return torch.promote_types(x.dtype, torch.float32)
