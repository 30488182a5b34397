"""Tables and charts of `/quality`, from the figures of one branch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask import url_for
from markupsafe import Markup

from curation.review.branches import Names
from curation.review.decisions import Decided
from curation.review.insight import Insight
from curation.review.matrix import ELSEWHERE, Cell, Matrix, Row
from curation.types import PATH_SEPARATOR, Question
from webhooks import charts
from webhooks.pages import figures, insight_tables
from webhooks.pages.listing import address
from webhooks.tables import Column, Table

SAMPLES = ("all", "audit", "model")
SHOWN_CELLS = 25
SHOWN_CHART = 18
"""Categories of a chart, those with the most listings; the table has all."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows: compact tables by name, and charts; `tables` are what downloads hold."""

    tables: tuple[Table, ...]
    compact: Mapping[str, Table]
    heat: Markup
    months: Markup
    n_charted: int  #: rows of the chart; the table has all


def made(matrix: Matrix, doubted: Mapping[str, int], insight: Insight | None, question: Question, sample: str) -> Shown:
    """Everything for one branch. Without an `insight` what it would tell is left out."""
    model = insight.model if insight is not None and question is Question.CATEGORY else None
    full = [_branches(matrix, doubted, question), _cells(matrix, question)]
    if insight is not None:
        full.append(insight_tables.people(insight, question))
    if model is not None:
        full += [
            insight_tables.months(model.months),
            insight_tables.breadth(model, matrix.branch),
            insight_tables.confused(model, matrix.branch),
        ]
    compact = {table.name: _compact(table) for table in full}
    names = _busiest(matrix)
    return Shown(
        tuple(full),
        compact,
        _heat(matrix, names, question, sample),
        Markup("") if model is None else insight_tables.trend(model.months),
        len(names),
    )


def decided(rows: Sequence[Decided], names: Names, older: str | None) -> Table:
    """The listings behind a cell."""
    found = [
        {
            "photo": one.listing.photos[0].sha256 if one.listing.photos else None,
            "ref": one.listing.ref,
            "address": address(one.listing.ref),
            "title": shortened(one.listing.title, one.listing.n_chars),
            "given": names.now(one.given),
            "true": names.now(one.true),
            "confidence": one.confidence,
            "is_audit": "yes" if one.is_audit else "no",
            "changed_at": one.changed_at,
        }
        for one in rows
    ]
    columns = (
        Column("ref", "Listing", "code", "address"),
        Column("photo", "Photo", "photo"),
        Column("title", "Title", "words"),
        Column("given", "Given"),
        Column("true", "True"),
        Column("confidence", "Confidence", "share"),
        Column("is_audit", "Drawn at random"),
        Column("changed_at", "Decided", "moment"),
    )
    return Table("listings", "Decided listings", columns, found, empty="No decided listing is behind this number.", older=older)


def shortened(title: str, n_chars: int, limit: int = 200) -> str:
    """A title as lists show it; one that is cut says how long it is."""
    if n_chars <= len(title) <= limit:
        return title or "(no title)"
    return f"{title[:limit]}… ({n_chars:,} characters)"


def short(path: str, branch: str) -> str:
    """A category as it is called inside the branch."""
    if path == ELSEWHERE:
        return "elsewhere"
    return path[len(branch) + len(PATH_SEPARATOR) :] if branch and path.startswith(branch + PATH_SEPARATOR) else path


def _branches(matrix: Matrix, doubted: Mapping[str, int], question: Question) -> Table:
    columns = [
        Column("category", "Given", link="address"),
        Column("n", "Decided", "number"),
        Column("n_wrong", "Wrong", "number"),
    ]
    columns += [Column(*one) for one in figures.columns("audit", "Wrong, audit sample")]
    if question is Question.CATEGORY:
        columns += [Column("n_listings", "Listings", "number")]
        columns += [Column(*one) for one in figures.columns("model", "Wrong by the model")]
    columns.append(Column("n_doubted", "Doubted", "number", "doubted"))
    rows = [_branch(row, matrix.branch, doubted, question) for row in matrix.rows]
    empty = "Nothing is decided and no model has estimated anything here yet."
    return Table("branches", "How often labels are wrong", columns, rows, empty=empty)


def _branch(row: Row, branch: str, doubted: Mapping[str, int], question: Question) -> dict[str, Any]:
    is_category = question is Question.CATEGORY
    narrower: dict[str, Any] = {"branch": row.category} if is_category else {"given": row.category}
    is_open = is_category and row.category != branch
    return {
        "category": short(row.category, branch) if row.category != branch else f"{row.category} itself",
        "address": url_for("quality.show", question=question.value, branch=row.category) if is_open else None,
        "n": row.n,
        "n_wrong": row.n_wrong,
        **figures.spread("audit", row.audit),
        "n_listings": row.n_listings,
        **figures.spread("model", row.expected),
        "n_doubted": doubted.get(row.category, 0),
        "doubted": url_for("suspects.show", question=question.value, **narrower),
    }


def _cells(matrix: Matrix, question: Question) -> Table:
    columns = [Column("given", "Given"), Column("true", "True"), Column("n", "Decided", "number", "address")]
    columns += [Column(*one) for one in figures.columns("audit", "Of given, audit sample")]
    if question is Question.CATEGORY:
        columns += [Column("n_model", "Expected by the model", "number")]
        columns += [Column(*one) for one in figures.columns("model", "Of given, by the model")]
    every = [_cell(cell, matrix.branch, question) for cell in matrix.cells]
    wrong = [_cell(cell, matrix.branch, question) for cell in matrix.cells if cell.is_wrong]
    empty = "No label was found wrong here so far."
    return Table("cells", "Which labels belong where", columns, wrong[:SHOWN_CELLS], empty=empty, whole=lambda: every)


def _cell(cell: Cell, branch: str, question: Question) -> dict[str, Any]:
    return {
        "given": short(cell.given, branch),
        "true": short(cell.true, branch),
        "n": cell.n,
        "address": cell_address(cell, branch, question) if cell.n else None,
        **figures.spread("audit", cell.audit),
        "n_model": None if cell.n_expected is None else round(cell.n_expected, 1),
        **figures.spread("model", cell.expected),
    }


def cell_address(cell: Cell, branch: str, question: Question, sample: str = "all") -> str:
    """Where the listings behind a cell are."""
    there: dict[str, Any] = {"outside": branch} if cell.true == ELSEWHERE else {"true": cell.true}
    return url_for("quality.cell", question=question.value, given=cell.given, sample=sample, **there)


def _busiest(matrix: Matrix) -> list[str]:
    size = {row.category: (row.n_listings or 0, row.n) for row in matrix.rows}
    return sorted(sorted(size, key=lambda name: size[name], reverse=True)[:SHOWN_CHART])


def _heat(matrix: Matrix, names: Sequence[str], question: Question, sample: str) -> Markup:
    into = [name for name in matrix.columns if name in names or name == ELSEWHERE]
    into += [name for name in matrix.columns if question is Question.VIOLATION and name not in into]
    place = {name: at for at, name in enumerate(names)}
    column = {name: at for at, name in enumerate(into)}
    values: dict[tuple[int, int], float] = {}
    links: dict[tuple[int, int], str] = {}
    n_of = {row.category: row.n for row in matrix.rows}
    for cell in matrix.cells:
        value = _value(cell, sample, n_of)
        if cell.given in place and cell.true in column and value is not None and value >= 0.005:
            at = place[cell.given], column[cell.true]
            values[at] = value
            if cell.n and sample != "model":
                links[at] = cell_address(cell, matrix.branch, question, sample)
    said = {"all": "decided listings", "audit": "the audit sample", "model": "the model's estimate"}[sample]
    title = f"Where the labels of {matrix.branch or 'each category'} belong: share of {said}"
    rows, columns = ([short(name, matrix.branch) for name in some] for some in (names, into))
    return charts.heat(title, rows, columns, values, links=links) if values else Markup("")


def _value(cell: Cell, sample: str, n_of: Mapping[str, int]) -> float | None:
    if sample == "audit":
        return cell.audit.value if cell.audit is not None else None
    if sample == "model":
        return cell.expected.value if cell.expected is not None else None
    return cell.n / n_of[cell.given] if n_of.get(cell.given) else None


ESTIMATES = frozenset({"audit", "model", "agreement", "elsewhere", "there", "back", "median_s", *insight_tables.MONTHLY})
PARTS = ("_low", "_high", "_n")


def _compact(table: Table) -> Table:
    """The same rows for people: an estimate with its interval is one column, in words."""
    return replace(table, columns=tuple(_joined(table.columns)))


def _joined(columns: Sequence[Column]) -> Iterator[Column]:
    names = {column.key for column in columns} & ESTIMATES
    parts = {f"{name.removesuffix('_s')}{part}" for name in names for part in PARTS}
    for column in columns:
        if column.key in names:
            yield Column(f"{column.key.removesuffix('_s')}_words", column.title.removesuffix(", s"), "estimate")
        elif column.key not in parts:
            yield column
