"""What a run's page shows, as tables and as the charts beside them."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from curation.release.drawing import drawing
from curation.release.genotype import Genotype
from curation.release.run_view import Beside, Curve, CurvePoint, Epoch, RunView
from webhooks import charts
from webhooks.charts import Point, Series
from webhooks.tables import Column, Table

NO_BREAK = "\N{NO-BREAK SPACE}"
STAGES = {
    "read": "read the snapshot",
    "features": "make features",
    "folds": "predict held-out listings",
    "suspects": "rank doubted labels",
    "fit": "fit the model",
    "export": "write the model's files",
    "evaluate": "judge it",
    "total": "all together",
}


def of(view: RunView) -> list[Table]:
    """All tables of the page."""
    return [
        _checks(view),
        _beside(view.beside),
        _cuts(view),
        *(_curve(number, curve) for number, curve in enumerate(view.curves)),
        _epochs(view.epochs),
        _seconds(view),
        _settings(view),
        _cells(view.cells),
        _race(view),
        _labels(view),
    ]


def drawn(view: RunView) -> dict[str, Any]:
    """The charts; None or empty where there is nothing to draw."""
    return {
        "epoch_chart": _epoch_chart(view.epochs),
        "curve_charts": [
            {"curve": curve, "table": f"curve{number}", "chart": _curve_chart(curve)} for number, curve in enumerate(view.curves)
        ],
        "cells_drawing": None if view.cells is None else Markup(drawing(view.cells)),  # noqa: S704 - made by us of checked names
        "took": duration(view.run.n_seconds),
    }


def duration(seconds: float | None) -> str | None:
    """Seconds in words."""
    if seconds is None:
        return None
    size, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.0f}{NO_BREAK}{unit}"


def _checks(view: RunView) -> Table:
    columns = [Column("name", "Question"), Column("answer", "Passed"), Column("words", "In words", "words")]
    rows = [
        {"name": one.name, "answer": "yes" if one.passed else "no", "words": one.words, "is_bad": not one.passed}
        for one in view.checks
    ]
    empty = "This run was not judged by the gate."
    return Table("checks", "What the gate asked", columns, rows, empty, alarm="is_bad")


def _beside(found: Sequence[Beside]) -> Table:
    columns = [
        Column("name", "Figure"),
        Column("ours", "This run", "share"),
        Column("ours_low", "At least", "share"),
        Column("ours_high", "At most", "share"),
        Column("theirs", "Live then", "share"),
        Column("theirs_low", "At least", "share"),
        Column("theirs_high", "At most", "share"),
        Column("n", "Listings", "number"),
    ]
    rows = [
        {
            "name": one.name,
            "ours": one.ours.value,
            "ours_low": one.ours.low,
            "ours_high": one.ours.high,
            "theirs": one.theirs.value,
            "theirs_low": one.theirs.low,
            "theirs_high": one.theirs.high,
            "n": one.ours.n,
        }
        for one in found
    ]
    empty = "There are no figures: the run ended before its model was judged, or no verified listing was left to judge it by."
    return Table("beside", "Both models on the same verified listings", columns, rows, empty)


def _cuts(view: RunView) -> Table:
    columns = [
        Column("violation", "Violation"),
        Column("value", "Flagged from", "score"),
        Column("precision", "Precision at least", "share"),
        Column("recall", "Recall", "share"),
        Column("words", "In words", "words"),
    ]
    rows = [
        {
            "violation": one.violation,
            "value": one.value,
            "precision": one.precision.low if one.value is not None else None,
            "recall": one.recall.value if one.value is not None else None,
            "words": one.words,
        }
        for one in view.cuts
    ]
    return Table("cuts", "Thresholds from which violations are flagged", columns, rows, "This run certified no thresholds.")


def _curve(number: int, curve: Curve) -> Table:
    columns = [
        Column("score", "Flagged from", "score"),
        Column("recall", "Recall", "share"),
        Column("precision", "Precision", "share"),
        Column("low", "At least", "share"),
        Column("high", "At most", "share"),
    ]
    rows = [{name: getattr(point, name) for name in CurvePoint.__slots__} for point in curve.ours]
    return Table(f"curve{number}", f"Precision and recall of {curve.violation}", columns, rows)


def _curve_chart(curve: Curve) -> Markup | None:
    if len(curve.ours) < 2:
        return None
    series = [Series("this run", [_point(point, banded=True) for point in curve.ours])]
    if curve.theirs:
        series.append(Series("live then", [_point(point, banded=False) for point in curve.theirs]))
    marked = [Point(curve.at[0], curve.at[1], words=f"certified threshold: recall {curve.at[0]:.1%}")] if curve.at else []
    return charts.lines(
        f"Precision against recall of {curve.violation}",
        series,
        x_labels=[(quarter / 4, f"{quarter / 4:.0%}") for quarter in range(5)],
        x_title="recall",
        marked=marked,
    )


def _point(point: CurvePoint, *, banded: bool) -> Point:
    words = f"flagged from {point.score:.3f}: recall {point.recall:.1%}, precision {point.precision:.1%}"
    if not banded:
        return Point(point.recall, point.precision, words=words)
    return Point(point.recall, point.precision, point.low, point.high, words)


def _epochs(found: Sequence[Epoch]) -> Table:
    columns = [
        Column("epoch", "Epoch", "number"),
        Column("validation", "Loss on validation rows", "score"),
        Column("training", "Loss in training", "score"),
        Column("kept", "Kept"),
    ]
    rows = [
        {"epoch": one.number, "validation": one.validation, "training": one.training, "kept": "kept" if one.is_kept else None}
        for one in found
    ]
    return Table("epochs", "Loss by epoch", columns, rows, "This run recorded no losses.")


def _epoch_chart(found: Sequence[Epoch]) -> Markup | None:
    if len(found) < 2:
        return None
    span = len(found) - 1
    lines = {"on validation rows": [one.validation for one in found], "in training": [one.training for one in found]}
    series = [
        Series(name, [Point(at / span, value, words=f"epoch {at + 1}, {name}: {value:.3f}") for at, value in _known(values)])
        for name, values in lines.items()
    ]
    highest = max((point.y for one in series for point in one.points), default=1.0)
    kept = [
        Point((one.number - 1) / span, one.validation, words=f"epoch {one.number} was kept")
        for one in found
        if one.is_kept and one.validation is not None
    ]
    return charts.lines(
        "Loss after each epoch",
        [one for one in series if one.points],
        x_labels=[(at / span, str(at + 1)) for at in range(len(found))],
        y_max=max(1.0, -(-highest // 0.4) * 0.4),
        is_share=False,
        x_title="epoch",
        marked=kept,
    )


def _known(values: Sequence[float | None]) -> list[tuple[int, float]]:
    return [(at, value) for at, value in enumerate(values) if value is not None]


def _seconds(view: RunView) -> Table:
    columns = [Column("stage", "Stage"), Column("seconds", "Seconds", "number")]
    rows = [{"stage": STAGES.get(name, name), "seconds": round(value, 1)} for name, value in view.seconds]
    return Table("seconds", "Where the time went", columns, rows, "This run recorded no times.")


def _settings(view: RunView) -> Table:
    columns = [Column("name", "Setting", "code"), Column("value", "Value", "code")]
    rows = [{"name": name, "value": value} for name, value in view.settings]
    return Table("settings", "What the run was told", columns, rows, "This run recorded no settings.")


def _cells(cells: Genotype | None) -> Table:
    columns = [
        Column("cell", "Cell"),
        Column("source", "From", "number"),
        Column("node", "To", "number"),
        Column("op", "Operation"),
    ]
    rows = [
        {"cell": name, "source": edge.source, "node": edge.node, "op": edge.op}
        for name, edges in (cells.cells if cells else ())
        for edge in edges
    ]
    return Table("cells", "Edges of the searched cells", columns, rows, "This run has no searched cells.")


def _race(view: RunView) -> Table:
    columns = [
        Column("name", "Design"),
        Column("rung", "Rung", "number"),
        Column("score", "Score", "score"),
        Column("n_parameters", "Parameters", "number"),
    ]
    rows = [{column.key: getattr(one, column.key) for column in columns} for one in view.race]
    return Table("race", "The race of what was found and its rivals", columns, rows, "This run was no search.")


def _labels(view: RunView) -> Table:
    columns = [Column("question", "Question"), Column("source", "Who stands behind it"), Column("n", "Labels", "number")]
    counts = view.snapshot.summary.get("labels", {}) if view.snapshot else {}
    rows = [
        {"question": question, "source": source, "n": n} for question, sources in counts.items() for source, n in sources.items()
    ]
    return Table("labels", "Labels it learned from", columns, rows, "The snapshot of this run is not known any more.")
