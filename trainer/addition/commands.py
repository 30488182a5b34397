"""`refurbish category add`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from curation import console
from curation.store.workspace import utc_now

NEXT_SETUP = "run `refurbish labelstudio setup`, so that moderators can tick it"


@click.group("category")
def category() -> None:
    """Add a category of violations to the policy and to the live detector."""


@console.command("add", example='refurbish category add counterfeit_tickets --title "Counterfeit tickets" --ask 100')
@click.argument("name")
@click.option("--title", help="What moderators read (default: the name in words).")
@click.option(
    "--positives",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV of listings that users reported for it: ref, and reason if known.",
)
@click.option(
    "--min-positive",
    type=click.IntRange(2),
    default=30,
    show_default=True,
    help="Positive listings, decided or reported, below which nothing is trained.",
)
@click.option("--ask", "n_asked", type=click.IntRange(0), default=0, help="Put that many likely listings into the review queue.")
@click.option("--dry-run", is_flag=True, help="Train and judge, but keep nothing: no name, no report, no model.")
@console.pass_session
def add(
    session: console.Session,
    name: str,
    title: str | None,
    positives: Path | None,
    min_positive: int,
    n_asked: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Data set, one more head on the live detector, evaluation, gate, release; with the seconds of each."""
    from curation.catalog import reports
    from trainer.addition import addition  # torch takes seconds to import

    plan = addition.Plan(
        name=name,
        title=title or name.replace("_", " ").capitalize(),
        reports=reports.read(positives) if positives else {},
        min_positive=min_positive,
        n_asked=n_asked,
        dry_run=dry_run,
    )
    report = addition.run(session.workspace(), plan, now=utc_now())
    console.emit(report, as_json=as_json, human=shown(report))


category.add_command(add)


def shown(report: Mapping[str, Any]) -> str:
    """A run's report as tables for people."""
    known = report["data"]
    rows: list[tuple[str, object]] = [
        ("violation", report["violation"] + (", dry run: nothing was kept" if report["dry_run"] else "")),
        ("state", f"{report['state']}: {report['words']}"),
        (
            "listings",
            f"{known['verified_positives']:,} verified positive, {known['verified_negatives']:,} verified negative, "
            f"{known['reported']:,} only reported, of {known['listings']:,}",
        ),
    ]
    if "gate" in report:
        rows += _judged(report)
    if report.get("asked"):
        rows.append(("asked", _asked(report["asked"])))
    rows.append(("next", _next(report)))
    seconds = console.table([(name, f"{spent:.2f}") for name, spent in report["seconds"].items()], ("stage", "seconds"))
    return f"{console.table(rows, ('what', 'found'))}\n\n{seconds}"


def _judged(report: Mapping[str, Any]) -> list[tuple[str, object]]:
    ours, rival, both = report["test"], report["rival"], report["out_of_fold"]
    found: list[tuple[str, object]] = []
    if "model" in report:
        found.append(("model", f"{report['model']}, run {report['run_id']}, on the skeleton of {report['live']}"))
    if both:
        pairs = ", ".join(f"{name} {_share(both[key], '.3f')}" for name, key in _COMPARED)
        found.append((f"average precision out of fold, {both['ours']['n']} listings", pairs))
    for words, key in (("average precision", "average_precision"), ("precision from 0.9 on", "precision"), ("recall", "recall")):
        found.append((f"{words}, test", f"{_share(ours[key], '.3f')}; TF-IDF {_share(rival[key], '.3f')}"))
    found.append(("past the threshold, test", _past(ours)))
    found.append(("flagging", report["threshold"]["words"]))
    found += [(f"gate, {one['name']}", one["words"]) for one in report["gate"]["checks"]]
    return found


_COMPARED = (("head", "ours"), ("TF-IDF", "theirs"), ("difference", "difference"))


def _past(figures: Mapping[str, Any]) -> str:
    precision, recall = figures["certified_precision"], figures["certified_recall"]
    return f"precision {_share(precision, '.3f')}, recall {_share(recall, '.3f')}"


def _share(found: Mapping[str, Any], style: str) -> str:
    if found["value"] is None:
        return "unknown"
    return f"{found['value']:{style}} [{found['low']:{style}}, {found['high']:{style}}]"


def _asked(found: Mapping[str, Any]) -> str:
    reasons = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in found["by_reason"].items())
    return f"{found['n_listings']} listings put into the review queue: {reasons or 'none is left'}"


def _next(report: Mapping[str, Any]) -> str:
    if report["dry_run"]:
        return "the same without --dry-run"
    if report["state"] == "promoted":
        return f"{NEXT_SETUP}; `refurbish rollback` takes {report['model']} back"
    if report.get("asked"):
        return f"{NEXT_SETUP}, then `refurbish labelstudio push`; the same command again when they have decided"
    return f"{NEXT_SETUP}; `refurbish category add {report['violation']} --ask 100` asks them about likely listings"
