"""Violations asked with and without the category: the seller's, the network's own, or both, on the same rows.

    python -m tests.benchmarks.violation_category --sample 1500 --seeds 3

Each seed draws a generated catalog, whose violations are drawn by kind of thing, 15 % of whose sellers name another. Rows are
cut into folds by near-duplicate group; each fold is answered by heads, and by a category network, that the others were fitted
on, so that every violation is judged. *Withheld*: the same heads, where no seller named a category when they are judged; never
worse than heads that never saw one is what hiding it in training is for. *True category*: as if no seller erred.

On the real ads the violations are read off the category itself; there it stays withheld (`tests.benchmarks.table1`).
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from curation.catalog.features import FeatureConfig, Featurizer
from curation.catalog.kinds import Kinds
from curation.console import table
from curation.quality.metrics import average_precision
from curation.store.workspace import Workspace
from tests.benchmarks.catalog import Catalog, opened, parser_of, present_in
from trainer import data, folds, kind, loop, violation_fit, violations
from trainer.config import HINGE, TrainConfig
from trainer.data import Rows
from trainer.violations import How, Seen

N_RESAMPLED = 500
WITHOUT = "without category"
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Judged:
    """One catalog's answers, by the name of what heads saw."""

    logits: Mapping[str, Floats]  #: (N, V)
    truth: NDArray[np.bool_]  #: (N, V)
    groups: NDArray[np.str_]
    names: tuple[str, ...]
    agreement: float  #: of held-out category answers with the truth


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--hide", type=float, nargs="+", default=[TrainConfig().hide_category], help="hide_category")
    parser.set_defaults(sample=1500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in range(options.seed, options.seed + options.seeds):
        options = argparse.Namespace(**{**vars(options), "seed": seed})
        began_s = time.process_time()
        with opened(options) as (workspace, catalog):
            found.append(judged(workspace, catalog, options))
        about = f"categories right {found[-1].agreement:.3f}, {time.process_time() - began_s:.0f} CPU s beside the catalog"
        print(f"seed {options.seed}: {len(found[-1].truth):,} listings, {about}", flush=True)
    report(found)


def judged(workspace: Workspace, catalog: Catalog, options: argparse.Namespace) -> Judged:
    """Every listing by heads of the other folds."""
    config = TrainConfig(seed=options.seed, violations_see_category="both")
    made = table_of(workspace, catalog, config)
    truth, groups = present_in(catalog), [one.group_key for one in catalog.listings]
    assigned = folds.assign(made.targets.category, groups, options.folds, options.seed)
    right = np.zeros(len(made), bool)
    logits: dict[str, Floats] = {}
    for fold in range(options.folds):
        rows, rest = np.flatnonzero(assigned == fold), np.flatnonzero(assigned != fold)
        detector = loop.fit(made, rest, rows[:0], config=config).detector
        answered = loop.predict(detector, made, rows)[0].argmax(1)
        right[rows] = np.array(made.targets.classes)[answered] == np.array(catalog.judged)[rows]
        classes = made.targets.classes
        fit, held = (violation_fit.seen(detector, made, part, classes) for part in (rest, rows))
        real = Kinds(classes)
        true = [kind.told(np.array([real.of(catalog.judged[row]) for row in part]), classes) for part in (rest, rows)]
        known = truth[rest].astype(np.float32), made.targets.group[rest]
        for name, values in ways(fit, held, true, *known, config, options.hide):
            logits.setdefault(name, np.zeros(truth.shape))[rows] = values
    return Judged(logits, truth, np.array(groups), catalog.names, float(right.mean()))


def ways(
    fit: Seen,
    held: Seen,
    true: list[object],
    present: NDArray[np.float32],
    groups: NDArray[np.int64],
    config: TrainConfig,
    hide: list[float],
) -> Iterator[tuple[str, Floats]]:
    """Logits of the held-out rows by heads of each kind."""
    weight = np.full_like(present, config.verified_weight)
    inner = violations.folds_of(groups, violations.N_FOLDS, config.seed)

    def answers(change: Mapping[str, object], other: Mapping[str, object], share: float = 0.0) -> tuple[Floats, Floats]:
        how = How(HINGE, config.violation_strength, hide_said=share)
        seen = replace(fit, **change)  # type: ignore[arg-type]
        heads = violations.fitted(seen, present, weight, groups, how, is_scaled=True, folds=inner).head
        asked = replace(held, **other)  # type: ignore[arg-type]
        return heads.logits(asked), heads.logits(asked.untold())

    none = {"said": None, "predicted": None}
    yield WITHOUT, answers(none, none)[0]
    yield "predicted", answers({"said": None}, {"said": None})[0]
    for share in hide:
        mark = f", hidden {share:g}" if len(hide) > 1 else ""
        told, untold = answers({"predicted": None}, {"predicted": None}, share)
        yield f"said{mark}", told
        yield f"said{mark}, withheld", untold
        both, one = answers({}, {}, share)
        yield f"both{mark}", both
        yield f"both{mark}, seller's withheld", one
    perfect = [{"said": part, "predicted": None} for part in true]
    yield "true category", answers(perfect[0], perfect[1])[0]


def table_of(workspace: Workspace, catalog: Catalog, config: TrainConfig) -> data.Table:
    """All listings with their sellers' categories, and their true violations as moderators' word."""
    shape, given = FeatureConfig(), [(path, "seller") for path in catalog.given]
    flags = [(value or "none", "moderators") for value in catalog.violations]
    origins = data.Origins.of(catalog.listings, [one.group_key for one in catalog.listings])
    wanted = data.targets(given, flags, catalog.names, config, origins)
    features = Featurizer(shape, kinds=Kinds(wanted.classes)).transform(catalog.listings, workspace.media)
    every: Rows = np.arange(len(features))
    return data.Table(features, shape, wanted, loop.stem_of(features, every, config), torch.device("cpu"))


def report(found: list[Judged]) -> None:
    """Average precision of each way, and how far it is from heads without the category."""
    names = found[0].names
    rows = []
    for way in found[0].logits:
        per = np.array([[_ap(one, way, head) for head in range(len(names))] for one in found])
        means = per.mean(1)
        spread = f" ± {means.std(ddof=1):.3f}" if len(found) > 1 else ""
        gap = "" if way == WITHOUT else difference(found, way)
        rows.append((way, *(f"{value:.3f}" for value in per.mean(0)), f"{means.mean():.3f}{spread}", gap))
    cases = ("cases", *(str(sum(int(one.truth[:, head].sum()) for one in found)) for head in range(len(names))), "", "")
    print("\n" + table([cases, *rows], ("average precision", *names, "mean", "− without [95 %]")))


def difference(found: list[Judged], way: str) -> str:
    """Mean over violations and seeds, with a paired bootstrap interval over near-duplicate groups."""
    rng = np.random.default_rng(1)
    gaps = [_gap(one, way, np.arange(len(one.truth))) for one in found]
    members = [_members(one) for one in found]
    drawn = [
        np.mean([_gap(one, way, _resampled(groups, rng)) for one, groups in zip(found, members, strict=True)])
        for _ in range(N_RESAMPLED)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{np.mean(gaps):+.3f} [{low:+.3f}, {high:+.3f}]"


def _members(one: Judged) -> list[Rows]:
    order = np.argsort(one.groups, kind="stable")
    starts = np.unique(one.groups[order], return_index=True)[1]
    return np.split(order, starts[1:])


def _resampled(groups: list[Rows], rng: np.random.Generator) -> Rows:
    return np.concatenate([groups[at] for at in rng.integers(len(groups), size=len(groups))])


def _gap(one: Judged, way: str, rows: Rows) -> float:
    heads = [head for head in range(one.truth.shape[1]) if one.truth[rows, head].any()]
    return float(np.mean([_ap(one, way, head, rows) - _ap(one, WITHOUT, head, rows) for head in heads]))


def _ap(one: Judged, way: str, head: int, rows: Rows | None = None) -> float:
    chosen = slice(None) if rows is None else rows
    return average_precision(one.truth[chosen, head], one.logits[way][chosen, head])


if __name__ == "__main__":
    main()
