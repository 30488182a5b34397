"""Where the loop stands: one mapping of plain values, for the command and for pages."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from curation.release import influence, policy, registry
from curation.release.noise import audit_noise
from curation.settings import Settings
from curation.store import health, listings
from curation.store.workspace import get_state
from curation.types import Question


def gather(session: Session, settings: Settings, *, now: datetime) -> dict[str, Any]:
    """Counts by state, live model and its verified accuracy, last run, next retrain and why, noise, drift."""
    counts = health.counts(session, now=now)
    live, runs = registry.live(session), registry.runs(session, limit=1)
    outlook, corrections = policy.outlook(session, settings, now=now), policy.corrections(session)
    noise = {question.value: audit_noise(session, question) for question in Question}
    labels: dict[str, dict[str, int]] = {question.value: {} for question in Question}
    for (question, source), n in counts.labels.items():
        labels[question][source] = n
    return {
        "listings": listings.count(session),
        "labels": labels,
        "review": {state: n for (state,), n in counts.review.items()},
        "inbox": {state: n for (state,), n in counts.inbox.items()},
        "jobs": {state: n for (state,), n in counts.jobs.items()},
        "live_model": None if live is None else {"name": live.name, "verified_accuracy": verified_accuracy(live.report)},
        "last_run": _run(runs[0]) if runs else None,
        "next_retrain": outlook.words,
        "retrain_due": outlook.due,
        "corrections": {"n": corrections.n_listings, "needed": settings.retrain_min_corrections},
        "label_noise": {question: None if found is None else asdict(found) for question, found in noise.items()},
        "suggestions": influence.in_words(influence.measure(session)),
        "drift": get_state(session, health.DRIFT_KEY),
    }


def verified_accuracy(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """{value, low, high, n} on verified listings, from a model's or a run's report; None if it was not judged."""
    for part in (report, report.get("challenger")):
        found = part.get("accuracy") if isinstance(part, Mapping) else None
        if isinstance(found, Mapping) and found.get("value") is not None:
            return dict(found)
    return None


def flagging(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each violation and its certified threshold in words, or why there is none; empty for models older than thresholds."""
    judged = report.get("challenger")
    violations = judged.get("violations", {}) if isinstance(judged, Mapping) else {}
    cuts = {name: found.get("threshold") or {} for name, found in violations.items()}
    return [(name, str(cut["words"])) for name, cut in cuts.items() if "words" in cut]


def shown(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same for people: one line a key, estimates in words."""
    live, run = found["live_model"], found["last_run"]
    lines: dict[str, Any] = {"listings": found["listings"]}
    lines |= {f"{question}_labels": counts for question, counts in found["labels"].items()}
    lines |= {name: found[name] for name in ("review", "inbox", "jobs")}
    lines["live_model"] = "none yet" if live is None else f"{live['name']}, {in_words(live['verified_accuracy'])}"
    lines["last_run"] = "none yet" if run is None else f"{run['id']} {run['state']}, began {run['started_at']:%Y-%m-%d %H:%M} UTC"
    lines["next_retrain"] = found["next_retrain"]
    lines |= {f"{question}_noise": _noise(estimate) for question, estimate in found["label_noise"].items()}
    lines["suggestions"] = found["suggestions"]
    return lines | {"drift": "not reconciled yet" if found["drift"] is None else found["drift"]}


def in_words(accuracy: Mapping[str, Any] | None) -> str:
    """An accuracy with its interval, or that there is none."""
    if accuracy is None:
        return "not judged on verified listings yet"
    return f"{accuracy['value']:.1%} [{accuracy['low']:.1%}, {accuracy['high']:.1%}] of {accuracy['n']} verified listings"


def _noise(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not estimated, no audited listing is decided"
    return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}] of given labels, from {found['n']} audited"


def _run(run: registry.Run) -> dict[str, Any]:
    return {"id": run.id, "kind": run.kind, "state": run.state, "trigger": run.trigger, "started_at": run.started_at}
