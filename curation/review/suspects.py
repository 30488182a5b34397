"""Suspects: listings whose label is doubted, with reasons in words. Derived whole by each run."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from curation.errors import ProbabilityError
from curation.quality.expected import ExpectedNoise
from curation.quality.held_out import SparseOutOfSample
from curation.quality.issues import Issues, Method, find_category_issues, find_violation_issues
from curation.quality.ranking import Audit
from curation.quality.sellers import Sellers
from curation.quality.validate import UNLABELLED, OutOfSample
from curation.store.tables import ListingRow, SuspectRow
from curation.types import LabelSource, Listing, Question, Reason, Suspect, join_violations, split_violations

CHUNK = 1000
Reasons = tuple[Reason, ...]
SHOWN_VIOLATION = 0.5
"""A violation is suggested where the model finds it at least as likely as not."""

MIN_CONFUSED = 3
"""Expected wrong labels that a confusion needs to be told of."""

SURE = 0.99
"""Probabilities beyond this are told as "over 99%"."""

SHOWN_VIEW = 0.3
"""What a view finds less probable than this is not told: it cannot tell."""

VIEWS = "views"
"""Code of the reason that tells what text and photo say alone."""

CONFUSION_RATE = 0.05
"""Share of a category's listings that a confusion needs to be told of."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row of the stored ranking; `rank` counts from 1, most doubtful first."""

    rank: int
    listing_id: int
    suspect: Suspect


def from_predictions(
    listings: Sequence[Listing],
    labels_by_ref: Mapping[str, tuple[str, LabelSource]],
    category_oos: OutOfSample | SparseOutOfSample,
    violation_probs: NDArray[np.floating],
    violations: tuple[str, ...],
    violation_labels_by_ref: Mapping[str, tuple[str, LabelSource]] | None = None,
    audited: Collection[str] = (),
    method: Method | str = Method.AUTO,
    views: Mapping[str, Reason] | None = None,
) -> dict[Question, list[Suspect]]:
    """Rank every listing by how much its label is doubted, most doubtful first, for both questions.

    `listings` are in the row order of `category_oos` (checked by ref); `violation_probs` is
    (N, V) in the order of `violations`. The labels are the current ones: a moderators' label is
    never a suspect. `audited`: refs of the listings that were drawn uniformly for audit; those that moderators
    decided choose the score that ranks the others, once there are enough. `method`: which are flagged.
    `views`: ref → what text and photo say alone (`view_reason`), told with a doubt.
    Raises ProbabilityError where arrays and listings do not fit together.
    """
    refs = tuple(listing.ref for listing in listings)
    if refs != tuple(category_oos.refs) or violation_probs.shape != (len(refs), len(violations)):
        raise ProbabilityError(
            f"{len(refs)} listings do not match {len(category_oos.refs)} rows of probabilities; predict them again"
        )
    return {
        Question.CATEGORY: categories(listings, labels_by_ref, category_oos, audited, method, views),
        Question.VIOLATION: _violation(listings, violation_labels_by_ref or {}, violation_probs, violations),
    }


def categories(
    listings: Sequence[Listing],
    labels_by_ref: Mapping[str, tuple[str, LabelSource]],
    oos: OutOfSample | SparseOutOfSample,
    audited: Collection[str] = (),
    method: Method | str = Method.AUTO,
    views: Mapping[str, Reason] | None = None,
) -> list[Suspect]:
    """The ranking of the question category alone, as in `from_predictions`."""
    given, source = _columns([labels_by_ref.get(listing.ref) for listing in listings])
    verified = np.array([who is LabelSource.MODERATORS for who in source], dtype=bool)
    issues, rows = _issues(listings, given, source, oos, audited, method)
    confused = _confusions(issues.noise, oos.classes)
    found = []
    for i in issues.order[np.argsort(verified[issues.order], kind="stable")]:
        suggested, p = oos.classes[issues.suggested[i]], float(issues.suggested_p[i])
        score, reasons = 1.0, Reasons()
        if not verified[i]:
            score, wrong = float(issues.score[i]), float(issues.wrong[i])
            known = confused.get((int(rows[i]), int(issues.suggested[i])), ())
            doubts = _category_reasons(listings[i], given[i], source[i], suggested, p, wrong)
            alone = (views or {}).get(listings[i].ref) if doubts else None
            reasons = (*doubts, *(() if alone is None else (alone,)), *known)
        is_issue = bool(issues.is_issue[i])
        found.append(Suspect(listings[i].ref, Question.CATEGORY, given[i], suggested, score, is_issue, p, reasons))
    return found


def _issues(
    listings: Sequence[Listing],
    given: Sequence[str | None],
    source: Sequence[LabelSource | None],
    oos: OutOfSample | SparseOutOfSample,
    audited: Collection[str],
    method: Method | str,
) -> tuple[Issues, NDArray[np.int64]]:
    """Doubt about each listing, and (N,) the class index of its label, -1 = none that the model knows."""
    index = {path: i for i, path in enumerate(oos.classes)}
    rows = np.array([index.get(value or "", UNLABELLED) for value in given], dtype=np.int64)
    verified = np.array([who is LabelSource.MODERATORS for who in source], dtype=bool)
    drawn = np.array([listing.ref in audited for listing in listings], dtype=bool)
    sold_as = np.array([index.get(listing.category or "", UNLABELLED) for listing in listings], dtype=np.int64)
    sellers, audit = _sellers(listings, given, source), Audit(drawn, sold_as)
    return find_category_issues(rows, oos, verified=verified, sellers=sellers, audit=audit, method=method), rows


def _confusions(noise: ExpectedNoise | None, classes: Sequence[str]) -> dict[tuple[int, int], Reasons]:
    """By (given, suggested): that listings of one category often belong in another."""
    found: dict[tuple[int, int], Reasons] = {}
    for one in noise.confusions(MIN_CONFUSED) if noise is not None else ():
        if one.rate is not None and one.rate.value >= CONFUSION_RATE:
            rate = one.rate.value
            share = f"{rate:.0%}" if rate > 0.5 else f"1 in {round(1 / rate)}"
            words = f"About {share} of the listings in {classes[one.given]} belong in {classes[one.suggested]}."
            found[one.given, one.suggested] = (Reason("confusion", rate, words),)
    return found


def _sellers(listings: Sequence[Listing], given: Sequence[str | None], source: Sequence[LabelSource | None]) -> Sellers:
    """Who chose each label; a repaired one is nobody's. Overruled: moderators say something else than the seller."""
    names = {name: i for i, name in enumerate(dict.fromkeys(x.seller_ref for x in listings if x.seller_ref is not None))}
    chose = [
        -1 if who is LabelSource.REFURBISHED else names.get(listing.seller_ref or "", -1)
        for listing, who in zip(listings, source, strict=True)
    ]
    overruled = [
        listing.category is not None and listing.category != value for listing, value in zip(listings, given, strict=True)
    ]
    return Sellers(np.array(chose, dtype=np.int64), np.array(overruled, dtype=bool))


def _columns(held: Sequence[tuple[str, LabelSource] | None]) -> tuple[list[str | None], list[LabelSource | None]]:
    """Values and sources of the labels, None where there is none."""
    return [one and one[0] for one in held], [one and one[1] for one in held]


def _category_reasons(
    listing: Listing, given: str | None, source: LabelSource | None, suggested: str, p: float, wrong: float
) -> Reasons:
    seen = "title and photos look like" if listing.photos else "the text reads like"
    if given is None:
        return (Reason("unlabelled", p, f"No category was given; {seen} {suggested} ({_percent(p)})."),)
    if given == suggested:
        return ()
    said = f"An earlier repair says {given}" if source is LabelSource.REFURBISHED else f"The seller chose {given}"
    doubt = f"; wrong with {_percent(wrong)}" if wrong > 0 else ""
    return (Reason("label_issue", p, f"{said}; {seen} {suggested} ({_percent(p)}){doubt}."),)


def view_reason(said: Sequence[tuple[str, str, float]]) -> Reason | None:
    """``Text alone says Home / Tools (92%), photo alone says Home / Decor (41%).`` Of (view, category, probability).

    None where no view is sure of anything.
    """
    sure = [(name, category, p) for name, category, p in said if p >= SHOWN_VIEW]
    if not sure:
        return None
    words = ", ".join(f"{name} alone says {category} ({_percent(p)})" for name, category, p in sure)
    return Reason(VIEWS, max(p for _, _, p in sure), f"{words[0].upper()}{words[1:]}.")


def _percent(share: float) -> str:
    """Never "0%" nor "100%" of what is only probable."""
    return f"over {SURE:.0%}" if share > SURE else f"under {1 - SURE:.0%}" if share < 1 - SURE else f"{share:.0%}"


def _violation(
    listings: Sequence[Listing],
    labels: Mapping[str, tuple[str, LabelSource]],
    probs: NDArray[np.floating],
    names: tuple[str, ...],
) -> list[Suspect]:
    given = np.full(probs.shape, np.nan)
    verified = np.zeros(len(listings), dtype=bool)
    for i, listing in enumerate(listings):
        value, source = labels.get(listing.ref, (join_violations(listing.flags), LabelSource.REPORT))
        verified[i] = source is LabelSource.MODERATORS
        reported = [names.index(name) for name in split_violations(value) if name in names]
        given[i] = 0.0 if verified[i] else np.nan
        given[i, reported] = 1.0
    issues = find_violation_issues(given, probs)
    found = []
    for i in issues.order[np.argsort(verified[issues.order], kind="stable")]:
        flagged = [name for name, p in zip(names, probs[i], strict=True) if p >= SHOWN_VIOLATION]
        best = float(probs[i].max(initial=0.0)) if flagged else 1.0 - float(probs[i].max(initial=0.0))
        value = labels.get(listings[i].ref, (join_violations(listings[i].flags), None))[0]
        reasons = () if verified[i] else _violation_reasons(listings[i], names, probs[i])
        score = 1.0 if verified[i] else float(issues.score[i])
        issue = bool(issues.is_issue[i]) and not verified[i]
        found.append(Suspect(listings[i].ref, Question.VIOLATION, value, join_violations(flagged), score, issue, best, reasons))
    return found


def report_reasons(flags: Sequence[str]) -> list[Reason]:
    """One reason for each thing the listing was reported as."""
    return [Reason("reported", 1.0, f"Reported by users as {_words(name)}.") for name in flags]


def _violation_reasons(listing: Listing, names: tuple[str, ...], probs: NDArray[np.floating]) -> Reasons:
    seen = [(float(p), name) for name, p in zip(names, probs, strict=True) if p >= SHOWN_VIOLATION]
    return (
        *report_reasons(listing.flags),
        *(
            Reason("model_violation", p, f"The model sees {_words(name)} ({_percent(p)}).")
            for p, name in sorted(seen, reverse=True)
        ),
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def replace(session: Session, question: Question, suspects: Sequence[Suspect], *, run_id: int | None) -> int:
    """Put this ranking in the place of the one before, in the caller's transaction; how many rows."""
    session.execute(delete(SuspectRow).where(SuspectRow.question == question.value))
    n_stored = 0
    for first in range(0, len(suspects), CHUNK):
        part = suspects[first : first + CHUNK]
        refs = [suspect.listing_ref for suspect in part]
        pairs = session.execute(select(ListingRow.ref, ListingRow.id).where(ListingRow.ref.in_(refs))).all()
        ids = {row.ref: row.id for row in pairs}
        rows = [
            _row(suspect, ids[suspect.listing_ref], first + i + 1, run_id)
            for i, suspect in enumerate(part)
            if suspect.listing_ref in ids
        ]
        if rows:
            session.execute(insert(SuspectRow), rows)
        n_stored += len(rows)
    return n_stored


def _row(suspect: Suspect, listing_id: int, rank: int, run_id: int | None) -> dict[str, object]:
    return {
        "listing_id": listing_id,
        "question": suspect.question.value,
        "run_id": run_id,
        "rank": rank,
        "given": suspect.given,
        "suggested": suspect.suggested,
        "suggested_score": suspect.suggested_score,
        "score": suspect.score,
        "is_issue": suspect.is_issue,
        "reasons": [asdict(reason) for reason in suspect.reasons],
    }


def ranked(session: Session, question: Question, *, limit: int = CHUNK, after_rank: int = 0) -> list[Ranked]:
    """The next page of the ranking after `after_rank`, most doubtful first."""
    rows = session.execute(
        select(SuspectRow, ListingRow.ref)
        .join(ListingRow, ListingRow.id == SuspectRow.listing_id)
        .where(SuspectRow.question == question.value, SuspectRow.rank > after_rank)
        .order_by(SuspectRow.rank)
        .limit(limit)
    ).all()
    return [Ranked(row.rank, row.listing_id, _record(row, ref)) for row, ref in rows]


def _record(row: SuspectRow, ref: str) -> Suspect:
    reasons = tuple(Reason(**reason) for reason in row.reasons)
    question = Question(row.question)
    return Suspect(ref, question, row.given, row.suggested, row.score, row.is_issue, row.suggested_score, reasons)
