"""One run as people look at it. Reports of older versions and of failed runs lack parts: nothing is taken for granted."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from curation.errors import ConfigError, NotFoundError
from curation.release import registry, snapshot
from curation.release.genotype import Genotype
from curation.release.registry import Model, Run
from curation.release.snapshot import Snapshot

VALUE_LIMIT = 160
"""Characters of a setting that are shown; the download has all."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A share with its interval, all in [0, 1] and None where nothing is known, from `n` rows."""

    value: float | None
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True, slots=True)
class Beside:
    """One figure of the run's model and of the model that was live then, on the same rows."""

    name: str
    ours: Figure
    theirs: Figure


@dataclass(frozen=True, slots=True)
class Checked:
    """One question of the gate."""

    name: str
    passed: bool
    words: str


@dataclass(frozen=True, slots=True)
class Cut:
    """The certified threshold of a violation, or why there is none, in `words`."""

    violation: str
    value: float | None
    precision: Figure
    recall: Figure
    words: str


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Flagging from `score` on finds `recall` of the violations, and `precision` of what it flags is right."""

    score: float
    recall: float
    precision: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision against recall of one violation. `at` is where the certified threshold lies on the same rows, if there is one."""

    violation: str
    n_positive: int | None
    ours: Sequence[CurvePoint]
    theirs: Sequence[CurvePoint]
    at: tuple[float, float] | None  #: recall and precision


@dataclass(frozen=True, slots=True)
class Epoch:
    """Losses after one epoch, from 1."""

    number: int
    validation: float | None
    training: float | None
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Raced:
    """One design in one rung of a search's race."""

    name: str
    rung: int | None
    score: float | None
    n_parameters: int | None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run with what its report holds; parts that are not there are empty."""

    run: Run
    models: Sequence[Model]
    missing_model: str | None  #: named by the report, but not registered any more
    snapshot: Snapshot | None
    error: str | None
    verdict: str | None
    checks: Sequence[Checked]
    beside: Sequence[Beside]
    champion: str | None  #: its name, or why it gave no answers
    cuts: Sequence[Cut]
    curves: Sequence[Curve]
    epochs: Sequence[Epoch]
    seconds: Sequence[tuple[str, float]]
    settings: Sequence[tuple[str, str]]
    cells: Genotype | None
    race: Sequence[Raced]
    words: str | None  #: what a search found

    @property
    def is_empty(self) -> bool:
        """Whether the run left no report."""
        return not self.run.report


def of(session: Session, run_id: int) -> RunView:
    """The run with this id. Raises NotFoundError."""
    run = registry.run(session, run_id)
    made, report = registry.of_run(session, run_id), run.report
    named = _text(report.get("model"))
    ours, theirs, gate = (_map(report.get(name)) for name in ("challenger", "champion", "gate"))
    return RunView(
        run=run,
        models=made,
        missing_model=named if named and named not in {model.name for model in made} else None,
        snapshot=_snapshot(session, run.snapshot_id),
        error=_text(report.get("error")),
        verdict=_text(gate.get("words")),
        checks=[
            Checked(_text(one.get("name")) or "", bool(one.get("passed")), _text(one.get("words")) or "")
            for one in _maps(gate.get("checks"))
        ],
        beside=list(_beside(ours, theirs)),
        champion=_text(theirs.get("error")) or _text(theirs.get("name")),
        cuts=[_cut(name, found) for name, found in _named(ours.get("violations"))],
        curves=list(_curves(report)),
        epochs=_epochs(_map(report.get("fit"))),
        seconds=[(str(name), float(value)) for name, value in _map(report.get("seconds")).items() if _number(value) is not None],
        settings=list(_flat(run.config)),
        cells=_cells(run),
        race=[_raced(one) for one in _maps(report.get("race"))],
        words=_text(report.get("words")),
    )


def _raced(one: Mapping[str, Any]) -> Raced:
    counts = _count(one.get("rung")), _number(one.get("score")), _count(one.get("n_parameters"))
    return Raced(_text(one.get("name")) or "unnamed", *counts)


def _snapshot(session: Session, snapshot_id: int | None) -> Snapshot | None:
    try:
        return None if snapshot_id is None else snapshot.by_id(session, snapshot_id)
    except NotFoundError:
        return None


def _beside(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[Beside]:
    """Accuracies, and of each violation that occurs how well it is ranked."""
    for key, name in (("accuracy", "category right"), ("root_accuracy", "top-level category right")):
        if key in ours:
            yield Beside(name, _figure(ours.get(key)), _figure(theirs.get(key)))
    others = _map(theirs.get("violations"))
    for violation, found in _named(ours.get("violations")):
        other = _map(others.get(violation))
        mine, rival = _figure(found.get("average_precision")), _figure(other.get("average_precision"))
        if mine.value is not None:
            yield Beside(f"average precision of {violation}", mine, rival)


def _cut(violation: str, found: Mapping[str, Any]) -> Cut:
    cut = _map(found.get("threshold"))
    words = _text(cut.get("words")) or "this run certified no thresholds"
    return Cut(violation, _number(cut.get("value")), _figure(cut.get("precision")), _figure(cut.get("recall")), words)


def _curves(report: Mapping[str, Any]) -> Iterator[Curve]:
    sides = _map(report.get("curves"))
    ours, theirs = _map(sides.get("challenger")), _map(sides.get("champion"))
    judged = _map(_map(report.get("challenger")).get("violations"))
    for violation, columns in _named(ours):
        points, found = _points(columns), _map(judged.get(violation))
        recall, precision = _figure(found.get("certified_recall")), _figure(found.get("certified_precision"))
        at = None if recall.value is None or precision.value is None else (recall.value, precision.value)
        if points:
            yield Curve(violation, _count(found.get("n_positive")), points, _points(_map(theirs.get(violation))), at)


def _points(columns: Mapping[str, Any]) -> list[CurvePoint]:
    values = [columns.get(name) for name in CurvePoint.__slots__]
    if not all(isinstance(column, list) for column in values):
        return []
    rows = ([_number(value) for value in row] for row in zip(*(column or [] for column in values), strict=False))
    return [CurvePoint(*(value for value in row if value is not None)) for row in rows if None not in row]


def _epochs(fit: Mapping[str, Any]) -> list[Epoch]:
    losses, trained = (found if isinstance(found, list) else [] for found in (fit.get("losses"), fit.get("train_losses")))
    if not fit.get("n_validation"):  # without validation rows the run kept its training losses under both names
        losses, trained = [], trained or losses
    n = max(len(losses), len(trained))
    kept = _count(fit.get("best_epoch"))
    return [Epoch(at + 1, _at(losses, at), _at(trained, at), at + 1 == kept) for at in range(n)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            text = json.dumps(value, ensure_ascii=False)
            yield f"{prefix}{name}", text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 1]}…"


def _cells(run: Run) -> Genotype | None:
    """What a search found, or what a detector was told to build."""
    found, told = run.report.get("genotype"), _map(run.config.get("train")).get("architecture")
    text = json.dumps(found) if isinstance(found, Mapping) else told
    try:
        return Genotype.from_json(text) if isinstance(text, str) and text else None
    except ConfigError:
        return None


def _figure(value: object) -> Figure:
    found = _map(value)
    low, high = _number(found.get("low")), _number(found.get("high"))
    share = _number(found.get("value"))
    return Figure(share, low if share is not None else None, high if share is not None else None, _count(found.get("n")))


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _maps(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _named(value: object) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(name), _map(found)) for name, found in sorted(_map(value).items())]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _at(values: Sequence[object], at: int) -> float | None:
    return _number(values[at]) if at < len(values) else None
