"""Training steps of the detector and steps of the search, on a GPU beside the processor, in one run.

    python -m tests.benchmarks.gpu --device cuda
    OMP_NUM_THREADS=1 python -m tests.benchmarks.gpu --device cpu --rows 2048 --batch 64 --classes 100 --seconds 20

The detector: forward, backward and AdamW on random listings, the bag alone and with searched cells beside it; with and
without bfloat16, compiled (`--compile`: minutes before the first step) and in halves, as after memory was short. The search:
our default step with recorded CUDA graphs and without, with and without bfloat16, and what a search of 60,000 items and 50
epochs takes at that pace. Operations and bytes are counted on the processor, as if nothing were fused, and divided by what
cards can do. Times on the processor are processor seconds, those on a GPU wall clock.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from curation.catalog.features import FeatureConfig, Features
from curation.catalog.tokens import Tokens
from curation.console import table
from curation.types import LabelSource
from tests.benchmarks import search_step
from tests.benchmarks.search_step import GPUS, Cost, clock_of, cost_of
from trainer import data, loop, recipes
from trainer.config import TrainConfig
from trainer.processes import ALONE
from trainer.search.cells import random_genotype
from trainer.search.supernet import Space
from trainer.sequence import tokens_of
from trainer.step import Steps

N_IDS, N_GRAMS, N_PHOTOS = 16_000, (9, 30, 40, 90, 40, 6), 512
"""Tokens known; n-grams of a listing in each block, about as on real ads; distinct photos."""

Step = Callable[[], object]


def features_of(n_rows: int, shape: FeatureConfig, rng: np.random.Generator) -> Features:
    """Random listings with two photos each."""
    ids, at = np.zeros((n_rows, shape.width), np.int32), 0
    for (_, length), n in zip(shape.blocks, N_GRAMS, strict=True):
        ids[:, at : at + n] = rng.integers(1, shape.n_buckets, (n_rows, n))
        at += length
    photos = rng.integers(0, 256, (1 + N_PHOTOS, shape.photo_px, shape.photo_px, 3), dtype=np.uint8)
    index = np.zeros((n_rows, shape.n_views), np.int32)
    index[:, :2] = rng.integers(1, 1 + N_PHOTOS, (n_rows, 2))
    refs = tuple(f"r{row}" for row in range(n_rows))
    numeric = rng.normal(size=(n_rows, 5)).astype(np.float32)
    return Features(refs, ids, (ids > 0).astype(np.uint8), numeric, photos, index, tokens_in(refs, rng))


def tokens_in(refs: tuple[str, ...], rng: np.random.Generator) -> Tokens:
    """Random sequences, full."""
    blocks = tuple((name, length) for name, length in tokens_of(TrainConfig()).blocks)
    index = rng.integers(1, N_IDS, (len(refs), sum(length for _, length in blocks)), dtype=np.int32)
    return Tokens(refs, index, None, blocks, N_IDS)


def world(options: argparse.Namespace, config: TrainConfig, device: str) -> data.Table:
    """A table on the device."""
    rng, shape = np.random.default_rng(1), FeatureConfig()
    features = features_of(options.rows, shape, rng)
    paths = [(f"root {at % 20} / leaf {at}", LabelSource.SELLER) for at in rng.integers(0, options.classes, options.rows)]
    wanted = data.targets(paths, [None] * options.rows, ("counterfeit",), config)
    return data.Table(features, shape, wanted, loop.stem_of(features, np.arange(options.rows), config), torch.device(device))


def steps_of(made: data.Table, config: TrainConfig, n_parts: int = 1) -> Step:
    """Steps of a fit on batches that go round the table."""
    train: NDArray[np.int64] = np.arange(len(made))
    detector = loop.start(made, train, config).train()
    objective = recipes.objective(made, train, train[:0], config)
    steps = Steps(detector, made, objective, loop._optimizer(detector, config), config, ALONE)
    steps.n_parts = n_parts
    n_batches, done = len(made) // config.batch, iter(range(10**9))

    def step() -> float:
        at = next(done) % n_batches
        return steps(train[at * config.batch : (at + 1) * config.batch])

    return step


def detector_ways(options: argparse.Namespace, architecture: str, device: str) -> dict[str, Step]:
    """Every way of taking a step of the detector on this device."""
    config = TrainConfig(batch=options.batch, architecture=architecture, read_channel=False)
    made = world(options, config, device)
    is_cpu = torch.device(device).type == "cpu"
    ways = {f"{device}, float32": steps_of(made, replace(config, bf16=False))}
    ways |= {} if is_cpu else {f"{device}, bfloat16": steps_of(made, config)}
    ways |= {f"{device}, compiled": steps_of(made, replace(config, compile=True))} if options.compile else {}
    return ways | {f"{device}, in halves": steps_of(made, config, 2)}


def search_ways(options: argparse.Namespace, device: str) -> dict[str, Step]:
    """Every way of taking a step of the search on this device."""
    rows = search_step.rows_of(4 * options.batch)
    told = argparse.Namespace(device=device, batch=options.batch, width=options.width, cells=options.cells)
    plain = search_step.ours(rows, Space().partial, told, is_recorded=False)
    if torch.device(device).type == "cpu":
        return {f"{device}, float32": plain.advance}
    recorded, single = (search_step.ours(rows, Space().partial, told, is_recorded=wanted) for wanted in (True, False))
    return {
        f"{device}, float32": in_float32(single.advance),
        f"{device}, bfloat16": plain.advance,
        f"{device}, bfloat16, recorded": recorded.advance,
    }


def in_float32(step: Step) -> Step:
    """The same step of the search without bfloat16."""

    def plain() -> object:
        with mock.patch("trainer.search.loop.autocast", return_value=nullcontext()):
            return step()

    return plain


def timed(ways: dict[str, Step], seconds: float, device: str) -> dict[str, list[float]]:
    """Seconds of each step, in turns: of the processor, or on a GPU of wall clock."""
    return search_step.measured(ways, seconds, clock_of(torch.device(device)))


def at_least_ms(cost: Cost) -> dict[str, dict[str, float]]:
    """Milliseconds of the operations and of the bytes at each card's limits."""
    return {
        name: {"operations": cost.flop / flops * 1e3, "bytes": cost.n_bytes / rate * 1e3} for name, (flops, rate) in GPUS.items()
    }


def compared(ways_on: Callable[[str], dict[str, Step]], options: argparse.Namespace) -> dict[str, list[float]]:
    """On the processor, and on the other device where that is asked for."""
    found: dict[str, list[float]] = {}
    for device in dict.fromkeys(("cpu", options.device)):
        found |= timed(ways_on(device), options.seconds, device)
    return found


def report(title: str, found: dict[str, list[float]], cost: Cost, batch: int) -> dict[str, object]:
    """Print one part; the same for JSON."""
    first = statistics.median(next(iter(found.values())))
    medians = {name: statistics.median(values) for name, values in found.items()}
    lines = [
        (
            name,
            f"{1e3 * min(found[name]):.1f}",
            f"{1e3 * spent:.1f}",
            len(found[name]),
            f"{batch / spent:,.0f}",
            f"{first / spent:.1f}x",
        )
        for name, spent in medians.items()
    ]
    print(f"\n{title}")
    print(table(lines, ("", "least ms", "median ms", "steps", "rows a second", "against the first")))
    limits = at_least_ms(cost)
    print(f"{cost.flop / 1e9:.2f} GFLOP, {cost.n_bytes / 1e9:.3f} GB, {cost.n_kernels:,} operations a step; at the limits of")
    print(", ".join(f"{name} {one['operations']:.3f} and {one['bytes']:.2f} ms" for name, one in limits.items()), flush=True)
    return {"median_s": medians, "flop": cost.flop, "bytes": cost.n_bytes, "kernels": cost.n_kernels, "limits_ms": limits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--width", type=int, default=16, help="channels of a searched cell")
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each part and device")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", help="file for the same figures")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; use --device cpu")
    card = torch.cuda.get_device_name() if options.device == "cuda" else "no GPU"
    print(f"{card}, processor with {torch.get_num_threads()} threads, torch {torch.__version__}, batches of {options.batch}")
    found: dict[str, object] = {"device": card, **vars(options)}
    cells = random_genotype(np.random.default_rng(1), 4).to_json()
    for title, architecture in (("the detector, bag alone", ""), ("the detector with cells beside the bag", cells)):
        spent = compared(lambda device, told=architecture: detector_ways(options, told, device), options)
        cost = cost_of(
            next(iter(detector_ways(argparse.Namespace(**vars(options) | {"compile": False}), architecture, "cpu").values()))
        )
        found[title] = report(title, spent, cost, options.batch)
    spent = compared(lambda device: search_ways(options, device), options)
    found["search"] = report(
        "the search, default step", spent, cost_of(search_ways(options, "cpu")["cpu, float32"]), options.batch
    )
    for name, values in spent.items():
        print(f"{name}: {search_step.projected(statistics.median(values), options.batch)}")
    if options.device == "cuda":
        print(f"largest memory on the card: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
