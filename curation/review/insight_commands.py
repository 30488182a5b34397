"""Commands: `categories` (which ones mislead sellers) and `periods` (accuracy and noise over time)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation import console

if TYPE_CHECKING:
    from curation.quality.metrics import Estimate
    from curation.review.breadth import Pair, Report, Row, Split
    from curation.review.periods import History, Period

SHOWN = 20
"""Rows of a table on the terminal; files and --json hold all."""

BAR_CHARS = 20


@console.command("categories", example='refurbish categories --root "Home & Garden" --out categories.csv')
@click.option("--root", help="Only the categories under this path.")
@click.option("--top", type=click.IntRange(1), help="Only the broadest ones.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write, one category a row: .csv or .jsonl.")
@console.pass_session
def categories(session: console.Session, root: str | None, top: int | None, out: Path | None, as_json: bool) -> None:
    """Show broad and confused categories, and which ones to merge or to split.

    A category is broad where the model is unsure of its listings. `effective` is how many equally likely
    categories a listing could be in; `elsewhere` the share of listings that the model would put into
    another category; `noise` the estimated share of wrong labels.
    """
    from curation.review import breadth, judged, tables

    workspace = session.workspace()
    found = breadth.report(workspace, judged.load(workspace), root)
    rows = [_category(row, found) for row in found.rows[:top]]
    summary: dict[str, Any] = {
        "run": found.run_id,
        "n_listings": found.n_listings,
        "n_categories": len(found.rows),
        "n_broad": sum(row.figures.is_broad for row in found.rows),
        "n_not_estimable": sum(row.figures.entropy is None for row in found.rows),
        "noise": found.noise,
        "noise_from": found.noise_from,
        "verdict": _verdict(found),
    }
    if out is not None:
        tables.write(rows, list(rows[0]) if rows else [], out)
        console.emit(summary | {"out": str(out)}, as_json=as_json)
        return
    result = summary | {
        "categories": rows,
        "confusions": [_pair(pair) for pair in found.confusions[:top]],
        "merges": [_pair(pair) for pair in found.merges[:top]],
        "splits": [_split(split) for split in found.splits[:top]],
    }
    console.emit(result, as_json=as_json, human=_told(found, top or SHOWN))


@console.command("periods", example="refurbish periods --by month --out periods.csv")
@click.option("--by", type=click.Choice(["day", "week", "month", "quarter", "year"]), default="month", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write, one period a row: .csv or .jsonl.")
@console.pass_session
def periods(session: console.Session, by: str, out: Path | None, as_json: bool) -> None:
    """Show accuracy and noise by the date of the listings, and where they drift.

    `agreement`: the held-out model's answer is the current label. `accuracy`: the same where moderators
    decided; `audit_accuracy`: where they decided a listing of the uniform audit sample. `noise`: share of the
    audit sample whose category moderators changed.
    """
    from curation.quality.periods import By
    from curation.review import judged, tables
    from curation.review import periods as over_time

    found = over_time.history(judged.load(session.workspace()), By(by))
    rows = [_period(period) for period in found.periods]
    summary = {
        "run": found.run_id,
        "by": by,
        "dated_by": found.dated_by,
        "n_undated": found.n_undated,
        "n_periods": len(rows),
        "n_drifts": sum(bool(period.drifts) for period in found.periods),
        "verdict": _trend(found),
    }
    if out is not None:
        tables.write(rows, list(rows[0]) if rows else [], out)
        console.emit(summary | {"out": str(out)}, as_json=as_json)
        return
    console.emit(summary | {"periods": rows}, as_json=as_json, human=_chart(found))


def _category(row: "Row", found: "Report") -> dict[str, Any]:
    """One flat row, as it is written to a file."""
    one = row.figures
    return {
        "category": row.category,
        "n": row.n,
        "state": row.state,
        **_spread("entropy", one.entropy),
        **_spread("effective", one.effective),
        "n_groups": _rounded(one.n_groups),
        **_spread("elsewhere", one.elsewhere),
        **_spread("noise", one.noise, with_n=True),
        **_spread("audit_noise", row.audit, with_n=True),
        "confused_with": "; ".join(row.confused_with),
        "merge_with": "; ".join(
            f"{pair.b if pair.a == row.category else pair.a} (such as {', '.join(pair.examples + pair.examples_back)})"
            for pair in found.merges
            if row.category in (pair.a, pair.b)
        ),
        "split_into": "; ".join(
            f"{part.name} ({part.n}, such as {', '.join(part.examples)})"
            for split in found.splits
            if split.category == row.category
            for part in split.parts
        ),
    }


def _pair(pair: "Pair") -> dict[str, Any]:
    return {
        "a": pair.a,
        "b": pair.b,
        **_spread("there", pair.found.there, with_n=True),
        **_spread("back", pair.found.back, with_n=True),
        **_spread("told_apart", pair.found.told_apart),
        "is_merge": pair.found.is_merge,
        "examples": list(pair.examples),
        "examples_back": list(pair.examples_back),
    }


def _split(split: "Split") -> dict[str, Any]:
    parts = [{"name": part.name, "n": part.n, "examples": list(part.examples)} for part in split.parts]
    return {"category": split.category, "kind": split.kind, "n": split.n, "parts": parts}


def _period(period: "Period") -> dict[str, Any]:
    found: dict[str, Any] = {"period": period.name, "n": period.n}
    for figure, share in period.figures.items():
        found |= _spread(figure.value, share, with_n=True)
    return found | {"drift": " ".join(figure.value for figure in period.drifts)}


def _spread(name: str, share: "Estimate | None", *, with_n: bool = False) -> dict[str, Any]:
    """A figure and its interval as columns of their own; empty where there is none."""
    found: dict[str, Any] = {
        name: None if share is None else _rounded(share.value),
        f"{name}_low": None if share is None else _rounded(share.low),
        f"{name}_high": None if share is None else _rounded(share.high),
    }
    return found | ({f"{name}_n": 0 if share is None else share.n} if with_n else {})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _verdict(found: "Report") -> str:
    """One sentence: what there is to do."""
    thick = [row for row in found.rows if row.figures.entropy is not None]
    used = [row for row in found.rows if row.n]
    if not thick:
        return "no category has 20 labelled and predicted listings yet; nothing can be estimated"
    if len(used) == 1:
        return f"all listings bear one category ({used[0].category}); there is nothing to confuse it with"
    n_broad = sum(row.figures.is_broad for row in thick)
    n_merges, n_splits = len(found.merges), len(found.splits)
    if not (n_broad or n_merges or n_splits):
        return "no category is broad, and nothing suggests a merge or a split"
    return f"{n_broad} broad, {n_merges} to merge, {n_splits} to split"


def _told(found: "Report", top: int) -> str:
    header = ("category", "n", "state", "effective", "elsewhere", "noise", "audit noise", "confused with")
    rows = [
        (
            row.category,
            row.n,
            row.state,
            _shown(row.figures.effective, percent=False),
            _shown(row.figures.elsewhere),
            _shown(row.figures.noise),
            _shown(row.audit),
            "; ".join(row.confused_with[:2]),
        )
        for row in found.rows[:top]
    ]
    lines = [console.table(rows, header), f"{len(found.rows):,} categories; {_verdict(found)}"]
    lines += [line for pair in found.merges[:top] for line in _merge_lines(pair)]
    lines += [line for split in found.splits[:top] for line in _split_lines(split)]
    return "\n".join(lines)


def _merge_lines(pair: "Pair") -> list[str]:
    told = pair.found.told_apart
    return [
        f"\nmerge?  {pair.a}  +  {pair.b}",
        f"  told apart {_shown(told)} (50% = not at all); there {_shown(pair.found.there)}, back {_shown(pair.found.back)}",
        f"  such as {', '.join(pair.examples)} and {', '.join(pair.examples_back)}",
    ]


def _split_lines(split: "Split") -> list[str]:
    why = "its listings go elsewhere" if split.kind == "elsewhere" else "its titles fall into groups"
    parts = [f"  {part.n:>6,}  {part.name}  (such as {', '.join(part.examples)})" for part in split.parts]
    return [f"\nsplit?  {split.category}: {why}", *parts]


def _trend(found: "History") -> str:
    """One sentence: what drifted."""
    n_drifts = sum(bool(period.drifts) for period in found.periods)
    dates = (
        "" if found.dated_by == "listed_at" else "; listings have no date of their own, so the time they were first read counts"
    )
    undated = f"; left out for want of a date: {found.n_undated:,}" if found.n_undated else ""
    return (f"{n_drifts} of {len(found.periods)} periods drift" if n_drifts else "no period drifts") + dates + undated


def _chart(found: "History") -> str:
    header = ("period", "n", "agreement", "", "accuracy", "audit accuracy", "noise", "drift")
    rows: list[Sequence[object]] = []
    for period in found.periods:
        agreement, *others = period.figures.values()
        bar = "█" * round(BAR_CHARS * agreement.value) if agreement else ""
        drifts = " ".join(figure.value for figure in period.drifts)
        rows.append((period.name, period.n, _shown(agreement), bar.ljust(BAR_CHARS, "·"), *map(_shown, others), drifts))
    return f"{console.table(rows, header)}\n{_trend(found)}"


def _shown(share: "Estimate | None", *, percent: bool = True) -> str:
    if share is None:
        return "-"
    if not percent:
        return f"{share.value:.1f} [{share.low:.1f}, {share.high:.1f}]"
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {share.n:,}"
