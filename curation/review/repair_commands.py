"""`refurbish repair`: change wrong categories that need no moderator, show what would change, or take it back."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation import console
from curation.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from curation.review.repair import Applied, Plan
    from curation.store.workspace import Workspace

COLUMNS = ("ref", "given", "suggested", "score")

SHOWN = 20
"""Rows of a table on the terminal; --out and --json hold all."""


@console.command("repair", example="refurbish repair --dry-run --out changes.csv")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option("--undo", "what", metavar="RUN|REF", help="Take back the repairs of a run, or of one listing, for good.")
@click.option("--out", type=click.Path(path_type=Path), help="File for the changes, one a row: .csv or .jsonl.")
@console.pass_session
def repair(session: console.Session, dry_run: bool, what: str | None, out: Path | None, as_json: bool) -> None:
    """Change wrong categories without asking anybody, where that is right often enough.

    How often is estimated from listings that moderators decided: its lower confidence bound must reach `repair_precision`.
    With too few of them nothing is changed. Each run writes the whole set of repairs anew; a moderator's label is never
    touched, and every change can be undone.
    """
    workspace = session.workspace()
    if what is not None:
        if out is not None:
            raise InputError("--out goes with the changes of a run, not with --undo; leave one of them out")
        _undo(workspace, what, dry_run=dry_run, as_json=as_json)
        return
    _repair(workspace, out, dry_run=dry_run, as_json=as_json)


def _repair(workspace: "Workspace", out: Path | None, *, dry_run: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from curation.review import repair as repairs
    from curation.review import tables

    if out is not None:
        tables.check_suffix(out)
    planned = _plan(workspace)
    applied = None if dry_run else _apply(workspace, planned)
    while applied is None and not dry_run:  # a run ended meanwhile: its opinion is the one that counts
        planned = _plan(workspace)
        applied = _apply(workspace, planned)
    result: dict[str, Any] = {"is_dry_run": dry_run, **repairs.report(planned), **(asdict(applied) if applied else {})}
    if out is not None:
        tables.write(_rows(planned), COLUMNS, out)
        result["out"] = str(out)
    result["confusions"] = [{"given": given, "suggested": to, "n": n} for (given, to), n in _confusions(planned)]
    if dry_run and out is None:
        result["changes"] = _rows(planned)
    console.emit(result, as_json=as_json, human=_told(planned, result))


def _plan(workspace: "Workspace") -> "Plan":
    from curation.errors import NotFoundError
    from curation.review import probabilities
    from curation.review import repair as repairs

    newest = probabilities.newest_judged(workspace)
    if newest is None:
        raise NotFoundError("no model has predicted the listings yet; run: refurbish retrain")
    run_id, held, opinion = newest
    with workspace.db.read() as session:
        return repairs.plan(session, run_id, held, target=workspace.settings.repair_precision, opinion=opinion)


def _apply(workspace: "Workspace", planned: "Plan") -> "Applied | None":
    """Write the plan; None, and nothing written, where its run is no longer the newest."""
    from curation.review import probabilities
    from curation.review import repair as repairs

    def write(session: "Session") -> "Applied | None":
        newest = probabilities.newest_file(session)
        if newest is None or newest[0] != planned.run_id:
            return None
        return repairs.apply(session, planned, now=workspace.db.now(session))

    return workspace.db.retrying(write)


def _undo(workspace: "Workspace", what: str, *, dry_run: bool, as_json: bool) -> None:
    from curation.review import repair as repairs

    if dry_run:
        with workspace.db.read() as session:
            n = len(repairs.to_undo(session, what))
    else:
        n = workspace.db.retrying(lambda s: repairs.undo(s, repairs.to_undo(s, what), now=workspace.db.now(s)))
    verb = "would go" if dry_run else "went"
    human = f"{n:,} labels {verb} back to what their sellers chose; no later run repairs them"
    console.emit({"is_dry_run": dry_run, "n_undone": n}, as_json=as_json, human=human)


def _rows(planned: "Plan") -> list[dict[str, Any]]:
    return [
        {"ref": one.ref, "given": one.given, "suggested": one.suggested, "score": round(one.score, 6)} for one in planned.changes
    ]


def _confusions(planned: "Plan") -> list[tuple[tuple[str, str], int]]:
    """(given, suggested) and how often, most frequent first."""
    counts = Counter((one.given, one.suggested) for one in planned.changes)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _told(planned: "Plan", result: dict[str, Any]) -> str:
    lines = []
    if planned.changes and result["is_dry_run"]:
        rows = [(one.ref, one.given, one.suggested, f"{one.score:.3f}") for one in planned.changes[:SHOWN]]
        lines += [console.table(rows, ("listing", "given", "suggested", "score")), ""]
    if planned.changes:
        pairs = [(n, given, to) for (given, to), n in _confusions(planned)[:SHOWN]]
        lines += [console.table(pairs, ("n", "given", "suggested")), ""]
    lines.append(result["words"])
    if planned.n_barred:
        lines.append(f"{planned.n_barred:,} are left alone: somebody undid their repair.")
    if result["is_dry_run"]:
        lines.append("Nothing was written.")
    else:
        lines.append(
            f"{result['n_changed']:,} labels changed, {result['n_upheld']:,} upheld, "
            f"{result['n_taken_back']:,} went back to what their sellers chose."
        )
    if "out" in result:
        lines.append(f"The changes are in {result['out']}.")
    return "\n".join(lines)
