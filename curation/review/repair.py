"""Repairs: wrong categories changed without asking anybody, where moderators' answers certify that this is right often enough.

Derived like suspects: each run plans the whole set anew, from its out-of-sample probabilities and the answers there are. What is
planned is certified by `curation.quality.repair`; here stands which listings are evidence, and which may be changed at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import InputError, NotFoundError, shorten
from curation.quality import repair
from curation.quality.held_out import SparseOutOfSample, dense, renamed
from curation.quality.repair import Promise
from curation.quality.sparse import TopK
from curation.quality.validate import UNLABELLED, OutOfSample
from curation.release.labels import renamed_paths
from curation.review.probabilities import REPORT_KEY, HeldOut, check_held
from curation.review.repair_evidence import (
    QUESTION,
    Opinion,
    Placed,
    check_opinion,
    drawn,
    evidence,
    given_unanswered,
    placed,
    voted,
)
from curation.store import labels
from curation.store.tables import LabelRow, ListingRow, RunRow
from curation.store.workspace import get_state, lock_state, set_state
from curation.types import LabelSource

STATE = "repair.category"
"""Where the report of the last repair is kept."""

RUN, REF = "run:", "ref:"


@dataclass(frozen=True, slots=True)
class Change:
    """One label that a plan changes."""

    listing_id: int
    ref: str
    given: str  #: what the seller chose
    suggested: str
    score: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run would change, most certain first, and the promise it rests on."""

    run_id: int
    sha256: str | None  #: of the probabilities
    promise: Promise
    changes: tuple[Change, ...]
    n_barred: int  #: the model says something else of them, but somebody undid their repair
    n_failed: int  #: of the evidence: repaired once, and moderators said something else


@dataclass(frozen=True, slots=True)
class Applied:
    """What a plan did to the ledger."""

    n_changed: int  #: labels that were not repaired so before
    n_upheld: int
    n_taken_back: int  #: went back to what the seller chose


def plan(
    session: Session,
    run_id: int,
    oos: HeldOut,
    *,
    target: float,
    opinion: Opinion | None = None,
    sha256: str | None = None,
) -> Plan:
    """What the run's out-of-sample probabilities would change at this precision; nothing is written.

    `opinion` is in the row order and the classes of `oos`; by default it is `curation.quality.repair.suggestions` of the
    sellers' labels. Verified listings are judged by the seller's label, too: would it have been changed, and into what
    moderators decided? A repaired label is never evidence; one that moderators overruled counts as wrong up to the score
    it was repaired at, whatever the model says now. An opinion on a category that the seller has changed since says
    nothing. Categories go by their present paths. Raises ProbabilityError on arrays that do not fit together.
    """
    all_ = _weigh(session, oos, opinion)
    known, n_failed = evidence(session, all_.rows, all_.moved, all_.suggested, all_.opinion, all_.renames)
    barred = labels.undone(session, QUESTION)
    waiting = [one for one in all_.unanswered if one.id not in barred]
    found = repair.promise(_scores(waiting, all_.opinion), known, target)
    changes = [_change(one, all_.suggested, all_.opinion) for one in waiting if all_.opinion.score[one.row] >= found.cut]
    ranked = tuple(sorted(changes, key=lambda change: (-change.score, change.ref)))
    return Plan(run_id, sha256 or _sha256(session, run_id), found, ranked, len(all_.unanswered) - len(waiting), n_failed)


def to_draw(session: Session, oos: HeldOut, opinion: Opinion | None, *, target: float) -> tuple[dict[int, str], int]:
    """Listings to be asked about at random only, id → near-duplicate group, and how many of them should be.

    They are the surest would-be changes that nobody was asked about, as long as too few were drawn (`quality.repair.to_draw`).
    """
    all_ = _weigh(session, oos, opinion)
    by_chance, open_ids = drawn(session), {one.id for one in all_.unanswered}
    scores = _scores(all_.moved, all_.opinion)
    is_drawn = np.array([one.ref in by_chance for one in all_.moved], dtype=bool)
    waiting = np.array([one.id in open_ids for one in all_.moved], dtype=bool) & ~is_drawn
    cut, n = repair.to_draw(scores, waiting, is_drawn, target)
    return {one.id: one.group_key for one, p, still in zip(all_.moved, scores, waiting, strict=True) if still and p >= cut}, n


def apply(session: Session, planned: Plan, *, now: datetime) -> Applied:
    """Write the plan's labels in the place of all earlier repairs, in the caller's transaction, each with its evidence.

    What somebody answered, or a seller placed elsewhere, since the plan was made is left out.
    """
    lock_state(session, STATE)
    before = labels.repaired(session, QUESTION)
    kept = _in_force(session, planned, before)
    changes = {change.listing_id: (value, change.score) for change, value in kept}
    proofs = {change.listing_id: _proof(planned, change) for change, _ in kept}
    n = labels.refurbish(session, QUESTION, changes, run_id=planned.run_id, now=now, evidence=proofs)
    n_taken_back = len(before.keys() - changes.keys())
    n_upheld = sum(changes.get(listing_id, ("", 0.0))[0] == value for listing_id, value in before.items())
    applied = Applied(max(0, n - n_taken_back), n_upheld, n_taken_back)
    set_state(session, STATE, {**report(planned), **asdict(applied)}, now=now)
    return applied


def to_undo(session: Session, what: str) -> dict[int, str]:
    """The repaired listings that `what` names, by id → value: a run (7 or run:7) or a listing's ref (L or ref:L).

    Raises NotFoundError if it names no repair, InputError if it may mean either.
    """
    by_run = what.removeprefix(RUN) if what.startswith(RUN) or what.isdecimal() else ""
    run = labels.repaired(session, QUESTION, run_id=int(by_run)) if by_run.isdecimal() else {}
    ref = {} if what.startswith(RUN) else _repaired_ref(session, what.removeprefix(REF))
    if run and ref:
        raise InputError(f"{shorten(what)} is a run and a listing; say {RUN}{what} or {REF}{what}")
    if not run and not ref:
        raise NotFoundError(
            f"{shorten(what)} is no run whose repairs are in force and no repaired listing; see `refurbish history`"
        )
    return run or ref


def undo(session: Session, listing_ids: Iterable[int], *, now: datetime, by: str = "", reason: str = "") -> int:
    """Give these listings back what their sellers chose; no later run repairs them. How many were repaired.

    `by` and `reason` are kept in the history.
    """
    lock_state(session, STATE)
    why = {name: value for name, value in (("by", by), ("reason", reason)) if value}
    return labels.undo_repairs(session, QUESTION, listing_ids, now=now, why=why)


def last(session: Session) -> dict[str, Any] | None:
    """The report of the last repair that was written; None before the first."""
    return get_state(session, STATE)


def report(planned: Plan) -> dict[str, Any]:
    """The plan's figures as JSON holds them; a missing figure is None."""
    found = asdict(planned.promise)
    figures = {name: float(value) if isinstance(value, np.floating) else value for name, value in found.items()}
    figures |= {name: None for name in ("cut", "precision") if not planned.promise.holds}
    return {
        "run": planned.run_id,
        "probabilities": planned.sha256,
        "n_barred": planned.n_barred,
        "n_failed": planned.n_failed,
        **figures,
        "words": words(planned.promise),
    }


def words(found: Promise) -> str:
    """The estimate in two or three sentences."""
    if found.holds:
        low = int(found.precision_low * 1000) / 1000
        return (
            f"{found.n_changes:,} labels score {found.cut:.3f} or more. Of the {found.n:,} listings drawn at random that stand "
            f"in for them {found.n_right:,} are right, so with 95 % confidence at least {low:.1%} are "
            f"(target {found.target:.0%}, {found.n_cuts} cuts tried)."
        )
    if not found.n_missing:
        return "Nothing is changed: the model suggests nothing else for any label that nobody has decided."
    return (
        f"Nothing is changed: {found.n_evidence:,} listings that were drawn at random and decided tell something about such "
        f"changes, which certifies no cut at {found.target:.0%}. {found.n_missing:,} more that score {found.next_cut:.3f} or "
        "more, all right, would."
    )


@dataclass(frozen=True, slots=True)
class _Weighed:
    """The listings of a run beside its opinion, categories by their present paths."""

    rows: list[Placed]
    moved: list[Placed]  #: those that some cut would change
    unanswered: list[Placed]  #: of these
    suggested: list[str]  #: by row of the opinion
    opinion: Opinion
    renames: Mapping[str, str]


def _weigh(session: Session, oos: HeldOut, opinion: Opinion | None) -> _Weighed:
    check_held(oos)
    renames = renamed_paths(session)
    rows = placed(session, oos.refs, renames)
    if opinion is None:
        oos = renamed(dense(oos) if isinstance(oos, SparseOutOfSample) else oos, renames)
        opinion = _by_model(oos, rows)
    opinion = check_opinion(opinion, len(oos.refs), len(oos.classes))
    names = [renames.get(path, path) for path in oos.classes]
    suggested = [names[k] for k in opinion.suggested.tolist()]
    moved = [one for one in rows if suggested[one.row] != one.given and _may(one, opinion, names)]
    answered = voted(session)
    unanswered = [one for one in moved if one.decided is None and one.ref not in answered]
    return _Weighed(rows, moved, unanswered, suggested, opinion, renames)


def _by_model(oos: OutOfSample, rows: list[Placed]) -> Opinion:
    index = {path: k for k, path in enumerate(oos.classes)}
    given = np.full(len(oos.refs), UNLABELLED, dtype=np.int64)
    given[[one.row for one in rows]] = [index.get(one.given, UNLABELLED) for one in rows]
    return Opinion(*repair.suggestions(TopK.of(oos.pred_probs, given)))


def _may(one: Placed, opinion: Opinion, names: Sequence[str]) -> bool:
    """The opinion would change the listing, and is one on the category that the seller says now."""
    if not opinion.score[one.row] > 0 or (opinion.may is not None and not opinion.may[one.row]):
        return False
    judged = UNLABELLED if opinion.given is None else int(opinion.given[one.row])
    return judged == UNLABELLED or names[judged] == one.given


def _in_force(session: Session, planned: Plan, before: Mapping[int, str]) -> list[tuple[Change, str]]:
    """The changes that nothing has overtaken, with the label of each: its present name, or as it was repaired before."""
    renames = renamed_paths(session)
    given = given_unanswered(session, [change.listing_id for change in planned.changes])
    kept = []
    for change in planned.changes:
        said = given.get(change.listing_id)
        value, held = renames.get(change.suggested, change.suggested), before.get(change.listing_id)
        if said is not None and renames.get(said, said) == renames.get(change.given, change.given) != value:
            kept.append((change, held if held is not None and renames.get(held, held) == value else value))
    return kept


def _repaired_ref(session: Session, ref: str) -> dict[int, str]:
    query = select(LabelRow.listing_id, LabelRow.value).join(ListingRow, ListingRow.id == LabelRow.listing_id)
    mine = (ListingRow.ref == ref, LabelRow.question == QUESTION.value, LabelRow.source == LabelSource.REFURBISHED.value)
    return {row.listing_id: row.value for row in session.execute(query.where(*mine))}


def _scores(rows: list[Placed], opinion: Opinion) -> NDArray[np.float64]:
    return np.array([opinion.score[one.row] for one in rows], dtype=np.float64)


def _change(one: Placed, suggested: list[str], opinion: Opinion) -> Change:
    return Change(one.id, one.ref, one.given, suggested[one.row], float(opinion.score[one.row]))


def _proof(planned: Plan, change: Change) -> dict[str, Any]:
    promise = planned.promise
    return {
        "probabilities": planned.sha256,
        "given": change.given,
        "suggested": change.suggested,
        "score": change.score,
        "cut": promise.cut,
        "target": promise.target,
        "precision": promise.precision,
        "precision_low": promise.precision_low,
        "n_verified": promise.n,
        "n_right": promise.n_right,
    }


def _sha256(session: Session, run_id: int) -> str | None:
    found = session.execute(select(RunRow.report).where(RunRow.id == run_id)).scalar_one_or_none()
    return None if found is None else found.get(REPORT_KEY)
