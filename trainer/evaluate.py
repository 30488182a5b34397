"""How good a detector is on listings that moderators decided and no compared model was trained on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.catalog.scorer import Scores
from curation.quality import curves, flags, metrics
from curation.release.gates import Candidate
from curation.types import PATH_SEPARATOR, split_violations
from trainer.certify import certifying

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Verified:
    """The rows models are judged on: N decided categories and M decided violations."""

    category_rows: NDArray[np.int64]  #: (N,) rows of the features
    category: tuple[str, ...]  #: (N,) decided path
    groups: tuple[str, ...]  #: (N,) near-duplicate group
    violation_rows: NDArray[np.int64]  #: (M,)
    violation: NDArray[np.float64]  #: (M, V) 0/1 in the order of `violations`, NaN where it could not be named then
    violations: tuple[str, ...]
    violation_groups: tuple[str, ...]  #: (M,)

    @property
    def rows(self) -> NDArray[np.int64]:
        """All rows that must be scored, ascending."""
        found: NDArray[np.int64] = np.union1d(self.category_rows, self.violation_rows)
        return found

    @property
    def roots(self) -> list[str]:
        return [path.split(PATH_SEPARATOR)[0] for path in self.category]


def untouched(refs: Sequence[str], groups: Sequence[str], trained_refs: Collection[str], trained_groups: Collection[str]) -> Mask:
    """Rows (N,) whose near-duplicate group holds nothing that a model was trained on, then or now.

    Groups may have grown since: one trained member spoils all of its present group.
    """
    refs_seen, groups_seen = set(trained_refs), set(trained_groups)
    spoilt = groups_seen | {group for ref, group in zip(refs, groups, strict=True) if ref in refs_seen}
    return np.array([group not in spoilt for group in groups], bool)


def verified_rows(
    eligible: Mask,
    is_verified: NDArray[np.bool_],
    categories: Sequence[str | None],
    violations: Sequence[str | None],
    groups: Sequence[str],
    policy: tuple[str, ...],
    is_asked: NDArray[np.bool_] | None = None,
) -> Verified:
    """The eligible rows that moderators decided; `is_verified` (N, 2) is per question, `is_asked` (N, V) per violation."""
    decided = [np.flatnonzero(eligible & is_verified[:, question]) for question in (0, 1)]
    rows = np.array([row for row in decided[0] if categories[row]], np.int64)
    named = [split_violations(violations[row] or "none") for row in decided[1]]
    truth = np.array([[name in found for name in policy] for found in named], np.float64).reshape(-1, len(policy))
    if is_asked is not None:
        truth[~is_asked[decided[1]]] = np.nan
    return Verified(
        category_rows=rows,
        category=tuple(str(categories[row]) for row in rows),
        groups=tuple(groups[row] for row in rows),
        violation_rows=decided[1],
        violation=truth,
        violations=policy,
        violation_groups=tuple(groups[row] for row in decided[1]),
    )


def candidate(
    name: str, scores: Scores, verified: Verified, *, n_bytes: int, latency_ms_p95: float, reproduces: bool
) -> Candidate:
    """A model's answers as the gate wants them. `scores` are of `verified.rows`, in that order."""
    at = {row: position for position, row in enumerate(verified.rows.tolist())}
    chosen = scores.category_probs.argmax(1) if len(scores.category_probs) else np.zeros(0, np.int64)
    correct = [
        scores.classes[chosen[at[row]]] == path
        for row, path in zip(verified.category_rows.tolist(), verified.category, strict=True)
    ]
    probs = np.full((len(verified.violation_rows), len(verified.violations)), np.nan)
    places = [at[row] for row in verified.violation_rows.tolist()]
    for column, violation in enumerate(verified.violations):
        if violation in scores.violations:  # an older model may know another policy
            probs[:, column] = scores.violation_probs[places, scores.violations.index(violation)]
    score = _quadratic_score(scores, [at[row] for row in verified.category_rows.tolist()], verified.category)
    return Candidate(name, np.array(correct, bool), score, probs, n_bytes, latency_ms_p95, reproduces)


def _quadratic_score(scores: Scores, places: Sequence[int], paths: Sequence[str]) -> NDArray[np.float64]:
    """2 p(decided) - sum of all p squared of the scores at these places; a class the model does not know has p = 0."""
    index = {path: column for column, path in enumerate(scores.classes)}
    probs = np.asarray(scores.category_probs, np.float64)[np.asarray(places, np.int64)]
    decided = [row[index[path]] if path in index else 0.0 for row, path in zip(probs, paths, strict=True)]
    found: NDArray[np.float64] = 2 * np.array(decided, np.float64) - np.square(probs).sum(1)
    return found


def report(
    found: Candidate, scores: Scores, cuts: Mapping[str, Any], verified: Verified, rng: np.random.Generator
) -> dict[str, Any]:
    """Figures with intervals: accuracy, root accuracy, and of each violation how well it is flagged.

    Violations are reported by groups that certified no threshold (`certify.certifying`), one row of each. `cuts`: the
    thresholds in the model's sidecar, by violation; empty for a model older than thresholds.
    """
    reporting = _reporting(verified)
    return {
        "name": found.name,
        "accuracy": asdict(metrics.accuracy(found.category_correct)),
        "root_accuracy": asdict(metrics.accuracy(_root_correct(scores, verified))),
        "violations": {
            name: _violation(found.violation_probs[reporting, column], verified.violation[reporting, column], cuts.get(name), rng)
            for column, name in enumerate(verified.violations)
        },
        "n_bytes": found.n_bytes,
        "latency_ms_p95": found.latency_ms_p95,
        "reproduces": found.reproduces,
    }


def violation_curves(found: Candidate, verified: Verified) -> dict[str, curves.Columns]:
    """Precision against recall of each violation that has a positive, on the rows that `report` reports."""
    rows = _reporting(verified)
    drawn = {}
    for column, name in enumerate(verified.violations):
        known = rows[np.isfinite(verified.violation[rows, column])]
        probs, truth = found.violation_probs[known, column], verified.violation[known, column] > 0
        if truth.any() and np.isfinite(probs).all():
            drawn[name] = curves.precision_recall(probs, truth)
    return drawn


def _reporting(verified: Verified) -> NDArray[np.int64]:
    """Rows among the M that no threshold was certified by, the first of each group."""
    _, first = np.unique(np.array(verified.violation_groups, np.str_), return_index=True)
    found: NDArray[np.int64] = np.sort(first[~certifying([verified.violation_groups[row] for row in first])])
    return found


def _root_correct(scores: Scores, verified: Verified) -> Mask:
    roots = sorted({path.split(PATH_SEPARATOR)[0] for path in scores.classes})
    root_of = np.array([roots.index(path.split(PATH_SEPARATOR)[0]) for path in scores.classes])
    totals = np.zeros((len(scores.category_probs), len(roots)))
    np.add.at(totals.T, root_of, scores.category_probs.T)
    at = {row: position for position, row in enumerate(verified.rows.tolist())}
    pairs = zip(verified.category_rows.tolist(), verified.roots, strict=True)
    return np.array([roots[totals[at[row]].argmax()] == root for row, root in pairs], bool)


def _violation(
    probs: NDArray[np.floating[Any]], truth: NDArray[np.float64], cut: Mapping[str, Any] | None, rng: np.random.Generator
) -> Mapping[str, Any]:
    known = np.isfinite(truth)
    probs, truth = probs[known], truth[known]
    if not np.isfinite(probs).all():  # a model of another policy
        return {"n": len(truth), "n_positive": int(truth.sum()), "threshold": None}
    value = None if cut is None else cut["value"]
    found = flags.figures(probs, truth > 0, np.inf if value is None else value, rng=rng)
    return {**asdict(found), "threshold": cut}


def plain(value: Any) -> Any:
    """The same as JSON values: figures that are not finite become None, numpy numbers Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
