"""The table that the demo and the benchmark print."""

from collections.abc import Mapping
from typing import Any

from curation.console import table
from curation.quality.metrics import Estimate
from tests.e2e.loop import Figures
from tests.e2e.panel import Answers


def noise_share(labels: Mapping[str, str], truth: Mapping[str, str]) -> float:
    """Share of listings whose label is not the true one, in [0, 1]."""
    known = [ref for ref in labels if ref in truth]
    return sum(labels[ref] != truth[ref] for ref in known) / len(known)


def rows(figures: Figures, answers: Answers) -> list[tuple[str, str]]:
    """What was measured, as (name, words)."""
    before, after = noise_share(figures.labels_before, answers.category), noise_share(figures.labels_after, answers.category)
    tally = figures.tally
    return [
        ("listings", f"{figures.n_listings:,} ({figures.n_rejected} rows or photos rejected)"),
        ("label noise", f"{before:.1%} → {after:.1%}  (cut by {1 - after / before:.0%}; against the known truth)"),
        ("listings decided", f"{len(tally.listings):,} ({len(tally.listings) / figures.n_listings:.1%} of all)"),
        (
            "decisions made",
            f"{tally.n_decisions} and {tally.n_skips} skips; {_share(tally.n_wrong, tally.n_decisions)} of them wrong",
        ),
        ("suspects that hold up", _hold_up(figures, answers)),
        (
            "hooks",
            f"{figures.n_unheard} answers given during the outage, {figures.drift['n_missed']} healed by reconciliation",
        ),
        ("detector, verified listings", _detectors(figures)),
        ("detector, all test listings", " → ".join(map(_percent, figures.accuracies.values())) + "  (against the known truth)"),
        (
            "gate",
            f"{figures.second.get('state')}: {_gate(figures.second.get('report', {}))}",
        ),
        (
            "seconds",
            ", ".join(f"{name} {n_s:.0f}" for name, n_s in figures.seconds.items())
            + f"; sum {sum(figures.seconds.values()):.0f}",
        ),
    ]


def failures(figures: Figures, answers: Answers) -> list[str]:
    """What the loop promises and did not do."""
    before, after = noise_share(figures.labels_before, answers.category), noise_share(figures.labels_after, answers.category)
    n_answers = figures.tally.n_decisions + figures.tally.n_skips
    promises = {
        f"label noise was cut from {before:.1%} to {after:.1%}, not by half": after <= before / 2,
        f"{n_answers} answers were given, the ledger holds {figures.n_in_ledger}": n_answers == figures.n_in_ledger,
        f"the second run ended as {figures.second['state']}": figures.second["state"] in ("promoted", "refused"),
        "doctor found a fault": figures.doctor.get("ok") is True,
    }
    return [words for words, kept in promises.items() if not kept]


def shown(figures: Figures, answers: Answers) -> str:
    """The rows as a table."""
    return table(rows(figures, answers), ("what", "measured"))


def _hold_up(figures: Figures, answers: Answers) -> str:
    """Of the doubted labels of the first model: how many are truly wrong, and how often the suggestion is right."""
    issues = [row for row in figures.suspects if row["is_issue"].lower() == "true" and row["listing_ref"] in answers.category]
    wrong = [row for row in issues if row["given"] != answers.category[row["listing_ref"]]]
    right = [row for row in wrong if row["suggested"] == answers.category[row["listing_ref"]]]
    top = figures.suspects[: max(1, figures.n_batch)]
    n_top = sum(row["given"] != answers.category.get(row["listing_ref"], row["given"]) for row in top)
    found = f"{_share(len(wrong), len(issues))} of {len(issues)} ({_share(len(right), len(wrong))} with the right suggestion)"
    return f"{found}; {n_top / len(top):.0%} of the top {len(top)}"


def _detectors(figures: Figures) -> str:
    report = figures.second.get("report", {})
    champion, challenger = report.get("champion") or {}, report.get("challenger") or {}
    return f"{_estimate(champion)} → {_estimate(challenger)}"


def _gate(report: Mapping[str, Any]) -> str:
    return str(report.get("gate", {}).get("words") or report.get("error", ""))


def _estimate(found: Mapping[str, object]) -> str:
    accuracy = found.get("accuracy")
    if not isinstance(accuracy, Mapping):
        return "not judged"
    return _percent(Estimate(**accuracy))


def _percent(found: Estimate) -> str:
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}] of {found.n}"


def _share(k: int, n: int) -> str:
    return f"{k / n:.1%}" if n else "-"
