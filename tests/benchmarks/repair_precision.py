"""What automatic repair promises and what it keeps: real ads and the sample catalog, moderators' answers simulated.

Moderators answer the truth about N listings, in batches of 300: 12 % drawn uniformly, `--share` of them drawn from the surest
would-be changes as `curation.quality.repair.to_draw` says, which are asked about in no other way meanwhile, and the others
those whose label is doubted most. Then labels that nobody verified are changed by each rule, all on the same out-of-sample
probabilities of TF-IDF and a logistic regression:

- `promise`: ours, by the answers that were drawn; `bound` is what it certifies, `n` the stand-ins for the changes;
- `all answers`: the same by all answers, whoever was asked and why;
- `plain average`: the same score, cut where the exact bound over all verified listings reaches the target;
- `p >= 0.95`: the model's probability of another class than the given one;
- `argmax`: whatever the model prefers.

`broken` counts the worlds in which fewer of the changes are right than promised. `noise` is the share of wrong labels among all
listings, the answered ones being right. Sellers' own errors in the real ads (about 6 %) count as right, so true precision is
higher than shown there. A rate of added noise, then one line a rule, summed over the seeds.

    python -m tests.benchmarks.repair_precision --data ../shared/data/gumtree
    python -m tests.benchmarks.repair_precision --sample 12000 --noise 0.3 --seeds 2 --share 0 0.2
"""

import argparse
import itertools
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from curation.catalog import sample
from curation.console import table
from curation.quality.issues import find_category_issues
from curation.quality.metrics import threshold_for_precision
from curation.quality.repair import Evidence, promise, suggestions, to_draw
from curation.quality.sparse import TopK
from curation.quality.validate import OutOfSample
from tests.benchmarks.label_issues import _ads, inject, out_of_sample
from tests.benchmarks.sample_floor import read

AUDIT_SHARE = 0.12
BATCH = 300
FIXED = 0.95


@dataclass(frozen=True)
class World:
    """N listings, and what a model says that never saw them."""

    given: NDArray[np.int64]
    true: NDArray[np.int64]
    probs: NDArray[np.float64]  #: (N, K)
    groups: NDArray[np.str_]


@dataclass(frozen=True)
class Repaired:
    """What a rule made of the labels that nobody verified."""

    rule: str
    bound: float
    n: int
    changed: NDArray[np.bool_]
    to: NDArray[np.int64]


def main() -> None:
    args = _options()
    warnings.simplefilter("ignore")
    print(f"{args.sample} listings of the sample catalog" if args.sample else f"real ads, level {args.level}")
    lines = []
    for noise in args.noise:
        worlds = [_world(args, noise, seed) for seed in range(args.seeds)]
        for n_verified, share, target in itertools.product(args.verified, args.share, args.target):
            runs = [figures(world, n_verified, target, share, np.random.default_rng(seed)) for seed, world in enumerate(worlds)]
            lines += [(noise, n_verified, share, target, *line) for line in _summed(runs, target)]
    header = ("added", "verified", "share", "target", "rule", "bound", "n", "changed", "precision", "broken", "noise", "after")
    print(table(lines, header))


def figures(
    world: World, n_verified: int, target: float, share: float, rng: np.random.Generator
) -> list[tuple[Repaired, World, NDArray[np.bool_]]]:
    """Each rule on one world, with the rows that nobody verified."""
    suggested, score = suggestions(TopK.of(world.probs, world.given))
    drawn, verified = _asked(world, score, n_verified, share, target, rng)
    seen = _one_a_group(np.flatnonzero(verified & (score > 0)), world.groups, score)
    known = Evidence(score[seen], (suggested == world.true)[seen])
    waiting = score[~verified & (score > 0)]
    ours, lax = promise(waiting, known.take(drawn[seen]), target), promise(waiting, known, target)
    plain = threshold_for_precision(known.score, known.right, target)
    best, p = world.probs.argmax(axis=1), world.probs.max(axis=1)
    moved = best != world.given
    rules = [
        Repaired("promise", ours.precision_low, ours.n, score >= ours.cut, suggested),
        Repaired("all answers", lax.precision_low, lax.n, score >= lax.cut, suggested),
        Repaired("plain average", plain.precision_low, plain.n_flagged, (score >= plain.value) & (score > 0), suggested),
        Repaired(f"p >= {FIXED}", float("nan"), 0, moved & (p >= FIXED), best),
        Repaired("argmax", float("nan"), 0, moved, best),
    ]
    return [(rule, world, ~verified) for rule in rules]


def _asked(
    world: World, score: NDArray[np.float64], n: int, share: float, target: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(drawn, verified) after batches that hold `n` answers: the audit share, the drawn share, then the most doubted."""
    size, k = world.probs.shape
    oos = OutOfSample(world.probs, tuple(map(str, range(k))), tuple(map(str, range(size))), np.zeros(size, dtype=int))
    order = find_category_issues(world.given, oos).order
    drawn, verified = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    while verified.sum() < n:
        n_before, batch = verified.sum(), min(BATCH, n - verified.sum())
        mine = np.setdiff1d(rng.permutation(size)[: round(AUDIT_SHARE * batch)], np.flatnonzero(verified))
        drawn[mine] = verified[mine] = True
        tier, n_wanted = _tier(score, verified, drawn, target) if share else (np.zeros(size, dtype=bool), 0)
        mine = rng.permutation(np.flatnonzero(tier))[: min(round(share * batch), n_wanted)]
        drawn[mine] = verified[mine] = True
        left = order[~(verified | tier)[order]]
        verified[left[: n_before + batch - verified.sum()]] = True
    return drawn, verified


def _tier(
    score: NDArray[np.float64], verified: NDArray[np.bool_], drawn: NDArray[np.bool_], target: float
) -> tuple[NDArray[np.bool_], int]:
    """What is asked about at random only, and how many answers are wanted."""
    moved = score > 0
    cut, n_wanted = to_draw(score[moved], ~verified[moved], drawn[moved], target)
    return ~verified & (score >= cut), n_wanted


def _one_a_group(rows: NDArray[np.int64], groups: NDArray[np.str_], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each near-duplicate group the lowest score."""
    rising = rows[np.argsort(score[rows], kind="stable")]
    return rising[np.unique(groups[rising], return_index=True)[1]]


def _summed(runs: list[list[tuple[Repaired, World, NDArray[np.bool_]]]], target: float) -> Iterator[tuple[object, ...]]:
    for cases in zip(*runs, strict=True):
        n_changed = n_right = n_open = n_before = n_after = 0
        n_broken = n_held = 0
        for rule, world, still_open in cases:
            changed = rule.changed & still_open
            after = np.where(changed, rule.to, world.given)
            right = (rule.to == world.true) & changed
            n_changed, n_right, n_open = n_changed + changed.sum(), n_right + right.sum(), n_open + len(changed)
            n_before += ((world.given != world.true) & still_open).sum()
            n_after += ((after != world.true) & still_open).sum()
            n_held, n_broken = n_held + changed.any(), n_broken + (right.sum() < target * changed.sum())
        bounds = [rule.bound for rule, *_ in cases if rule.bound > 0]
        yield (
            cases[0][0].rule,
            f"{np.mean(bounds):.3f}" if bounds else "-",
            round(np.mean([rule.n for rule, *_ in cases])) or "-",
            int(n_changed),
            f"{n_right / n_changed:.3f}" if n_changed else "-",
            f"{n_broken}/{n_held}" if n_held else "-",
            f"{n_before / n_open:.3f}",
            f"{n_after / n_open:.3f}",
        )


def _world(args: argparse.Namespace, noise: float, seed: int) -> World:
    if args.sample:
        with tempfile.TemporaryDirectory() as folder:
            sample.generate(Path(folder), n=args.sample, seed=seed + 1, noise=noise, photos=False)
            found = read(Path(folder), with_attributes=True)
        classes, both = np.unique(np.concatenate([found.given, found.true]), return_inverse=True)
        given, true = both[: len(found.given)], both[len(found.given) :]
        ads = pd.DataFrame({"title": found.texts, "description": "", "cluster": found.groups})
    else:
        ads = _ads(args.data)
        ads["path"] = [" / ".join(path.split(" / ")[: args.level]) for path in ads["path"]]
        classes, true = np.unique(ads["path"], return_inverse=True)
        roots = [path.split(" / ")[0] if args.level > 1 else "all" for path in classes]
        given = inject(true, roots, noise, np.random.default_rng(seed))
    probs = out_of_sample(ads, given, len(classes), args.folds)
    return World(given, true, probs, ads["cluster"].astype(str).to_numpy(dtype=str))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="repair_precision", description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gumtree"))
    parser.add_argument("--sample", type=int, help="listings of the sample catalog, instead of the real ads")
    parser.add_argument("--level", type=int, default=1, choices=(1, 2), help="of the real ads' categories")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--target", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--verified", type=int, nargs="+", default=[600])
    parser.add_argument(
        "--share", type=float, nargs="+", default=[0.2], help="of a batch, drawn from the surest would-be changes"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
