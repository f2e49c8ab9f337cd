"""Which arithmetic the networks run in, and on which device. The one place that knows about devices."""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def device() -> torch.device:
    """The accelerator when there is one, else the processor. Not a parameter: it must not make a cached stage stale."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: Precision) -> AbstractContextManager:
    """The autocast context of a precision on the present device.

    `auto` is bf16 where the hardware multiplies bf16 (a processor without such instructions emulates it, many times
    slower than fp32), else fp32.
    """
    kind = device().type
    if precision == "auto":
        precision = "bf16" if _multiplies_bf16(kind) else "fp32"
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(kind, dtype=dtype, enabled=precision != "fp32")


def wide(x: Tensor) -> Tensor:
    """`x` in float32 at least: sums over time and exponentials want more than half precision."""
    return x.to(wide_dtype(x))


def wide_dtype(x: Tensor) -> torch.dtype:
    """The type of `wide(x)`."""
    return torch.promote_types(x.dtype, torch.float32)


def _multiplies_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(supported())
