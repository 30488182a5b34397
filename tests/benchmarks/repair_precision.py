"""What automatic repair promises and what it keeps: real ads and the sample catalog, moderators' answers simulated.

Moderators answer the truth about N listings: 12 % drawn uniformly, `--drawn` of them from the half of the would-be changes that
scores higher, the others those whose label is doubted most. Then labels that nobody verified are changed by each rule, all on
the same out-of-sample probabilities of TF-IDF and a logistic regression:

- `promise`: ours; `bound` is what it certifies, `n` the verified listings that stand in for the changes;
- `plain average`: the same score, cut where the exact bound over all verified listings reaches the target, whoever was asked;
- `p >= 0.95`: the model's probability of another class than the given one;
- `argmax`: whatever the model prefers.

`noise` is the share of wrong labels among those that nobody verified. Sellers' own errors in the real ads (about 6 %) count as
right, so true precision is higher than shown there. A rate of added noise, then one line a rule, summed over the seeds.

    python -m tests.benchmarks.repair_precision --data ../shared/data/gumtree
    python -m tests.benchmarks.repair_precision --sample 12000 --noise 0.3 --seeds 2 --drawn 0.5
"""

import argparse
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
from curation.quality.repair import Evidence, promise, suggestions
from curation.quality.sparse import TopK
from curation.quality.validate import OutOfSample
from tests.benchmarks.label_issues import _ads, inject, out_of_sample
from tests.benchmarks.sample_floor import read

AUDIT_SHARE = 0.12
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
        for n_verified in args.verified:
            for target in args.target:
                runs = [
                    figures(world, n_verified, target, args.drawn, np.random.default_rng(seed))
                    for seed, world in enumerate(worlds)
                ]
                lines += [(noise, n_verified, target, *line) for line in _summed(runs)]
    header = ("added", "verified", "target", "rule", "bound", "n", "changed", "precision", "by seed", "noise before", "after")
    print(table(lines, header))


def figures(
    world: World, n_verified: int, target: float, drawn: float, rng: np.random.Generator
) -> list[tuple[Repaired, World, NDArray[np.bool_]]]:
    """Each rule on one world, with the rows that nobody verified."""
    suggested, score = suggestions(TopK.of(world.probs, world.given))
    audited, verified = _asked(world, score, n_verified, drawn, rng)
    seen = _one_a_group(np.flatnonzero(verified & (score > 0)), world.groups, score)
    evidence = Evidence(score[seen], (suggested == world.true)[seen], audited[seen])
    ours = promise(score[~verified & (score > 0)], evidence, target)
    plain = threshold_for_precision(evidence.score, evidence.right, target)
    best, p = world.probs.argmax(axis=1), world.probs.max(axis=1)
    moved = best != world.given
    rules = [
        Repaired("promise", ours.precision_low, ours.n, score >= ours.cut, suggested),
        Repaired("plain average", plain.precision_low, plain.n_flagged, (score >= plain.value) & (score > 0), suggested),
        Repaired(f"p >= {FIXED}", float("nan"), 0, moved & (p >= FIXED), best),
        Repaired("argmax", float("nan"), 0, moved, best),
    ]
    return [(rule, world, ~verified) for rule in rules]


def _asked(
    world: World, score: NDArray[np.float64], n: int, drawn: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(audited, verified): the audit share drawn uniformly, likely changes drawn uniformly, then the most doubted."""
    size, k = world.probs.shape
    oos = OutOfSample(world.probs, tuple(map(str, range(k))), tuple(map(str, range(size))), np.zeros(size, dtype=int))
    audited = np.zeros(size, dtype=bool)
    audited[rng.permutation(size)[: round(AUDIT_SHARE * n)]] = True
    order = find_category_issues(world.given, oos).order
    verified = audited.copy()
    if drawn:
        likely = np.flatnonzero((score >= np.median(score[score > 0])) & ~audited)
        verified[rng.permutation(likely)[: round(drawn * n)]] = True
    verified[order[~verified[order]][: max(0, n - verified.sum())]] = True
    return audited, verified


def _one_a_group(rows: NDArray[np.int64], groups: NDArray[np.str_], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each near-duplicate group the lowest score."""
    rising = rows[np.argsort(score[rows], kind="stable")]
    return rising[np.unique(groups[rising], return_index=True)[1]]


def _summed(runs: list[list[tuple[Repaired, World, NDArray[np.bool_]]]]) -> Iterator[tuple[object, ...]]:
    for cases in zip(*runs, strict=True):
        n_changed = n_right = n_open = n_before = n_after = 0
        kept = []
        for rule, world, still_open in cases:
            changed = rule.changed & still_open
            after = np.where(changed, rule.to, world.given)
            right = (rule.to == world.true) & changed
            n_changed, n_right, n_open = n_changed + changed.sum(), n_right + right.sum(), n_open + still_open.sum()
            n_before += ((world.given != world.true) & still_open).sum()
            n_after += ((after != world.true) & still_open).sum()
            kept += [right.sum() / changed.sum()] if changed.any() else []
        bounds = [rule.bound for rule, *_ in cases if rule.bound > 0]
        yield (
            cases[0][0].rule,
            f"{np.mean(bounds):.3f}" if bounds else "-",
            round(np.mean([rule.n for rule, *_ in cases])) or "-",
            int(n_changed),
            f"{n_right / n_changed:.3f}" if n_changed else "-",
            " ".join(f"{share:.3f}" for share in kept) or "-",
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
    parser.add_argument("--drawn", type=float, default=0.0, help="share of the verified drawn from the likely changes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
