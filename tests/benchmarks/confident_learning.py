"""Confident learning from a top-k store: at a catalog's size, refreshed, and beside cleanlab where cleanlab can run.

`zipf`: generated rows of ten siblings each, Zipf classes, a fifth of the labels wrong, only the top-k is ever made, as
a model's forward pass would store it. `dense`: the same rows for cleanlab and for ours, each in a process of its own.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.confident_learning zipf [--rows 8500000 --classes 14000]
    OMP_NUM_THREADS=1 python -m tests.benchmarks.confident_learning dense [--rows 100000 --classes 10000]   # 9 GB of memory
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from curation.quality.confident import (
    Confidence,
    confident_learning,
    estimate,
    low_self_confidence,
    prune_by_noise_rate,
    refresh,
    undecided,
)
from curation.quality.sparse import TopK

SIBLINGS = 10
NOISE = 0.2
STRAY = 0.01  #: share of the labels that are any class at all, outside the top-k
LEFT_OVER = 0.03  #: probability outside the siblings
CHUNK = 2**16
FILTERS = {
    "confident_learning": confident_learning,
    "low_self_confidence": low_self_confidence,
    "prune_by_noise_rate": prune_by_noise_rate,
}
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["zipf", "dense", "cleanlab", "build", "ours"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--filter", choices=list(FILTERS))
    args = parser.parse_args()
    if args.part == "zipf":
        print(json.dumps(zipf(args.rows or 8_500_000, args.classes or 14_000), indent=1))
    elif args.part == "dense":
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            print(json.dumps(dense(Path(folder), args.rows or 100_000, args.classes or 10_000), indent=1))
    else:
        child: dict[str, Callable[[], Any]] = {
            "cleanlab": lambda: cleanlab(args.folder, args.filter),
            "build": lambda: build(args.folder),
            "ours": lambda: ours(args.folder),
        }
        print(json.dumps(child[args.part]()))


class Stopwatch:
    """CPU and wall seconds by step."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    def time(self, name: str, step: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        result = step()
        self.steps[name] = {
            "cpu_s": round(time.process_time() - cpu, 3),
            "wall_s": round(time.perf_counter() - wall, 3),
            "peak_mib_so_far": _peak_mib(),
        }
        return result


def zipf(n: int, n_classes: int) -> dict[str, Any]:
    """Everything that is decided of `n` rows, and one percent of them changed."""
    from curation.quality.noise import NoiseMatrix  # here, so that scipy does not count in the memory of `ours`

    rng, watch = np.random.default_rng(0), Stopwatch()
    store = TopK.empty(n, n_classes)
    watch.time("generate (not counted)", lambda: _fill(store, rng))
    state = watch.time("estimate (checks, thresholds, guesses, joint)", lambda: estimate(store))
    flagged = {
        decide.__name__: int(watch.time(decide.__name__, lambda d=decide: d(store, state)).sum())
        for decide in (confident_learning, low_self_confidence)
    }
    n_open = len(watch.time("undecided", lambda: undecided(store, state)))
    noise = watch.time("noise matrix", lambda: NoiseMatrix.of(state))
    rows, new = rng.choice(n, n // 100, replace=False), generated(n // 100, n_classes, rng)
    fresh = watch.time("refresh of 1 %", lambda: refresh(state, store, rows, new))
    turned = int((fresh.guess != state.guess).sum())
    full = watch.time("full recompute", lambda: estimate(store))
    equal = _same(fresh, full)
    peak = _peak_mib()
    flagged["prune_by_noise_rate"] = int(watch.time("prune_by_noise_rate", lambda: prune_by_noise_rate(store, full)).sum())
    return {
        "rows": n,
        "classes": n_classes,
        "flagged": flagged,
        "undecided rows": n_open,
        "categories with a noise rate": int(np.isfinite(noise.rate).sum()),
        "steps": watch.steps,
        "guesses turned by the refresh": turned,
        "refresh equals full recompute": equal,
        "peak_mib": peak,
        "peak_mib with prune_by_noise_rate": _peak_mib(),
    }


def _fill(store: TopK, rng: np.random.Generator) -> None:
    for start in range(0, len(store), CHUNK):
        n = min(CHUNK, len(store) - start)
        store.write(slice(start, start + n), generated(n, store.n_classes, rng))


def generated(n: int, n_classes: int, rng: np.random.Generator) -> TopK:
    """Rows as a model would write them: the ten siblings of the true class, and the label's probability."""
    cumulated = np.cumsum(1 / np.arange(1, n_classes + 1))
    true = np.searchsorted(cumulated / cumulated[-1], rng.random(n)).clip(0, n_classes - 1)
    first = true // SIBLINGS * SIBLINGS
    logits = 1.5 * rng.normal(size=(n, SIBLINGS))
    logits[np.arange(n), true - first] += 1 + 4 * rng.random(n)
    powers = np.exp(logits)
    probs = (1 - LEFT_OVER) * powers / powers.sum(axis=1, keepdims=True)
    labels = np.where(rng.random(n) < NOISE, first + rng.integers(SIBLINGS, size=n), true)
    labels = np.where(rng.random(n) < STRAY, rng.integers(n_classes, size=n), labels)
    order = np.argsort(-probs, axis=1)
    p = np.take_along_axis(probs, order, axis=1).astype(np.float32)
    inside = labels // SIBLINGS == true // SIBLINGS
    p_given = np.where(inside, probs[np.arange(n), labels % SIBLINGS], p[:, -1] / 10)
    return TopK((first[:, None] + order).astype(np.uint16), p, labels.astype(np.int32), p_given.astype(np.float32), n_classes)


def dense(folder: Path, n: int, n_classes: int) -> dict[str, Any]:
    """Both on the same rows; each in its own process, whose peak memory is its own."""
    _write_dense(folder, n, n_classes)
    found: dict[str, Any] = {"rows": n, "classes": n_classes, "dense_mib": n * n_classes * 4 // 2**20}
    found["build the store from dense"] = _child("build", folder)
    found["ours, from the store"] = mine = _child("ours", folder)
    for name in ("confident_learning", "low_self_confidence"):
        theirs = _child("cleanlab", folder, "--filter", name)
        flags = [np.load(folder / f"{who}_{name}.npy") for who in ("cleanlab", "ours")]
        found[name] = {
            "cleanlab": theirs,
            "flagged": [int(mask.sum()) for mask in flags],
            "jaccard": float((flags[0] & flags[1]).sum() / (flags[0] | flags[1]).sum()),
            "cpu_ratio": round(theirs["cpu_s"] / max(mine["steps"]["estimate"]["cpu_s"] + mine["steps"][name]["cpu_s"], 1e-3)),
            "memory_ratio": round(theirs["peak_mib"] / mine["peak_mib"]),
            "memory_ratio_above_imports": round(_above(theirs) / max(_above(mine), 1)),
        }
    return found


def _write_dense(folder: Path, n: int, n_classes: int) -> None:
    """Groups of ten siblings, a fifth of the labels a sibling's, each class ten times on average."""
    rng = np.random.default_rng(0)
    probs = np.lib.format.open_memmap(folder / "probs.npy", mode="w+", dtype=np.float32, shape=(n, n_classes))
    true = rng.integers(n_classes, size=n)
    first = true // SIBLINGS * SIBLINGS
    for start in range(0, n, 1000):
        rows = np.arange(start, min(start + 1000, n))
        logits = rng.standard_normal((len(rows), n_classes), dtype=np.float32)
        at = np.arange(len(rows))
        logits[at[:, None], first[rows, None] + np.arange(SIBLINGS)] += 6 + 1.5 * rng.random(
            (len(rows), SIBLINGS), dtype=np.float32
        )
        logits[at, true[rows]] += 4 * rng.random(len(rows), dtype=np.float32)
        np.exp(logits, out=logits)
        probs[rows] = logits / logits.sum(axis=1, keepdims=True)
    probs.flush()
    np.save(folder / "labels.npy", np.where(rng.random(n) < NOISE, first + rng.integers(SIBLINGS, size=n), true))


def cleanlab(folder: Path, name: str) -> dict[str, Any]:
    """One of cleanlab's filters on the dense rows, held in memory."""
    from cleanlab.filter import find_label_issues

    imports = _peak_mib()
    labels, probs = np.load(folder / "labels.npy"), np.load(folder / "probs.npy")
    cpu, wall = time.process_time(), time.perf_counter()
    np.save(folder / f"cleanlab_{name}.npy", find_label_issues(labels, probs, filter_by=name, n_jobs=1))
    return {
        "cpu_s": round(time.process_time() - cpu, 3),
        "wall_s": round(time.perf_counter() - wall, 3),
        "peak_mib": _peak_mib(),
        "imports_mib": imports,
    }


def build(folder: Path) -> dict[str, Any]:
    """The store from the dense rows, read as a memory map whose pages count as memory here."""
    watch = Stopwatch()
    probs, labels = np.load(folder / "probs.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    store = watch.time("build", lambda: TopK.of(probs, labels))
    np.savez(folder / "store.npz", idx=store.idx, p=store.p, labels=store.labels, p_given=store.p_given)
    return watch.steps["build"]


def ours(folder: Path) -> dict[str, Any]:
    """All decisions from the store."""
    imports, watch, n_classes = _peak_mib(), Stopwatch(), np.load(folder / "probs.npy", mmap_mode="r").shape[1]
    with np.load(folder / "store.npz") as parts:
        store = TopK(**{name: parts[name] for name in ("idx", "p", "labels", "p_given")}, n_classes=n_classes)
    state = watch.time("estimate", lambda: estimate(store))
    for name, decide in FILTERS.items():
        np.save(folder / f"ours_{name}.npy", watch.time(name, lambda d=decide: d(store, state)))
    n_open = len(watch.time("undecided", lambda: undecided(store, state)))
    return {"steps": watch.steps, "undecided rows": n_open, "peak_mib": _peak_mib(), "imports_mib": imports}


def _child(part: str, folder: Path, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.confident_learning", part, "--folder", str(folder), *more]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _above(process: dict[str, Any]) -> int:
    return int(process["peak_mib"] - process["imports_mib"])


def _same(one: Confidence, other: Confidence) -> bool:
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (one.guess, other.guess),
        (one.sums.total, other.sums.total),
        (one.sums.count, other.sums.count),
        (one.joint.keys, other.joint.keys),
        (one.joint.counts, other.joint.counts),
    ]
    return all(np.array_equal(a, b) for a, b in pairs)


def _peak_mib() -> int:
    """Of this process alone: `ru_maxrss` would begin with what the parent had."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(peak[1]) // 1024 if peak else 0


if __name__ == "__main__":
    main()
