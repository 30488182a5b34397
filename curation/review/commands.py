"""Commands: `suspects`, and `review select|list`."""

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import click

from curation import console
from curation.errors import InputError, NotFoundError
from curation.types import Question, Suspect

COLUMNS = ("rank", "listing_ref", "given", "suggested", "suggested_score", "score", "is_issue", "reasons")

ROW_GROUP = 10_000
"""Rows of a Parquet file that are in memory at a time."""

SHOWN = 30


@console.command("suspects", example="refurbish suspects --question category --out suspects.csv")
@click.option("--question", type=click.Choice([q.value for q in Question]), default=Question.CATEGORY.value, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write: .csv, .jsonl or .parquet.")
@click.option("--limit", type=click.IntRange(1), help="Only the most doubtful ones.")
@click.option("--refresh", is_flag=True, help="First rank anew by the labels as they are now, from the newest run's predictions.")
@console.pass_session
def suspects(session: console.Session, question: str, out: Path | None, limit: int | None, refresh: bool, as_json: bool) -> None:
    """Write all ranked listings, most doubtful first: given and suggested label, score and reasons.

    `score` is the label's quality in [0, 1], 1 = surely right, as in cleanlab. The ranking is that of the newest run;
    after corrections, --refresh brings the categories up to date without training.
    """
    workspace, anew = session.workspace(), {}
    if refresh:
        from curation.review.refresh import refresh as rank_anew

        if question != Question.CATEGORY.value:
            raise InputError(f"--refresh ranks the question {Question.CATEGORY.value}; no predictions of violations are kept")
        anew = {"refreshed": asdict(rank_anew(workspace))}
    with closing(_rows(workspace, Question(question), limit)) as rows:
        first = next(rows, None)
        if first is None:
            raise NotFoundError("there is no ranking yet; run: refurbish retrain")
        _tell(chain([first], rows), {"question": question, **anew}, out, as_json=as_json)


def _tell(found: Iterable[dict[str, Any]], about: Mapping[str, Any], out: Path | None, *, as_json: bool) -> None:
    """The ranking into a file, row by row, or on the screen."""
    n_of: Counter[bool] = Counter()
    counted = _counted(found, n_of)
    if out is not None:
        from curation.review import tables

        tables.write(counted, COLUMNS, out, {".parquet": _parquet})
        console.emit({**about, **_totals(n_of), "out": str(out)}, as_json=as_json)
        return
    rows = list(counted)
    table = console.table([[row[name] for name in COLUMNS] for row in rows[:SHOWN]], COLUMNS)
    note = f"\n{len(rows):,} ranked, {n_of[True]:,} doubted; --out FILE writes all"
    console.emit({**about, **_totals(n_of), "suspects": rows}, as_json=as_json, human=table + note)


@click.group()
def review() -> None:
    """Choose what moderators should see next."""


@console.command("select", example="refurbish review select --n 300")
@click.option("--n", type=click.IntRange(1), help="Listings in the batch (default: the setting review_batch).")
@click.option("--seed", type=int, help="Seed of the random shares (default: the setting, and the number of items there are).")
@console.pass_session
def select_batch(session: console.Session, n: int | None, seed: int | None, as_json: bool) -> None:
    """Open a review batch: doubted labels, reports, and a uniform audit sample."""
    import numpy as np

    from curation.review import selection
    from curation.store.workspace import utc_now

    workspace = session.workspace()
    with workspace.db.read() as database:
        n_before = selection.count_items(database)
    rng = np.random.default_rng([workspace.settings.seed if seed is None else seed, n_before])
    chosen = selection.select_batch(workspace, n=n or workspace.settings.review_batch, rng=rng, now=utc_now())
    result = {
        "n_listings": chosen.n_listings,
        "by_reason": chosen.by_reason,
        "n_blind": chosen.n_blind,
        "n_second_opinions": chosen.n_second_opinions,
    }
    console.emit(result, as_json=as_json)


@console.command("list", example="refurbish review list --limit 20")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@console.pass_session
def list_waiting(session: console.Session, limit: int, as_json: bool) -> None:
    """Show the listings that wait to be pushed, highest priority first."""
    from curation.review import queue

    with session.workspace().db.read() as database:
        tasks = queue.waiting(database, limit)
    header = ("listing_ref", "priority", "n_wanted", "is_blind", "reasons")
    rows = [(t.listing.ref, t.priority, t.n_wanted, t.is_blind, " ".join(reason.words for reason in t.reasons)) for t in tasks]
    found = {"waiting": [dict(zip(header, row, strict=True)) for row in rows]}
    console.emit(found, as_json=as_json, human=console.table(rows, header))


review.add_command(select_batch)
review.add_command(list_waiting)


def _rows(workspace: Any, question: Question, limit: int | None) -> Generator[dict[str, Any]]:
    from curation.review import suspects as ranking

    after, left = 0, limit
    with workspace.db.read() as session:
        while left is None or left > 0:
            page = ranking.ranked(session, question, after_rank=after, limit=min(1000, left or 1000))
            if not page:
                return
            yield from (_row(item.rank, item.suspect) for item in page)
            after, left = page[-1].rank, None if left is None else left - len(page)


def _counted(rows: Iterable[dict[str, Any]], n_of: Counter[bool]) -> Iterator[dict[str, Any]]:
    """The rows as they are; counts on the way how many are doubted and how many not."""
    for row in rows:
        n_of[row["is_issue"]] += 1
        yield row


def _totals(n_of: Counter[bool]) -> dict[str, int]:
    return {"n_rows": n_of.total(), "n_issues": n_of[True]}


def _row(rank: int, suspect: Suspect) -> dict[str, Any]:
    return {
        "rank": rank,
        "listing_ref": suspect.listing_ref,
        "given": suspect.given,
        "suggested": suspect.suggested,
        "suggested_score": round(suspect.suggested_score, 6),
        "score": round(suspect.score, 6),
        "is_issue": suspect.is_issue,
        "reasons": " ".join(reason.words for reason in suspect.reasons),
    }


def _parquet(rows: Iterable[dict[str, Any]], file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, number = pa.string(), pa.float64()
    types = (pa.int64(), text, text, text, number, number, pa.bool_(), text)
    schema, left = pa.schema(list(zip(COLUMNS, types, strict=True))), iter(rows)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while part := list(islice(left, ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(part, schema))
