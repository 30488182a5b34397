"""What is known of people's answers: how far each can be believed, and about which another person should be asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import func
from sqlalchemy.orm import Session

from curation.errors import NotFoundError
from curation.quality.value import USUAL_ACCURACY, Verdict, judge, second_answer
from curation.quality.votes import Votes, believe, gather
from curation.review import judged
from curation.review.judged import Judged
from curation.store import annotations
from curation.store.tables import AnnotationRow
from curation.store.workspace import Workspace
from curation.types import Question, Vote

STAMP_WEIGHT = 0.2
"""A suggestion taken over unread counts as a fifth of an answer: it repeats the model, and says a little that nobody objected."""

MAX_ANSWERED = 5000
"""Answered listings that are looked at, the newest answers first."""

SELLERS = 0
"""Index of the sellers, all together, among the sources of votes."""


@dataclass(frozen=True, slots=True)
class Opinions:
    """What votes and the newest run say. Empty before the first run."""

    accuracy: float  #: share of right answers to expect of the next person, in (0, 1)
    wrong: Mapping[int, float]  #: listing id → probability that the seller's category is wrong, where nobody was asked
    second: tuple[tuple[int, float], ...]  #: (listing id, value of a second opinion), the most valuable first


def newest_by_person(votes: Sequence[Vote]) -> tuple[Vote, ...]:
    """One vote a person, by name: the newest that was read, or else the newest suggestion taken over unread."""
    newest: dict[str, Vote] = {}
    for vote in sorted(votes, key=lambda vote: (not annotations.is_rubber_stamp(vote), vote.at, vote.annotation_id)):
        newest[vote.annotator] = vote
    return tuple(newest[name] for name in sorted(newest))


def weight(vote: Vote) -> float:
    """How much the vote counts, in (0, 1]."""
    return STAMP_WEIGHT if annotations.is_rubber_stamp(vote) else 1.0


def weigh(workspace: Workspace) -> Opinions:
    """Judge the sellers and each person by the newest run's out-of-sample probabilities and by each other."""
    try:
        catalog = judged.load(workspace)
    except NotFoundError:
        return Opinions(USUAL_ACCURACY, {}, ())
    with workspace.db.read() as session:
        answers = _answers(session, set(catalog.refs), set(catalog.oos.classes))
    return _opinions(catalog, answers)


def _answers(session: Session, refs: set[str], classes: set[str]) -> dict[str, tuple[Vote, ...]]:
    """Ref → votes on its category that the run has a class for."""
    newest_first = annotations.answered(Question.CATEGORY).order_by(func.max(AnnotationRow.id).desc())
    found = {}
    for ref in session.execute(newest_first.limit(MAX_ANSWERED)).scalars():
        if ref is not None and ref in refs:
            votes = newest_by_person(annotations.votes(session, ref, Question.CATEGORY))
            found[ref] = tuple(vote for vote in votes if vote.value in classes)
    return found


def _opinions(catalog: Judged, answers: Mapping[str, tuple[Vote, ...]]) -> Opinions:
    people = sorted({vote.annotator for votes in answers.values() for vote in votes})
    votes = _votes(catalog, answers, people)
    verdict = judge(votes, believe(catalog.oos.pred_probs), calibrate=True)
    by_people = votes.annotator != SELLERS
    accuracy = USUAL_ACCURACY
    if by_people.any():
        accuracy = float(np.average(verdict.accuracy[votes.annotator[by_people]], weights=votes.weight[by_people]))
    ids = {int(row): int(i) for i, row in zip(catalog.ids, catalog.row, strict=True) if row >= 0}
    answered = np.zeros(votes.n_items, dtype=bool)
    answered[votes.item[by_people]] = True
    alone = ~by_people & ~answered[votes.item]
    wrong = {
        ids[row]: min(max(1 - p, 0.0), 1.0)
        for row, p in zip(votes.item[alone].tolist(), verdict.right[alone].tolist(), strict=True)
    }
    return Opinions(accuracy, wrong, _second(votes, verdict, ids, accuracy))


def _votes(catalog: Judged, answers: Mapping[str, tuple[Vote, ...]], people: Sequence[str]) -> Votes:
    """Sellers' categories and people's answers as triples over the rows of the run."""
    index = {path: k for k, path in enumerate(catalog.oos.classes)}
    source = {name: a + 1 for a, name in enumerate(people)}
    triples = [
        (int(row), SELLERS, index[given], 1.0)
        for row, given in zip(catalog.row, catalog.given, strict=True)
        if row >= 0 and given in index
    ]
    for ref, row in zip(catalog.refs, catalog.row, strict=True):
        if row >= 0 and ref in answers:
            triples += [(int(row), source[vote.annotator], index[vote.value], weight(vote)) for vote in answers[ref]]
    item, who, label, weights = zip(*triples, strict=True) if triples else ((), (), (), ())
    return gather(item, who, label, (len(catalog.oos.refs), len(people) + 1, len(index)), weights)


def _second(votes: Votes, verdict: Verdict, ids: Mapping[int, int], accuracy: float) -> tuple[tuple[int, float], ...]:
    """What one person alone has read and decided, by what another answer is worth."""
    read = (votes.annotator != SELLERS) & (votes.weight == 1)
    n_read = np.bincount(votes.item[read], minlength=votes.n_items)
    mine = np.flatnonzero(read & (n_read[votes.item] == 1))
    worth = second_answer(np.clip(1 - verdict.right[mine], 0, 1), accuracy)
    order = np.lexsort((votes.item[mine], -worth))
    return tuple((ids[int(votes.item[mine[i]])], float(worth[i])) for i in order if worth[i] > 0)
