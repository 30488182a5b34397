"""Processor time of one search step: architecture weights on one batch, network weights on another.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.search_step --seconds 40
    python -m tests.benchmarks.search_step --device cuda

In turns, on the same rows (256 of 64 tokens, all counted, embeddings learnt): a straightforward port of DARTS with one
module an edge (`darts_port`), first and second order, with a fresh loader iterator each step as in its authors' code, and
first order without a loader; our exact step (the same network, the same gradients: tests/unit/test_supernet.py); our default
step (partial channels, another algorithm: PC-DARTS) and the port of that one, so that what the algorithm saves and what its
writing saves can be told apart. Then floating-point operations and bytes of a step, bytes as if nothing were fused.
"""

import argparse
import re
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from curation.console import table
from tests.benchmarks.darts_search import PortSearch
from trainer.search.cells import Skeleton
from trainer.search.examples import Examples
from trainer.search.loop import Search, SearchConfig
from trainer.search.supernet import Space

N_IDS, N_CLASSES, LENGTH, BATCH = 30_000, 6, 64, 256
FIRST_ORDER_BAR, SECOND_ORDER_BAR, GPU_BAR = 6.0, 13.0, 10.0
N_ITEMS, N_EPOCHS = 60_000, 50
"""The search whose time is projected: half of the items are an epoch."""

DEFAULT, EXACT = "ours, default (partial channels)", "ours, exact"
FIRST, SECOND, HELD = "port, first order", "port, second order", "port, first order, rows in memory"
GPUS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 2.0e12), "P100": (19e12, 0.73e12)}
"""Dense bfloat16 (P100: half precision) operations and bytes a second, by the makers' data sheets."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one step."""

    flop: int
    n_bytes: int  #: read and written by all kernels, none fused
    n_kernels: int


MOVING_NOTHING = re.compile(
    "view|t|slice|select|as_strided|expand|permute|transpose|unsqueeze|squeeze|split|split_with_sizes|detach|unbind|_unsafe_view"
    "|diagonal|alias|unfold|empty|new_empty|empty_like|empty_strided|new_empty_strided"
)
"""Operations that are views or leave memory as it was."""


class Counted(TorchDispatchMode):
    """Bytes and kernels of all operations but views."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = self.n_kernels = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        found = func(*args, **(kwargs or {}))
        if not MOVING_NOTHING.fullmatch(func.__name__.split(".")[0]):
            tensors = [one for one in tree_leaves((args, kwargs, found)) if isinstance(one, torch.Tensor)]
            self.n_bytes += sum(one.numel() * one.element_size() for one in tensors)
            self.n_kernels += 1
        return found


def cost_of(step: Callable[[], object]) -> Cost:
    """Count one step."""
    with FlopCounterMode(display=False) as flop, Counted() as counted:
        step()
    return Cost(flop.get_total_flops(), counted.n_bytes, counted.n_kernels)


def rows_of(n_rows: int) -> Examples:
    """Random tokens, six answers."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, N_IDS, (n_rows, LENGTH))
    return Examples.of(tokens, rng.random((n_rows, N_CLASSES)) < 0.2, n_ids=N_IDS, n_classes=N_CLASSES)


def ours(rows: Examples, partial: int, options: argparse.Namespace, is_recorded: bool = True) -> Search:
    """Our search, its architecture weights not at rest."""
    config = SearchConfig(batch=options.batch, warm_up=0.0, epochs=1000, is_recorded=is_recorded)
    skeleton, space = Skeleton(width=options.width, n_cells=options.cells), Space(partial=partial)
    return Search(rows, (N_IDS, N_CLASSES), config=config, skeleton=skeleton, space=space, device=options.device)


def ways(rows: Examples, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Every way of taking a step."""
    exact, default = ours(rows, 1, options), ours(rows, Space().partial, options)
    return {
        SECOND: PortSearch(exact, is_second_order=True).advance,
        FIRST: PortSearch(exact).advance,
        HELD: PortSearch(exact, has_loader=False).advance,
        "port of partial channels": PortSearch(default).advance,
        EXACT: exact.advance,
        DEFAULT: default.advance,
    }


def spent_s() -> float:
    """Processor seconds of this process and of the loaders' that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def clock_of(device: torch.device) -> Callable[[], float]:
    """Processor time, or on an accelerator wall time once all is done there."""
    if device.type == "cpu":
        return spent_s

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def measured(steps: dict[str, Callable[[], object]], seconds: float, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each step, done in turns until the wall-clock seconds are spent, at least twice after one to warm up."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    ends_s = time.perf_counter() + seconds
    n_rounds = 0
    while n_rounds < 3 or time.perf_counter() < ends_s:
        for name, step in steps.items():
            began_s = clock()
            step()
            found[name].append(clock() - began_s)
        n_rounds += 1
    return {name: values[1:] for name, values in found.items()}


def verdict(ratio: float, bar: float, against: str) -> str:
    return f"our default step against {against}: {ratio:.1f}x less, the bar is {bar:.0f}x: {'met' if ratio >= bar else 'NOT met'}"


def projected(step_s: float, batch: int) -> str:
    """The whole search at this pace."""
    n_steps = N_EPOCHS * (N_ITEMS // 2 // batch)
    return f"{N_ITEMS:,} items, {N_EPOCHS} epochs: {n_steps:,} steps, projected {n_steps * step_s / 60:.1f} minutes"


def limits(cost: Cost) -> str:
    """What counted operations and bytes would take at least on known cards."""
    found = (f"{name} {cost.flop / flops * 1e3:.2f} and {cost.n_bytes / rate * 1e3:.1f}" for name, (flops, rate) in GPUS.items())
    return "ms for a default step's operations, and for its bytes, at the cards' limits: " + ", ".join(found)


def report(found: dict[str, list[float]], costs: dict[str, Cost], options: argparse.Namespace) -> None:
    """Print times, counts and verdicts."""
    is_cpu = torch.device(options.device).type == "cpu"
    least = {name: min(values) for name, values in found.items()}
    lines = []
    for name, values in found.items():
        times = f"{least[name]:.4f}", f"{statistics.median(values):.4f}", len(values), f"{least[FIRST] / least[name]:.2f}x"
        cost = costs[name]
        lines.append((name, *times, f"{cost.flop / 1e9:.1f}", f"{cost.n_bytes / 1e9:.2f}", cost.n_kernels))
    unit = "processor seconds, one thread" if is_cpu else f"wall seconds on {torch.cuda.get_device_name()}"
    print(f"a search step of {options.batch} rows of {LENGTH}, {options.cells} cells of width {options.width}: {unit}")
    print(table(lines, ("", "least", "median", "steps", "against first order", "GFLOP", "GB moved", "kernels")))
    print(verdict(least[FIRST] / least[DEFAULT], FIRST_ORDER_BAR if is_cpu else GPU_BAR, FIRST))
    print(verdict(least[HELD] / least[DEFAULT], FIRST_ORDER_BAR if is_cpu else GPU_BAR, f"{HELD} (no loader)"))
    print(verdict(least[SECOND] / least[DEFAULT], SECOND_ORDER_BAR, SECOND))
    print(projected(statistics.median(found[DEFAULT]), options.batch))
    print(limits(costs[DEFAULT]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="wall clock, all together; each way runs three times or more")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--width", type=int, default=Skeleton().width)
    parser.add_argument("--cells", type=int, default=Skeleton().n_cells)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_of(8 * options.batch)
    found = measured(ways(rows, options), options.seconds, clock_of(torch.device(options.device)))
    on_cpu = argparse.Namespace(**{**vars(options), "device": "cpu"})
    report(found, {name: cost_of(step) for name, step in ways(rows, on_cpu).items()}, options)


if __name__ == "__main__":
    main()
