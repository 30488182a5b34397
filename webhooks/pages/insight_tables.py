"""Tables and a chart of what the worker counted for `/quality`: months, breadth, confusions, moderators."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from curation.quality.metrics import Estimate
from curation.review.branches import lies_under
from curation.review.insight import Insight, ModelView, Month
from curation.types import Question
from webhooks import charts
from webhooks.charts import Point, Series
from webhooks.pages import figures
from webhooks.tables import Column, Table

SHOWN = 25
"""Rows on the page; downloads hold all."""

MONTHLY = {
    "agreement": "Model and label agree",
    "accuracy": "Model right where moderators decided",
    "audit_accuracy": "Model right in the audit sample",
    "noise": "Wrong labels in the audit sample",
}
STATES = {"broad": "broad", "usual": "usual", "not estimable": "too few listings"}


def months(found: Sequence[Month]) -> Table:
    """Four shares of each month."""
    columns = [Column("month", "Month", "estimate"), Column("n", "Listings", "number")]
    for name, title in MONTHLY.items():
        columns += [Column(*one) for one in figures.columns(name, title)]
    columns.append(Column("drifts", "Clearly worse than before"))
    rows = []
    for month in found:
        row: dict[str, Any] = {"month": month.name, "n": month.n}
        for name in MONTHLY:
            row |= figures.spread(name, month.figures.get(name))
        rows.append({**row, "drifts": "; ".join(MONTHLY[name] for name in month.drifts if name in MONTHLY) or None})
    return Table("months", "By the month of the listings", columns, rows, empty="No listing has a date yet.")


def trend(months: Sequence[Month]) -> Markup:
    """Accuracy and noise by month as lines with bands."""
    step = 1 / max(len(months) - 1, 1)
    series = []
    for name in ("accuracy", "noise"):
        points = [
            Point(at * step, one.value, one.low, one.high, f"{month.name}: {figures.interval(one)}")
            for at, month in enumerate(months)
            if (one := month.figures.get(name)) is not None
        ]
        series.append(Series(MONTHLY[name], points))
    labels = [(at * step, month.name) for at, month in enumerate(months)]
    return (
        charts.lines("Accuracy and wrong labels by month, with 95 % intervals", series, x_labels=labels) if months else Markup("")
    )


def breadth(model: ModelView, branch: str) -> Table:
    """How broad each category of the branch is."""
    columns = [
        Column("category", "Category"),
        Column("n", "Listings", "number"),
        Column("state", "Breadth"),
        Column("could_be", "Could be one of", "number"),
        *(Column(*one) for one in figures.columns("elsewhere", "Looks like another")),
        Column("confused_with", "Confused with", "words"),
    ]
    rows = [
        {
            "category": one.category,
            "n": one.n,
            "state": STATES.get(one.state, one.state),
            "could_be": None if one.effective is None else round(one.effective.value, 2),
            **figures.spread("elsewhere", one.elsewhere),
            "confused_with": "; ".join(one.confused_with) or None,
        }
        for one in model.breadth
        if lies_under(one.category, branch)
    ]
    return Table("breadth", "Broad categories first", columns, rows[:SHOWN], whole=lambda: rows)


def confused(model: ModelView, branch: str) -> Table:
    """Pairs of which one lies in the branch."""
    columns = [
        Column("a", "Category"),
        Column("b", "and"),
        *(Column(*one) for one in figures.columns("there", "First looks like second")),
        *(Column(*one) for one in figures.columns("back", "Second looks like first")),
        Column("advice", "Advice", "words"),
    ]
    rows = [
        {
            "a": one.a,
            "b": one.b,
            **figures.spread("there", one.there),
            **figures.spread("back", one.back),
            "advice": "Merge them, or say clearer what belongs where" if one.is_merge else None,
        }
        for one in model.confused
        if lies_under(one.a, branch) or lies_under(one.b, branch)
    ]
    return Table("confused", "Categories taken for each other", columns, rows[:SHOWN], whole=lambda: rows, empty="None.")


def people(insight: Insight, question: Question) -> Table:
    """Moderators by name; too few answers say nothing."""
    columns = [
        Column("name", "Moderator"),
        Column("n", "Answers", "number"),
        Column("n_compared", "Comparable", "number"),
        *(Column(*one) for one in figures.columns("agreement", "Agrees with the others")),
        Column("median_s", "Median time, s", "number"),
        Column("median_low", "Median, low", "number"),
        Column("median_high", "Median, high", "number"),
    ]
    rows = [
        {
            "name": one.name,
            "n": one.n,
            "n_compared": one.n_compared,
            **figures.spread("agreement", one.agreement),
            **({} if one.agreement else {"agreement_words": "too few to say"}),
            "median_s": None if one.median_s is None else round(one.median_s.value, 1),
            "median_low": None if one.median_s is None else round(one.median_s.low, 1),
            "median_high": None if one.median_s is None else round(one.median_s.high, 1),
            "median_words": _time(one.median_s),
        }
        for one in insight.people
        if one.question is question
    ]
    return Table("people", "Moderators by name", columns, rows, empty="Nobody has answered yet.")


def _time(found: Estimate | None) -> str:
    return "too few to say" if found is None else f"{found.value:.0f} s [{found.low:.0f}, {found.high:.0f}]"
