"""The figures on label quality that need the whole catalog: counted by the worker job `insight`, kept for the pages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.orm import Session

from curation.errors import NotFoundError
from curation.quality.metrics import Estimate
from curation.quality.periods import By
from curation.review import agreement, breadth, insight_schedule, judged, noise, periods
from curation.review.agreement import Person
from curation.review.judged import Judged
from curation.review.matrix import Expected
from curation.store.jobrun import JobRun
from curation.store.workspace import Workspace, get_state, set_state

STATE = "insight"


@dataclass(frozen=True, slots=True)
class Breadth:
    """One category: is it broad? Figures are None where the run predicted too few of its listings."""

    category: str
    n: int
    state: str  #: `broad`, `usual` or `not estimable`
    effective: Estimate | None  #: categories that its listings could as well be in
    elsewhere: Estimate | None  #: share whose most likely category is another one
    confused_with: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Confused:
    """Two categories that the model takes for each other."""

    a: str
    b: str
    there: Estimate  #: share of a's listings that the model puts into b
    back: Estimate
    is_merge: bool  #: more than wrong labels explain
    examples: tuple[str, ...]  #: refs in a that look like b


@dataclass(frozen=True, slots=True)
class Month:
    """Listings of one month; a figure is None where nothing was counted."""

    name: str
    n: int
    figures: dict[str, Estimate | None]  #: by `periods.Figure`
    drifts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelView:
    """What the newest run's held-out predictions say."""

    run_id: int
    overall: Estimate | None  #: share of wrong labels
    expected: tuple[Expected, ...]
    breadth: tuple[Breadth, ...]
    confused: tuple[Confused, ...]
    dated_by: str
    n_undated: int
    months: tuple[Month, ...]


@dataclass(frozen=True, slots=True)
class Insight:
    """All of it, and when it was counted. `why_none` says why there is no model's view."""

    at: datetime
    model: ModelView | None
    why_none: str
    people: tuple[Person, ...]


_ADAPTER = TypeAdapter(Insight)


def handle(run: JobRun) -> None:
    """The `insight` job."""
    with run.workspace.db.read() as session:
        seen, now = insight_schedule.version(session), run.workspace.db.now(session)
    found = count(run.workspace, now=now)
    with run.finishing() as session:
        set_state(session, STATE, _ADAPTER.dump_python(found, mode="json"), now=now)
        set_state(session, insight_schedule.SEEN, {**seen, "at": now.isoformat()}, now=now)


def count(workspace: Workspace, *, now: datetime) -> Insight:
    """Count everything anew; nothing is written."""
    with workspace.db.read() as session:
        people = agreement.people(session)
    try:
        return Insight(now, _model_view(workspace, judged.load(workspace)), "", people)
    except NotFoundError as error:
        return Insight(now, None, str(error), people)


def load(session: Session) -> Insight | None:
    """What was counted last; None before the first time."""
    value = get_state(session, STATE)
    return None if value is None else _ADAPTER.validate_python(value, strict=False)


def _model_view(workspace: Workspace, catalog: Judged) -> ModelView:
    wrong, broad, history = (
        noise.report(workspace, catalog),
        breadth.report(workspace, catalog),
        periods.history(catalog, By.MONTH),
    )
    return ModelView(
        catalog.run_id,
        wrong.overall,
        tuple(_expected(row) for row in wrong.rows),
        tuple(_breadth(row) for row in broad.rows),
        tuple(_confused(pair) for pair in broad.confusions),
        history.dated_by,
        history.n_undated,
        tuple(_month(period) for period in history.periods),
    )


def _expected(row: noise.Row) -> Expected:
    return Expected(row.category, row.n, row.n_wrong, tuple((to.category, to.n_wrong) for to in row.targets))


def _breadth(row: breadth.Row) -> Breadth:
    return Breadth(row.category, row.n, row.state, row.figures.effective, row.figures.elsewhere, row.confused_with)


def _confused(pair: breadth.Pair) -> Confused:
    return Confused(pair.a, pair.b, pair.found.there, pair.found.back, pair.found.is_merge, pair.examples)


def _month(period: periods.Period) -> Month:
    figures: dict[str, Any] = {figure.value: one for figure, one in period.figures.items()}
    return Month(period.name, period.n, figures, tuple(figure.value for figure in period.drifts))
