"""What the overview shows over time, as tables and as the charts beside them."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from markupsafe import Markup

from curation.release.trends import Day, NoiseAt, Waiting, Went
from curation.types import Question
from webhooks import charts
from webhooks.charts import Point, Series
from webhooks.tables import Column, Table

ADVICE = {
    "ingest": "A delivery could not be applied: see refurbish inbox list --state quarantined. Then",
    "reconcile": "Label Studio could not be read: run refurbish labelstudio doctor. Then",
    "push": "Tasks could not be sent: run refurbish labelstudio doctor. Then",
    "refresh": "Suggestions could not be replaced: run refurbish labelstudio doctor. Then",
    "retrain": "Look at the failed run on the page Runs, mend its cause. Then",
    "export": "Mend what the error says, then make another on the page Exports, which is as good as",
}
"""By kind of job."""

USUAL_ADVICE = "Mend what the error says. Then"
QUEUE_WORDS = {
    "waiting": "waiting to be sent to Label Studio",
    "pushed": "in Label Studio, not answered yet",
    "tie": "moderators disagree, another answer is wanted",
}


def of(found: Mapping[str, Any]) -> list[Table]:
    """All tables of the page, by the values that `overview.developed` found."""
    return [
        _noise(found["noise"]),
        _days("corrections", "Listings that moderators decided, by day", found["corrections"], ("changed", "confirmed")),
        _days("hooks", "How answers reached us, by day", found["hooks"], ("webhook", "reconciliation")),
        _waiting(found["waiting"], found["now"]),
        _releases(found["releases"]),
        _dead(found["dead"]),
    ]


def drawn(found: Mapping[str, Any]) -> dict[str, Markup | None]:
    """The charts by name; None where there is too little to draw."""
    return {
        "noise": _noise_chart(found["noise"]),
        "corrections": _day_chart("Decisions a day", found["corrections"], ("label changed", "label confirmed")),
        "hooks": _day_chart("Answers a day", found["hooks"], ("brought by a webhook", "missed, healed by reconciliation")),
        "releases": _release_chart(found["releases"]),
    }


def _noise(rows: Sequence[NoiseAt]) -> Table:
    columns = [
        Column("day", "Up to"),
        Column("question", "Question"),
        Column("value", "Wrong", "share"),
        Column("low", "At least", "share"),
        Column("high", "At most", "share"),
        Column("n", "Audited", "number"),
    ]
    shown = [{"day": row.day.isoformat(), "question": row.question.value, **_estimate(row.found)} for row in reversed(rows)]
    empty = "No listing that was drawn at random has been decided yet; ask for some with refurbish review select."
    return Table("noise", "Wrong labels among those given, by week", columns, shown, empty)


def _days(name: str, caption: str, rows: Sequence[Day], titles: tuple[str, str]) -> Table:
    columns = [Column("day", "Day"), *(Column(title, title.capitalize(), "number") for title in titles)]
    seen = [row for row in reversed(rows) if row.first or row.second]
    shown = [{"day": row.day.isoformat(), titles[0]: row.first, titles[1]: row.second} for row in seen]
    return Table(name, caption, columns, shown, f"Nothing in the last {len(rows)} days.")


def _waiting(rows: Sequence[Waiting], now: datetime) -> Table:
    columns = [
        Column("what", "Questions"),
        Column("n", "Count", "number"),
        Column("oldest", "Oldest since", "moment"),
        Column("age", "Age"),
    ]
    shown = [
        {"what": QUEUE_WORDS[row.state], "n": row.n, "oldest": row.oldest, "age": age(now, row.oldest)} for row in rows if row.n
    ]
    return Table("waiting", "Questions that wait for an answer", columns, shown, "No question waits for an answer.")


def _releases(rows: Sequence[Went]) -> Table:
    columns = [
        Column("at", "Live since", "moment"),
        Column("model", "Model"),
        Column("action", "By"),
        Column("value", "Right", "share"),
        Column("low", "At least", "share"),
        Column("high", "At most", "share"),
        Column("n", "Verified listings", "number"),
        Column("before", "Model before it, same listings", "share"),
    ]
    shown = [
        {
            "at": row.at,
            "model": row.model,
            "action": row.action,
            **(row.accuracy or {}),
            "before": row.before["value"] if row.before else None,
        }
        for row in reversed(rows)
    ]
    return Table("releases", "Models that went live", columns, shown, "No model has gone live yet.")


def _dead(rows: Sequence[Any]) -> Table:
    columns = [
        Column("id", "Job", "number"),
        Column("kind", "Kind"),
        Column("finished_at", "Given up", "moment"),
        Column("error", "Error", "words"),
        Column("todo", "What to do", "words"),
    ]
    shown = [
        {
            "id": row.id,
            "kind": row.kind,
            "finished_at": row.finished_at,
            "error": row.error,
            "todo": f"{ADVICE.get(row.kind, USUAL_ADVICE)} refurbish jobs revive {row.id}",
        }
        for row in rows
    ]
    return Table("dead", "Jobs that were given up", columns, shown, "No job was given up.")


def _noise_chart(rows: Sequence[NoiseAt]) -> Markup | None:
    days = sorted({row.day for row in rows})
    if len(days) < 2:
        return None
    series = [
        Series(question.value, [_point(days, row.day, _estimate(row.found)) for row in rows if row.question is question])
        for question in Question
    ]
    highest = max(row.found.high for row in rows)
    return charts.lines(
        "Share of the given labels that are wrong, by all audited listings so far",
        [one for one in series if one.points],
        x_labels=[(_place(days, day), f"{day:%d %b}") for day in days],
        y_max=_ceiling(highest),
    )


def _release_chart(rows: Sequence[Went]) -> Markup | None:
    judged = [row for row in rows if row.accuracy]
    days = [row.at.date() for row in judged]
    if len(judged) < 2:
        return None
    last = len(judged) - 1
    points = [
        Point(
            at / last,
            row.accuracy["value"],
            row.accuracy["low"],
            row.accuracy["high"],
            f"{row.model}: {row.accuracy['value']:.1%}",
        )
        for at, row in enumerate(judged)
        if row.accuracy
    ]
    return charts.lines(
        "Share of verified listings that each live model got right when it was judged",
        [Series("right", points)],
        x_labels=[(at / last, f"{row.model}, {day:%d %b}") for at, (row, day) in enumerate(zip(judged, days, strict=True))],
    )


def _day_chart(title: str, rows: Sequence[Day], names: tuple[str, str]) -> Markup | None:
    most = max((max(row.first, row.second) for row in rows), default=0)
    if not most:
        return None
    days = [row.day for row in rows]
    series = [
        Series(
            name, [Point(_place(days, row.day), value, words=f"{row.day}: {value} {name}") for row, value in _valued(rows, at)]
        )
        for at, name in enumerate(names)
    ]
    labels = [(_place(days, day), f"{day:%d %b}") for day in days]
    return charts.lines(title, series, x_labels=labels, y_max=4 * -(-most // 4), is_share=False)


def _valued(rows: Sequence[Day], at: int) -> list[tuple[Day, int]]:
    return [(row, row.second if at else row.first) for row in rows]


def _estimate(found: Any) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _point(days: Sequence[date], day: date, found: Mapping[str, Any]) -> Point:
    words = f"{day}: {found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}] of {found['n']}"
    return Point(_place(days, day), found["value"], found["low"], found["high"], words)


def _place(days: Sequence[date], day: date) -> float:
    """Where a day stands between the first and the last, in [0, 1]."""
    return (day - days[0]).days / max(1, (days[-1] - days[0]).days)


def _ceiling(value: float) -> float:
    """The next tenth, at most 1."""
    return min(1.0, (int(value * 10) + 1) / 10)


def age(now: datetime, since: datetime | None) -> str:
    """How long ago, in the largest unit that fits."""
    if since is None:
        return ""
    seconds = max(0.0, (now - since).total_seconds())
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
