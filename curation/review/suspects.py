"""Suspects: listings whose label is doubted, with reasons in words. Derived whole by each run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from curation.errors import ProbabilityError
from curation.quality.issues import Sellers, find_category_issues, find_violation_issues
from curation.quality.validate import UNLABELLED, OutOfSample
from curation.store.tables import ListingRow, SuspectRow
from curation.types import LabelSource, Listing, Question, Reason, Suspect, join_violations, split_violations

CHUNK = 1000
Reasons = tuple[Reason, ...]
SHOWN_VIOLATION = 0.5
"""A violation is suggested where the model finds it at least as likely as not."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One row of the stored ranking; `rank` counts from 1, most doubtful first."""

    rank: int
    listing_id: int
    suspect: Suspect


def from_predictions(
    listings: Sequence[Listing],
    labels_by_ref: Mapping[str, tuple[str, LabelSource]],
    category_oos: OutOfSample,
    violation_probs: NDArray[np.floating],
    violations: tuple[str, ...],
    violation_labels_by_ref: Mapping[str, tuple[str, LabelSource]] | None = None,
) -> dict[Question, list[Suspect]]:
    """Rank every listing by how much its label is doubted, most doubtful first, for both questions.

    `listings` are in the row order of `category_oos` (checked by ref); `violation_probs` is
    (N, V) in the order of `violations`. The labels are the current ones: a moderators' label is
    never a suspect. Raises ProbabilityError where arrays and listings do not fit together.
    """
    refs = tuple(listing.ref for listing in listings)
    if refs != tuple(category_oos.refs) or violation_probs.shape != (len(refs), len(violations)):
        raise ProbabilityError(
            f"{len(refs)} listings do not match {len(category_oos.refs)} rows of probabilities; predict them again"
        )
    return {
        Question.CATEGORY: _category(listings, labels_by_ref, category_oos),
        Question.VIOLATION: _violation(listings, violation_labels_by_ref or {}, violation_probs, violations),
    }


def _category(listings: Sequence[Listing], labels: Mapping[str, tuple[str, LabelSource]], oos: OutOfSample) -> list[Suspect]:
    index = {path: i for i, path in enumerate(oos.classes)}
    given, source = _columns([labels.get(listing.ref) for listing in listings])
    verified = np.array([who is LabelSource.MODERATORS for who in source], dtype=bool)
    rows = np.array([index.get(value or "", UNLABELLED) for value in given], dtype=np.int64)
    issues = find_category_issues(rows, oos, verified=verified, sellers=_sellers(listings, given, source))
    probs = np.asarray(oos.pred_probs)
    found = []
    for i in issues.order[np.argsort(verified[issues.order], kind="stable")]:
        suggested, p = oos.classes[issues.suggested[i]], float(probs[i, issues.suggested[i]])
        score = 1.0 if verified[i] else float(issues.score[i])
        reasons = () if verified[i] else _category_reasons(listings[i], given[i], source[i], suggested, p)
        found.append(
            Suspect(listings[i].ref, Question.CATEGORY, given[i], suggested, score, bool(issues.is_issue[i]), p, reasons)
        )
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


def _category_reasons(listing: Listing, given: str | None, source: LabelSource | None, suggested: str, p: float) -> Reasons:
    seen = "title and photos look like" if listing.photos else "the text reads like"
    if given is None:
        return (Reason("unlabelled", p, f"No category was given; {seen} {suggested} ({p:.0%})."),)
    if given == suggested:
        return ()
    said = f"An earlier repair says {given}" if source is LabelSource.REFURBISHED else f"The seller chose {given}"
    return (Reason("label_issue", p, f"{said}; {seen} {suggested} ({p:.0%})."),)


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
        *(Reason("model_violation", p, f"The model sees {_words(name)} ({p:.0%}).") for p, name in sorted(seen, reverse=True)),
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
