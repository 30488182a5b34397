"""Listings, labels, suspects and the review queue, as programs read them."""

from curation.errors import NotFoundError, shorten
from curation.review import suspects
from curation.store import listings, lookups
from curation.store.people import Role
from curation.types import Question
from webhooks import service
from webhooks.api import cursors
from webhooks.api.answers import (
    Change,
    ChangesAnswer,
    Label,
    LabelsAnswer,
    ListingAnswer,
    ListingLabels,
    ReasonAnswer,
    ReviewAnswer,
    StoredPhoto,
    SuspectAnswer,
    SuspectsAnswer,
)
from webhooks.api.contract import Operation, operation
from webhooks.api.models import LabelsQuery, Page, SuspectsQuery


@operation(
    Operation(
        "listing", "GET", "/listings/{ref}", Role.MODERATOR, "A stored listing with its labels.", ListingAnswer, refuses=(404,)
    )
)
def listing(ref: str) -> ListingAnswer:
    """One listing by its ref."""
    with service.current().workspace.db.read() as session:
        found = listings.load(session, refs=[ref])
        held = lookups.labels(session, [ref]).get(ref, [])
    if not found:
        raise NotFoundError(f"no listing has the ref {shorten(ref)}; refs are those of the ingested file")
    one = found[0]
    shown = {name: getattr(one, name) for name in ListingAnswer.model_fields if name not in ("photos", "labels")}
    photos = [StoredPhoto.model_validate(photo) for photo in one.photos]
    return ListingAnswer(**shown, photos=photos, labels=[Label.model_validate(label) for label in held])


@operation(
    Operation(
        "labels",
        "GET",
        "/labels",
        Role.MODERATOR,
        "The labels in force of up to 100 listings.",
        LabelsAnswer,
        query=LabelsQuery,
    )
)
def labels(query: LabelsQuery) -> LabelsAnswer:
    """Labels by ref."""
    with service.current().workspace.db.read() as session:
        found = lookups.labels(session, set(query.ref))
    items = [ListingLabels(ref=ref, labels=[Label.model_validate(one) for one in held]) for ref, held in found.items()]
    return LabelsAnswer(items=items)


@operation(
    Operation(
        "label_changes",
        "GET",
        "/labels/changes",
        Role.MODERATOR,
        "Every change of a label, oldest first, ten seconds after it was made. Follow `next`, and ask again where it ends.",
        ChangesAnswer,
        query=Page,
    )
)
def label_changes(query: Page) -> ChangesAnswer:
    """Changes since a cursor."""
    after = cursors.read("changes", query.cursor) or 0
    db = service.current().workspace.db
    with db.read() as session:
        found = lookups.changes(session, limit=query.limit, after_id=after, now=db.now(session))
    last = found[-1].id if found else after
    return ChangesAnswer(items=[Change.model_validate(one) for one in found], next=cursors.write("changes", last))


@operation(
    Operation(
        "suspects",
        "GET",
        "/suspects",
        Role.MODERATOR,
        "Listings whose label is doubted, most doubtful first, with reasons.",
        SuspectsAnswer,
        query=SuspectsQuery,
    )
)
def ranked(query: SuspectsQuery) -> SuspectsAnswer:
    """One page of the newest ranking."""
    kind = f"suspects:{query.question}"
    after = cursors.read(kind, query.cursor) or 0
    with service.current().workspace.db.read() as session:
        found = suspects.ranked(session, Question(query.question), limit=query.limit, after_rank=after)
    items = [_suspect(row) for row in found]
    return SuspectsAnswer(items=items, next=cursors.write(kind, found[-1].rank) if len(found) == query.limit else None)


def _suspect(row: suspects.Ranked) -> SuspectAnswer:
    one = row.suspect
    return SuspectAnswer(
        rank=row.rank,
        ref=one.listing_ref,
        given=one.given,
        suggested=one.suggested,
        suggested_score=one.suggested_score,
        score=one.score,
        is_issue=one.is_issue,
        reasons=[ReasonAnswer.model_validate(reason) for reason in one.reasons],
    )


@operation(
    Operation("review", "GET", "/review", Role.MODERATOR, "How many questions to moderators are in which state.", ReviewAnswer)
)
def review() -> ReviewAnswer:
    """The queue in numbers."""
    with service.current().workspace.db.read() as session:
        found = lookups.review_counts(session)
    questions: dict[str, dict[str, int]] = {question.value: {} for question in Question}
    for (question, state), n in found.counts.items():
        questions[question][state] = n
    return ReviewAnswer(questions=questions, oldest_open_at=found.oldest_open_at)
