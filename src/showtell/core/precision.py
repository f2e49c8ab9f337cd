"""Which device the networks run on, and in which arithmetic. The one place that knows what a machine can do.

A machine is asked by trying: a product, a convolution and an LSTM, forwards and backwards, in the arithmetic in
question. Lists of processors and their instructions go out of date; a kernel that is missing says so when it is called.
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
    """Where the networks run: the accelerator (CUDA, MPS, XPU, ...) when there is one, else the processor.

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


# In params.yaml: arithmetic that this machine lacks is refused by key, before any work starts.
Precision = Annotated[Literal["auto", "fp32", "bf16", "fp16"], AfterValidator(_there)]


def autocast(precision: str) -> AbstractContextManager:
    """The autocast context of a precision on the present device; `auto` is bf16 where that is fast, else fp32."""
    if precision == "auto":
        precision = "bf16" if computes_fast("bf16") else "fp32"
    return torch.autocast(device().type, dtype=DTYPES[precision], enabled=precision != "fp32")


def can_compute(precision: str) -> bool:
    """Whether the present device has the kernels of `precision` that training needs."""
    return precision == "fp32" or _can_compute(device(), DTYPES[precision])


def computes_fast(precision: str) -> bool:
    """Whether the present device has them, and multiplies at least as fast as in fp32.

    Some processors emulate bf16, ten times slower than fp32 and more; those that have it take about half the time.
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
                    lstm(torch.ones(2, 3, 8, device=where))[0],  # of fp32: what autocast turns into `dtype` itself
                )
            sum(output.float().sum() for output in outputs).backward()
        except (RuntimeError, NotImplementedError, TypeError):
            return False
        return True


@cache
def _as_fast_as_fp32(where: torch.device, dtype: torch.dtype) -> bool:
    """The quickest of several turns on one thread: threads that wait for a busy core would say nothing about either."""
    if where.type != "cpu":
        return True  # an accelerator that has the kernels has them in hardware, or says so itself
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
    """`x` in float32 at least: sums over time and exponentials want more than half precision."""
    return x.to(wide_dtype(x))


def wide_dtype(x: Tensor) -> torch.dtype:
    """The type of `wide(x)`."""
    return torch.promote_types(x.dtype, torch.float32)
