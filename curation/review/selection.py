"""Choosing a review batch: mostly doubted labels, with shares for reports, audit, blind and second opinions.

Doubts and second opinions are ranked together by what one more answer is worth (`quality/value.py`, `docs/asking.md`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from curation.quality import value
from curation.release.splits import split_of
from curation.review import likely_errors, opinions, queue, reported, suggestions, suspects
from curation.review.likely_errors import Likely
from curation.review.opinions import Opinions
from curation.review.repair_evidence import DRAW
from curation.review.suggestions import Suggestion
from curation.settings import Settings
from curation.store.tables import LabelRow, ListingRow, ReviewItem
from curation.store.workspace import Workspace
from curation.types import BLIND_BATCH, OPEN, LabelSource, Question, Reason, Split, Suspect

SURPLUS = 10
"""Doubted listings that are compared, for each that is chosen."""

AUDIT_REASON = Reason("audit", 0.1, "Drawn at random to measure how many labels are wrong.")
DRAWN_PRIORITY = 0.5
CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """What a batch holds: listings by main reason, second opinions among them, and how many are blind."""

    n_listings: int
    by_reason: dict[str, int]
    n_blind: int
    n_second_opinions: int


@dataclass(slots=True)
class Batch:
    """A batch being filled; a near-duplicate group is asked about once."""

    excluded: set[int]
    reasons: dict[int, list[Reason]] = field(default_factory=dict)
    priority: dict[int, float] = field(default_factory=dict)
    main: dict[int, str] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)

    def add(self, listing_id: int, group_key: str, reasons: Iterable[Reason], priority: float) -> bool:
        """Add the listing unless it or its group must not be asked about; the first reason is its main one."""
        if listing_id in self.excluded or listing_id in self.reasons or group_key in self.groups:
            return False
        self.put(listing_id, group_key, reasons, priority)
        return True

    def put(self, listing_id: int, group_key: str, reasons: Iterable[Reason], priority: float) -> None:
        self.groups.add(group_key)
        self.reasons[listing_id], self.priority[listing_id] = list(reasons), priority
        self.main[listing_id] = self.reasons[listing_id][0].code


def select_batch(workspace: Workspace, *, n: int, rng: np.random.Generator, now: datetime) -> Selection:
    """Choose up to `n` listings and open both questions for each, in one transaction.

    The shares come from the settings. The audit sample is drawn uniformly, so that it measures noise
    without bias, from the listings of the test split as long as it has enough: a split by hash knows
    nothing of labels, and there each answer also judges models that never saw the listing. One that is
    decided already is marked, not asked again.
    While automatic repair lacks answers, the surest errors are drawn too and asked about in no other way (`likely_errors`).
    Doubted labels fill the rest by the value of an answer. Second opinions on what one person decided take the place of
    those that are worth less, up to their share; none before a run has predicted the listings.
    Never chooses a listing that is open or decided otherwise, nor two of a near-duplicate group but for the audit.
    Before the first model there are no doubts: reports and the audit sample are the batch, which may be
    smaller than `n`. The same state and `rng` give the same batch.
    """
    settings = workspace.settings
    said, likely = opinions.weigh(workspace), likely_errors.find(workspace)
    with workspace.db.write() as session:
        batch = Batch(excluded(session), groups=open_groups(session))
        audit(session, batch, round(n * settings.audit_share), rng)
        _draw(batch, likely, round(n * settings.repair_share), rng)
        is_ranked = bool(suspects.ranked(session, Question.CATEGORY, limit=1))
        _flagged(session, batch, settings, len(batch.main) + round(n * settings.violation_share) if is_ranked else n)
        batch.excluded.update(likely.groups)
        n_again = _doubted(session, batch, n, said, limit=round(settings.second_opinion_share * n))
        return open_batch(session, batch, settings, rng, now, n_again=n_again)


def excluded(session: Session) -> set[int]:
    """Listings that are open or decided, or whose category moderators decided unasked."""
    asked = select(ReviewItem.listing_id).where(ReviewItem.state.in_((*OPEN, "decided")))
    return set(session.execute(asked.union(_verified(Question.CATEGORY))).scalars())


def _verified(question: Question) -> Select[Any]:
    return select(LabelRow.listing_id).where(LabelRow.question == question.value, LabelRow.source == LabelSource.MODERATORS.value)


def open_groups(session: Session) -> set[str]:
    """Near-duplicate groups of which a listing is with the moderators now."""
    query = select(ListingRow.group_key).join(ReviewItem, ReviewItem.listing_id == ListingRow.id)
    return set(session.execute(query.where(ReviewItem.state.in_(OPEN)).distinct()).scalars())


def audit(session: Session, batch: Batch, n: int, rng: np.random.Generator) -> None:
    """Up to `n` drawn uniformly into the batch; what is decided is marked as drawn."""
    for listing_id, group_key in _drawn(session, n, rng):
        if listing_id in batch.excluded:
            _mark_audited(session, listing_id)
        else:
            batch.put(listing_id, group_key, [AUDIT_REASON], DRAWN_PRIORITY)


def _draw(batch: Batch, likely: Likely, n: int, rng: np.random.Generator) -> None:
    """Up to `n` of the likely errors, each with the same chance."""
    n_before, ids = len(batch.main), sorted(likely.groups)
    for i in rng.permutation(len(ids)):
        if len(batch.main) - n_before >= min(n, likely.n_wanted):
            return
        batch.add(ids[i], likely.groups[ids[i]], [DRAW], DRAWN_PRIORITY)


def _drawn(session: Session, n: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    """Up to `n` listings and their groups in random order, those of the test split first."""
    ids = np.fromiter(session.execute(select(ListingRow.id).order_by(ListingRow.id)).scalars(), dtype=np.int64)
    rng.shuffle(ids)
    found: list[tuple[int, str]] = []
    others: list[tuple[int, str]] = []
    for first in range(0, len(ids), CHUNK):
        part = ids[first : first + CHUNK].tolist()
        rows = select(ListingRow.id, ListingRow.group_key).where(ListingRow.id.in_(part))
        groups = {row.id: row.group_key for row in session.execute(rows)}
        for listing_id in part:
            is_test = split_of(groups[listing_id]) is Split.TEST
            (found if is_test else others).append((listing_id, groups[listing_id]))
        if len(found) >= n:
            break
    return (found + others)[:n]


def _mark_audited(session: Session, listing_id: int) -> None:
    for item in session.execute(select(ReviewItem).where(ReviewItem.listing_id == listing_id)).scalars():
        if all(reason["code"] != AUDIT_REASON.code for reason in item.reasons):
            item.reasons = [*item.reasons, asdict(AUDIT_REASON)]


def _flagged(session: Session, batch: Batch, settings: Settings, up_to: int) -> None:
    """Reported listings and violations the model sees, the surest first."""
    for found in reported.candidates(session, settings):
        if len(batch.main) >= up_to:
            return
        batch.add(found.listing_id, found.group_key, found.reasons, found.score)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A doubted label that may be asked about."""

    listing_id: int
    group_key: str
    suspect: Suspect
    wrong: float = 0.0  #: probability that the label is wrong
    worth: float = 0.0  #: labels an answer is expected to put right


def _doubted(session: Session, batch: Batch, up_to: int, said: Opinions, *, limit: int) -> int:
    """Fill the batch with the doubts and second opinions that are worth most; how many of the latter were asked for."""
    room = up_to - len(batch.main)
    new = _valued(session, _candidates(session, batch, SURPLUS * room), said, room)
    again = _again(session, batch, said)
    n_again = value.n_second([doubt.worth for doubt in new], [worth for _, _, worth in again], room, limit)
    batch.groups.update(group_key for _, group_key, _ in again[:n_again])
    for doubt in new:
        if len(batch.main) >= up_to - n_again:
            break
        batch.add(doubt.listing_id, doubt.group_key, doubt.suspect.reasons, doubt.wrong)
    return queue.ask_again(session, [listing_id for listing_id, _, _ in again[:n_again]], limit=n_again)


def _candidates(session: Session, batch: Batch, limit: int) -> list[_Doubt]:
    """Doubted labels that may be asked about, most doubtful first, one of each near-duplicate group."""
    found: list[_Doubt] = []
    groups = set(batch.groups)
    for listing_id, group_key, suspect in _ranking(session):
        if len(found) >= limit:
            break
        if suspect.reasons and group_key not in groups and listing_id not in batch.excluded:
            groups.add(group_key)
            found.append(_Doubt(listing_id, group_key, suspect))
    return found


def _valued(session: Session, found: Sequence[_Doubt], said: Opinions, n: int) -> list[_Doubt]:
    """The candidates by what an answer is worth, spread over the categories that they seem to be in."""
    decided = _decided(session, {one.group_key for one in found})
    same = [decided[one.group_key, one.suspect.given] for one in found]
    everybody = [decided[one.group_key, None] for one in found]
    doubt = value.with_group([_doubt(one.suspect) for one in found], same, np.subtract(everybody, same))
    ranked = [found[i] for i in np.argsort(-doubt, kind="stable")]
    wrong = value.in_order([said.wrong.get(one.listing_id, p) for one, p in zip(ranked, -np.sort(-doubt), strict=True)])
    worth = value.first_answer(wrong, said.accuracy)
    spread = np.argsort(-value.spread(worth, [one.suspect.suggested for one in ranked], n), kind="stable")
    level = value.in_order(worth[spread])
    return [replace(ranked[at], wrong=float(wrong[at]), worth=float(y)) for at, y in zip(spread, level, strict=True)]


def _doubt(suspect: Suspect) -> float:
    """Probability that the label is wrong; where there is none, that the suggestion would be."""
    return 1 - (suspect.suggested_score if suspect.given is None else suspect.score)


def _decided(session: Session, groups: set[str]) -> Counter[tuple[str, str | None]]:
    """Listings of each group that moderators have decided, by (group, category), and by (group, None) all of them."""
    found: Counter[tuple[str, str | None]] = Counter()
    names = sorted(groups)
    for first in range(0, len(names), CHUNK):
        query = (
            select(ListingRow.group_key, LabelRow.value)
            .join(LabelRow, LabelRow.listing_id == ListingRow.id)
            .where(ListingRow.group_key.in_(names[first : first + CHUNK]), LabelRow.listing_id.in_(_verified(Question.CATEGORY)))
            .where(LabelRow.question == Question.CATEGORY.value)
        )
        for row in session.execute(query):
            found[row.group_key, row.value] += 1
            found[row.group_key, None] += 1
    return found


def _again(session: Session, batch: Batch, said: Opinions) -> list[tuple[int, str, float]]:
    """Id, group and value of what may be asked a second time, the most valuable first, one of each group."""
    single = queue.single(session) if said.second else {}
    groups, found = set(batch.groups), []
    for listing_id, worth in said.second:
        if listing_id in single and single[listing_id] not in groups:
            groups.add(single[listing_id])
            found.append((listing_id, single[listing_id], worth))
    return found


def _ranking(session: Session) -> Iterator[tuple[int, str, Suspect]]:
    """Every suspect with its listing id and group, page by page, most doubtful first."""
    after = 0
    while page := suspects.ranked(session, Question.CATEGORY, after_rank=after):
        ids = [row.listing_id for row in page]
        found = session.execute(select(ListingRow.id, ListingRow.group_key).where(ListingRow.id.in_(ids))).all()
        groups = {row.id: row.group_key for row in found}
        yield from ((row.listing_id, groups[row.listing_id], row.suspect) for row in page)
        after = page[-1].rank


def open_batch(
    session: Session, batch: Batch, settings: Settings, rng: np.random.Generator, now: datetime, *, n_again: int
) -> Selection:
    """Write both questions of each newly chosen listing; those withdrawn earlier are asked anew."""
    ids = list(batch.main)
    blind = {ids[i] for i in rng.permutation(len(ids))[: round(settings.blind_share * len(ids))]}
    suggested = suggestions.for_listings(session, [i for i in ids if i not in blind])
    there = {
        (item.listing_id, item.question): item
        for item in session.execute(select(ReviewItem).where(ReviewItem.listing_id.in_(ids))).scalars()
    }
    for listing_id in ids:
        for question in Question:
            item = there.get((listing_id, question.value)) or ReviewItem(listing_id=listing_id, question=question.value)
            item.state, item.created_at, item.pushed_at, item.decided_at = "waiting", now, None, None
            item.reasons = [asdict(reason) for reason in batch.reasons[listing_id]]
            item.priority = batch.priority[listing_id]
            item.batch = BLIND_BATCH if listing_id in blind else f"{now:%Y%m%d-%H%M%S}"
            item.n_wanted = 1
            item.suggestion, item.suggestion_score = _shown(suggested.get(listing_id), question)
            session.add(item)
    session.flush()
    by_reason = Counter(batch.main.values()) + Counter({queue.SECOND_OPINION.code: n_again})
    return Selection(len(ids) + n_again, dict(sorted(by_reason.items())), len(blind), n_again)


def _shown(suggestion: Suggestion | None, question: Question) -> tuple[str | None, float | None]:
    """What the moderator will see as the model's answer; nothing where the question is asked blind."""
    if suggestion is None:
        return None, None
    if question is Question.CATEGORY:
        return suggestion.category, suggestion.category_score
    return suggestion.violation, suggestion.violation_score


def count_items(session: Session) -> int:
    """How many questions have ever been opened."""
    return int(session.execute(select(func.count()).select_from(ReviewItem)).scalar_one())
