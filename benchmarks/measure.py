"""Shared by all benchmarks: timing two sides in turn, and printing results.

A benchmark builds both sides, checks that they compute the same, times them, and prints one `Result` per line, as text
or with --json for `benchmarks/run.py`. No time is asserted; sides that differ are an error.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Result:
    """One measured claim. `ratio` is the median of plain time over our time, unless `claim` names another ratio."""

    claim: str
    ratio: float
    target: float
    sizes: str
    threads: int
    detail: str = ""  # absolute medians of both sides, and how the figure is composed
    at_most: bool = False  # whether the target is an upper limit; otherwise a lower one
    unit: str = "x"  # of ratio and target; " s" where the claim is a time
    device: str = "cpu"

    @property
    def reached(self) -> bool:
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    @property
    def aim(self) -> str:
        """The target in words: `at least 6x`."""
        return f"at {'most' if self.at_most else 'least'} {short(self.target)}{self.unit}"

    def json(self) -> str:
        """One JSON line, keys as the fields, with `reached` and `aim`."""
        return json.dumps({**asdict(self), "reached": self.reached, "aim": self.aim}, ensure_ascii=False)

    def __str__(self) -> str:
        where = f"{self.threads} threads" if self.device == "cpu" else self.device
        missed = "" if self.reached else ", missed"
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.claim}: {short(self.ratio)}{self.unit} [{self.aim}{missed}], {self.sizes}, {where}{detail}"


class Timing(NamedTuple):
    """Medians over the rounds: seconds of both sides, and of plain / ours taken round by round."""

    plain: float
    ours: float
    ratio: float
    lowest: float  # ratio of a round
    highest: float

    @classmethod
    def of(cls, plain: Sequence[float], ours: Sequence[float]) -> "Timing":
        """Of the seconds of both sides, round by round."""
        ratios = [a / b for a, b in zip(plain, ours, strict=True)]
        return cls(
            statistics.median(plain), statistics.median(ours), statistics.median(ratios), min(ratios), max(ratios)
        )

    def __str__(self) -> str:
        return f"plain {seconds(self.plain)}, ours {seconds(self.ours)}, rounds {self.lowest:.2f} to {self.highest:.2f}"


def alternate(plain: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> Timing:
    """Time both in turn, A B A B ..., after one untimed call of each, so that load affects both."""
    return against(plain, {"ours": ours}, rounds)["ours"]


def against(plain: Callable[[], Any], ours: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """`alternate` for several variants of ours against one plain side: A B C A B C ..."""
    calls = [plain, *ours.values()]
    for call in calls:
        call()
    first, *others = zip(*([timed(call) for call in calls] for _ in range(rounds)), strict=True)
    return {name: Timing.of(first, times) for name, times in zip(ours, others, strict=True)}


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call; on a GPU until its kernels have ended."""
    synchronise()
    start = time.perf_counter()
    call()
    synchronise()
    return time.perf_counter() - start


def synchronise() -> None:
    """Wait for a GPU where there is one. Benchmarks without torch do not import it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def threads() -> int:
    """Threads of torch; without torch, the processors this process may use."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else len(os.sched_getaffinity(0))


def device_name() -> str:
    """`cpu`, or the GPU's name."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "cpu"


def arguments(description: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser of the arguments of all benchmarks; `description` is the script's docstring."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to try the script, not to measure")
    parser.add_argument("--rounds", type=int, default=rounds, help="times each side is timed")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of sentences")
    return parser


def report(results: Iterable[Result], args: argparse.Namespace) -> None:
    """Print each result at once."""
    for result in results:
        print(result.json() if args.json else result, flush=True)


def require(same: bool, difference: str) -> None:
    """End the script with one line that gives the difference unless both sides agree."""
    if not same:
        sys.exit(f"both sides differ: {difference}")


def need_bf16() -> None:
    """End the script with one line if this machine has no bf16 arithmetic."""
    from showtell.core.precision import can_compute  # importing torch takes seconds

    if not can_compute("bf16"):
        sys.exit("half of this benchmark is of bf16, which this machine lacks (a product, convolution or LSTM failed)")


def seconds(value: float) -> str:
    """As text: `830 ms`, `5.3 s`, `3.2 h`."""
    if value < 1:
        return f"{short(value * 1000)} ms"
    return f"{short(value)} s" if value < 3600 else f"{short(value / 3600)} h"


def short(value: float) -> str:
    """As text: three digits, or whole thousands."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
