"""May this model go live? Every check answers with words and numbers; one refusal is a refusal.

Challenger and champion are judged on the same moderator-verified rows, which neither was trained
on. A model is released if its accuracy is higher (how surely: `gate_confidence`), or if it is
shown to be no worse by more than `gate_margin`: at equal accuracy the one trained on fresher
labels is preferred. On few rows equal accuracy says little; there a quadratic score that is shown to be
higher decides, which sees how sure a model was of what moderators said (Brier 1950; a proper
score, so being too sure is no way to win). It is refused if it is shown to be worse, overall or under one root.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.metrics import MAX_CUTS, Estimate, Threshold, accuracy, paired_difference, threshold_for_precision
from curation.settings import Settings

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One model's answers on the verified rows."""

    name: str
    category_correct: NDArray[np.bool_]  #: (N,) was the category right
    category_score: NDArray[np.floating[Any]]  #: (N,) quadratic score 2 p(right) - sum of all p squared, in [-1, 1]
    violation_probs: NDArray[np.floating[Any]]  #: (M, V) in [0, 1]
    n_bytes: int
    latency_ms_p95: float  #: to score one listing
    reproduces: bool  #: the reloaded artifact gives the stored predictions


@dataclass(frozen=True, slots=True)
class Check:
    """One question the gate asks. `passed` is also True where it could not be judged; the words say so."""

    name: str
    passed: bool
    words: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks. `provisional`: passed for want of a champion, on too few rows to say how good it is."""

    passed: bool
    checks: tuple[Check, ...]
    provisional: bool = False

    @property
    def words(self) -> str:
        """The refusals, or why it may go live."""
        refusals = [f"{check.name}: {check.words}" for check in self.checks if not check.passed]
        if refusals:
            return "refused by " + "; ".join(refusals)
        return "passed, provisionally: " + self.checks[0].words if self.provisional else f"passed all {len(self.checks)} checks"

    def report(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return {**asdict(self), "words": self.words, "checks": [asdict(check) for check in self.checks]}


@dataclass(frozen=True, slots=True)
class _Rows:
    """What both candidates are judged on."""

    roots: Sequence[str]
    groups: Sequence[str]
    truth: NDArray[np.floating[Any]]
    violations: Sequence[str]
    settings: Settings
    rng: np.random.Generator


def judge(
    challenger: Candidate,
    champion: Candidate | None,
    *,
    roots: Sequence[str],
    groups: Sequence[str],
    violation_truth: NDArray[np.floating[Any]],
    violations: Sequence[str],
    settings: Settings,
    rng: np.random.Generator,
    trained_groups: Collection[str] = (),
) -> Verdict:
    """Judge the challenger against the champion, or alone if there is none.

    `roots`, `groups`: (N,) root category and near-duplicate group of each verified row;
    `violation_truth`: (M, V) 0, 1 or NaN where nobody decided; `trained_groups`: groups the
    challenger learned from, which must not be among `groups`. Raises InputError if the arrays do
    not fit together.
    """
    rows = _Rows(roots, groups, np.asarray(violation_truth, dtype=float), violations, settings, rng)
    for candidate in (challenger, champion):
        if candidate is not None:
            _require_fit(candidate, rows)
    checks = [_evidence(champion, rows), _no_leak(rows, trained_groups), *_artifact(challenger, settings)]
    if champion is not None and len(roots):
        keys = np.asarray(groups, dtype=np.str_)
        difference = paired_difference(challenger.category_correct, champion.category_correct, keys, rng=rng)
        surer = paired_difference(challenger.category_score, champion.category_score, keys, rng=rng)
        checks += [_not_worse(difference, challenger, champion, settings), _better(difference, surer, settings)]
        checks.append(_roots(challenger, champion, rows))
    checks += _violations(challenger, champion, rows)
    provisional = champion is None and len(roots) < settings.retrain_min_per_question
    passed = all(check.passed for check in checks)
    return Verdict(passed, tuple(checks), provisional and passed)


def _require_fit(candidate: Candidate, rows: _Rows) -> None:
    n, shape = len(rows.roots), (len(rows.truth), len(rows.violations))
    if not candidate.category_correct.shape == candidate.category_score.shape == (n,) or len(rows.groups) != n:
        raise InputError(
            f"{candidate.name} was evaluated on {candidate.category_correct.shape} rows, but there are {n} roots and "
            f"{len(rows.groups)} groups; evaluate both models on the same rows"
        )
    if candidate.violation_probs.shape != shape or rows.truth.shape != shape:
        raise InputError(
            f"{candidate.name} has violation probabilities of shape {candidate.violation_probs.shape} and the truth has "
            f"{rows.truth.shape}; both must be {shape}"
        )


def _evidence(champion: Candidate | None, rows: _Rows) -> Check:
    n, wanted = len(rows.roots), rows.settings.retrain_min_per_question
    numbers = {"n": n, "needed": wanted}
    if n >= wanted and n:
        return Check("evidence", True, f"{n} verified listings", numbers)
    if champion is None:
        return Check("evidence", True, f"first model, only {n} of {wanted} verified listings to judge it by", numbers)
    return Check("evidence", False, f"{n} verified listings, {max(wanted, 1) - n} more needed to compare models", numbers)


def _no_leak(rows: _Rows, trained_groups: Collection[str]) -> Check:
    shared = sorted(set(rows.groups) & set(trained_groups))
    if not shared:
        return Check("no leak", True, "no group of the verified rows was trained on", {"shared": 0})
    words = f"{len(shared)} groups of the verified rows were trained on, such as {shared[0]!r}"
    return Check("no leak", False, words, {"shared": len(shared)})


def _artifact(challenger: Candidate, settings: Settings) -> list[Check]:
    probs = challenger.violation_probs
    n_bad = int(np.sum(~(np.isfinite(probs) & (probs >= 0) & (probs <= 1))))
    n_bytes, limit_bytes = challenger.n_bytes, settings.gate_max_bytes
    latency_ms, limit_ms = challenger.latency_ms_p95, settings.gate_max_latency_ms
    verb = "gives" if challenger.reproduces else "does not give"
    return [
        Check("reproduces", challenger.reproduces, f"the reloaded artifact {verb} the stored predictions"),
        Check("finite", n_bad == 0, f"{n_bad} of {probs.size} violation probabilities are not in [0, 1]", {"n_bad": n_bad}),
        Check(
            "size",
            n_bytes <= limit_bytes,
            f"{n_bytes / 1e6:.1f} MB of at most {limit_bytes / 1e6:.1f} MB",
            {"n_bytes": n_bytes, "limit_bytes": limit_bytes},
        ),
        Check(
            "latency",
            math.isfinite(latency_ms) and latency_ms <= limit_ms,
            f"p95 {latency_ms:.1f} ms of at most {limit_ms:.1f} ms a listing",
            {"p95_ms": latency_ms if math.isfinite(latency_ms) else None, "limit_ms": limit_ms},
        ),
    ]


def _not_worse(difference: Estimate, challenger: Candidate, champion: Candidate, settings: Settings) -> Check:
    new, old = accuracy(challenger.category_correct), accuracy(champion.category_correct)
    shown_worse = difference.high < 0
    passed = difference.value >= -settings.gate_margin and not shown_worse
    words = f"category accuracy {new.value:.3f} against {old.value:.3f}, difference {_interval(difference)}"
    if shown_worse:
        words += ", shown to be worse"
    elif not passed:
        words += f", lower by more than the margin {settings.gate_margin}"
    numbers = {"challenger": asdict(new), "champion": asdict(old), "difference": asdict(difference)}
    return Check("not worse", passed, words, {**numbers, "margin": settings.gate_margin})


def _better(difference: Estimate, surer: Estimate, settings: Settings) -> Check:
    sure, wanted = _probability_better(difference), settings.gate_confidence
    as_good = difference.low >= -settings.gate_margin
    decided_by_score = difference.value >= 0 and surer.low > 0
    numbers = {
        "probability": sure,
        "wanted": wanted,
        "low": difference.low,
        "margin": settings.gate_margin,
        "score": asdict(surer),
    }
    if difference.low > 0:
        return Check("better", True, f"shown to be better: difference {_interval(difference)}", numbers)
    if sure > wanted or as_good or decided_by_score:
        reason = "shown to be no worse" if as_good else "more accurate, within noise" if sure > wanted else "as accurate"
        words = f"{reason}: difference {_interval(difference)}, better with probability {sure:.2f}"
        return Check("better", True, words + (f"; surer of what is right, {_interval(surer)}" if surer.low > 0 else ""), numbers)
    words = (
        f"better with probability {sure:.2f} only, more than {wanted:.2f} is wanted; difference {_interval(difference)} may "
        f"be as low as {difference.low:+.3f}, the margin is {-settings.gate_margin:+.3f}; quadratic score {_interval(surer)}"
    )
    return Check("better", False, words, numbers)


def _probability_better(difference: Estimate) -> float:
    """Normal approximation from the 95 % interval of the paired difference."""
    error = _standard_error(difference)
    if error == 0:
        return 0.5 if difference.value == 0 else float(difference.value > 0)
    return NormalDist().cdf(difference.value / error)


def _standard_error(difference: Estimate) -> float:
    return (difference.high - difference.low) / (2 * Z)


def _roots(challenger: Candidate, champion: Candidate, rows: _Rows) -> Check:
    """Each root with enough rows; the interval is widened for how many are looked at (Bonferroni)."""
    names, groups = np.asarray(rows.roots, dtype=object), np.asarray(rows.groups, dtype=np.str_)
    enough = max(rows.settings.retrain_min_per_question, 1)
    judged = [str(root) for root in sorted(set(rows.roots)) if np.sum(names == root) >= enough]
    numbers: dict[str, Any] = {}
    worse: list[str] = []
    for root in judged:
        here = names == root
        found = paired_difference(challenger.category_correct[here], champion.category_correct[here], groups[here], rng=rows.rng)
        numbers[root] = asdict(found)
        high = found.value + NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / len(judged)) * _standard_error(found)
        if found.value < -rows.settings.gate_margin and high < 0:
            worse.append(f"{root} lost {-found.value:.3f} on {int(np.sum(here))} rows ({_interval(found)})")
    n_unjudged = len(set(rows.roots)) - len(judged)
    words = "; ".join(worse) or f"none of {len(judged)} root categories is shown to be worse"
    return Check("roots", not worse, words + (f"; {n_unjudged} have fewer than {enough} rows" if n_unjudged else ""), numbers)


def _violations(challenger: Candidate, champion: Candidate | None, rows: _Rows) -> list[Check]:
    return [_precision(i, name, challenger, champion, rows) for i, name in enumerate(rows.violations)]


def _precision(i: int, name: str, challenger: Candidate, champion: Candidate | None, rows: _Rows) -> Check:
    """A threshold that keeps the target precision must not be lost."""
    label, target = f"precision of {name}", rows.settings.repair_precision
    known = np.isfinite(rows.truth[:, i])
    truth = rows.truth[known, i].astype(bool)
    new = _certified(challenger, i, known, truth, target)
    old = None if champion is None else _certified(champion, i, known, truth, target)
    numbers = {"challenger": new and asdict(new), "champion": old and asdict(old), "n": len(truth), "target": target}
    if new is not None:
        words = f"at least {new.precision_low:.3f} at threshold {new.value:.3f}, recall {new.recall:.3f}"
        return Check(label, True, words, numbers)
    if old is not None:
        words = f"no threshold keeps {target}, the champion's keeps {old.precision_low:.3f} at recall {old.recall:.3f}"
        return Check(label, False, words, numbers)
    if n_more := max(0, _positives_needed(target) - int(truth.sum())):
        return Check(label, True, f"not judged: {n_more} more verified {name} labels needed", numbers)
    return Check(label, True, f"no threshold keeps {target} yet, nor did one before: nothing is lost", numbers)


def _certified(
    candidate: Candidate, i: int, known: NDArray[np.bool_], truth: NDArray[np.bool_], target: float
) -> Threshold | None:
    probs = candidate.violation_probs[known, i]
    if not np.isfinite(probs).all():
        return None
    found = threshold_for_precision(probs, truth, target)
    return found if found.is_certified else None


def _positives_needed(target: float) -> int:
    """Flagged listings, all of them right, whose exact lower bound reaches the target on a full grid of cuts."""
    return math.ceil(math.log((1 - CONFIDENCE) / MAX_CUTS) / math.log(target))


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
