"""Command `noise`: how often each category's listings are mislabelled, and where they belong."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation import console

if TYPE_CHECKING:
    from curation.quality.metrics import Estimate
    from curation.review.noise import Report, Row, Target

SHOWN = 20
"""Categories of the table on the terminal; files and --json hold all."""

SHOWN_TARGETS = 3

COLUMNS = (
    *("category", "n", "n_wrong", "noise", "noise_low", "noise_high", "not_estimable"),
    *("suggested", "n_suggested", "share", "share_low", "share_high"),
)


@console.command("noise", example='refurbish noise --root "Home & Garden" --out noise.csv')
@click.option("--root", help="Only the categories under this path.")
@click.option("--top", type=click.IntRange(1), help="Only the categories with the most wrong labels.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write, one confusion a row: .csv or .jsonl.")
@console.pass_session
def noise(session: console.Session, root: str | None, top: int | None, out: Path | None, as_json: bool) -> None:
    """Show how many labels of each category are wrong, and where those listings belong.

    Counts are expected ones, by the newest run's held-out predictions and what moderators decided; intervals
    are for 95 % and cover the chance of the sample, not an error that the model makes everywhere. `audit` is the rate by
    the uniform audit sample, which no model has a part in.
    """
    from curation.review import judged, tables
    from curation.review import noise as matrix

    workspace = session.workspace()
    found = matrix.report(workspace, judged.load(workspace), root)
    rows = found.rows[:top]
    summary = _summary(found)
    if out is not None:
        flat = [line for row in rows for line in _flat(row)]
        tables.write(flat, COLUMNS, out)
        console.emit(summary | {"n_rows": len(flat), "out": str(out)}, as_json=as_json)
        return
    result = summary | {"categories": [_nested(row) for row in rows]}
    console.emit(result, as_json=as_json, human=_told(found, top or SHOWN))


def _summary(found: "Report") -> dict[str, Any]:
    return {
        "run": found.run_id,
        "n_listings": found.n_listings,
        "n_decided": found.n_decided,
        "n_categories": len(found.rows),
        "n_not_estimable": sum(row.rate is None for row in found.rows),
        **_spread("noise", found.overall),
        **_spread("audit_noise", found.audit),
        "audit_n": found.audit.n if found.audit else 0,
        "verdict": _verdict(found),
    }


def _category(row: "Row") -> dict[str, Any]:
    why = row.why_not.value if row.why_not else ""
    return {
        "category": row.category,
        "n": row.n,
        "n_wrong": round(row.n_wrong, 1),
        **_spread("noise", row.rate),
        "not_estimable": why,
    }


def _target(target: "Target") -> dict[str, Any]:
    return {"suggested": target.category, "n_suggested": round(target.n_wrong, 1), **_spread("share", target.rate)}


def _nested(row: "Row") -> dict[str, Any]:
    return _category(row) | {"suggestions": [_target(target) for target in row.targets]}


def _flat(row: "Row") -> Iterator[dict[str, Any]]:
    """One line for each place where listings of the category belong; at least one."""
    empty = dict.fromkeys(COLUMNS[7:])
    for target in row.targets:
        yield _category(row) | _target(target)
    if not row.targets:
        yield _category(row) | empty


def _spread(name: str, share: "Estimate | None") -> dict[str, Any]:
    return {
        name: None if share is None else round(share.value, 6),
        f"{name}_low": None if share is None else round(share.low, 6),
        f"{name}_high": None if share is None else round(share.high, 6),
    }


def _verdict(found: "Report") -> str:
    """One sentence: the rate by the model, and by the audit."""
    if found.overall is None:
        return "no listing that a run has predicted bears a seller's category; nothing can be estimated"
    if found.audit is None:
        return f"{_shown(found.overall)} of the sellers' categories are wrong by the model; no audited listing is decided yet"
    model, audit = found.overall, found.audit
    agreement = "agree" if model.low <= audit.high and audit.low <= model.high else "disagree: believe the audit"
    return f"{_shown(model)} of the sellers' categories are wrong by the model, {_shown(audit)} by the audit; they {agreement}"


def _told(found: "Report", top: int) -> str:
    header = ("category", "n", "wrong", "noise", "belong in")
    rows = [
        (
            row.category,
            row.n,
            f"{row.n_wrong:.0f}",
            _shown(row.rate) if row.rate else f"not estimable: {row.why_not.value if row.why_not else 'no labels'}",
            "; ".join(_belong(target) for target in row.targets[:SHOWN_TARGETS]),
        )
        for row in found.rows[:top]
    ]
    return f"{console.table(rows, header)}\n{len(found.rows):,} categories; {_verdict(found)}"


def _belong(target: "Target") -> str:
    share = f", {target.rate.value:.0%}" if target.rate else ""
    return f"{target.category} ({target.n_wrong:.0f}{share})"


def _shown(share: "Estimate") -> str:
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of {share.n:,}"
