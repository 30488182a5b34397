"""`POST /score`: what the live model says of a listing that need not be stored here."""

import base64
import binascii
import json
from collections.abc import Mapping
from threading import BoundedSemaphore
from typing import Any

import numpy as np

from curation.catalog import cells, drafts, images
from curation.catalog.images import PhotoError
from curation.catalog.scorer import Scores
from curation.errors import RowError, shorten
from curation.store.files import FileStore
from curation.store.people import Role
from curation.types import Listing, Photo
from webhooks import service
from webhooks.api.answers import ScoreAnswer, ScoredCategory, ScoredViolation
from webhooks.api.contract import Operation, Refused, operation
from webhooks.api.models import GivenPhoto, ScoreRequest
from webhooks.model import Live

SCORE_LIMIT_BYTES = 16 * 1024 * 1024
DECODING = BoundedSemaphore(2)
"""Photos that are decoded at a time: a small file may unfold to hundreds of megabytes, and there are many threads."""


class Shown(FileStore):
    """The stored photos, and those of one request, which are not kept."""

    def __init__(self, stored: FileStore, given: Mapping[str, bytes]) -> None:
        super().__init__(stored.root)
        self.given = given

    def get(self, sha256: str, suffix: str = "") -> bytes:
        """The bytes of the request's photo, or of a stored one. Raises as FileStore.get."""
        return self.given[sha256] if sha256 in self.given else super().get(sha256, suffix)


def live() -> Live:
    """The live model, or 503 with what to do."""
    found = service.current().model.current()
    if found is None:
        raise Refused(503, "no model is live, or its files cannot be read (see the log); train the first with: refurbish retrain")
    return found


@operation(
    Operation(
        name="score",
        method="POST",
        path="/score",
        role=Role.MODERATOR,
        summary="Category and violations of a listing, by the live model. Of its photos the first four are read.",
        body=ScoreRequest,
        answer=ScoreAnswer,
        refuses=(413, 415),
        limit_bytes=SCORE_LIMIT_BYTES,
    )
)
def score(body: ScoreRequest) -> ScoreAnswer:
    """One listing, scored."""
    found = live()
    photos, given = _photos(body.photos[: found.scorer.featurizer.config.n_views])
    scores = found.scorer.score([_listing(body, photos)], Shown(service.current().workspace.media, given))
    categories = _categories(scores, body.top)
    return ScoreAnswer(
        model=found.name, category=categories[0].category, categories=categories, violations=_violations(scores, found)
    )


def _listing(body: ScoreRequest, photos: tuple[Photo, ...]) -> Listing:
    """The listing, cleaned as it would be when read from a catalog. Raises RowError naming the field."""
    title = cells.text(body.title, "title", drafts.MAX_TITLE_CHARS)
    if not title:
        raise RowError("title", "title is empty; a listing has one", "missing")
    return Listing(
        id=0,
        ref="",
        seller_ref=None,
        title=title,
        description=cells.text(body.description, "description", drafts.MAX_DESCRIPTION_CHARS),
        price=cells.price(body.price),
        currency=cells.currency(body.currency),
        attributes=_attributes(body.attributes),
        photos=photos,
        category=None,
        flags=(),
        group_key="",
        listed_at=None,
    )


def _attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    if len(given) > drafts.MAX_ATTRIBUTES:
        raise RowError("attributes", f"there are {len(given)} attributes, {drafts.MAX_ATTRIBUTES} are allowed; send fewer")
    found = {}
    for name, value in given.items():
        key = cells.text(name, "attributes", drafts.MAX_NAME_CHARS)
        try:
            kept = cells.attribute(value, key, drafts.MAX_ATTRIBUTE_CHARS)
        except RowError as error:
            raise RowError(f"attributes.{shorten(name, 40)}", str(error), error.code) from None
        if key and kept is not None:
            found[key] = kept
    if len(json.dumps(found)) > drafts.MAX_ATTRIBUTES_BYTES:
        raise RowError("attributes", f"attributes take more than {drafts.MAX_ATTRIBUTES_BYTES:,} bytes; send fewer")
    return found


def _photos(given: list[GivenPhoto]) -> tuple[tuple[Photo, ...], dict[str, bytes]]:
    """The photos as records, and the bytes of those that are not stored, by their name."""
    stored, found, fresh = service.current().workspace.media, [], {}
    for at, one in enumerate(given):
        field = f"photos.{at}"
        if (one.base64 is None) == (one.sha256 is None):
            raise RowError(field, "a photo has either base64 or sha256; give one of them")
        if one.sha256 is not None:
            if not stored.has(one.sha256, images.SUFFIX):
                raise RowError(f"{field}.sha256", f"photo {one.sha256} is not stored here; send its bytes as base64")
            found.append(Photo(one.sha256, 0, 0, ""))
            continue
        made = _thumbnail(one.base64 or "", f"{field}.base64")
        name = f"{at:064x}"
        fresh[name] = made.jpeg
        found.append(Photo(name, made.width_px, made.height_px, made.dhash))
    return tuple(found), fresh


def _thumbnail(text: str, field: str) -> images.Thumbnail:
    try:
        data = base64.b64decode(text, validate=True)
        with DECODING:
            return images.thumbnail(data, field)
    except (binascii.Error, ValueError):
        raise RowError(field, "the photo is not base64; encode its bytes as RFC 4648 says, without line breaks") from None
    except PhotoError as error:
        raise RowError(field, str(error), error.code) from None


def _categories(scores: Scores, top: int) -> list[ScoredCategory]:
    p = scores.category_probs[0]
    best = np.argsort(-p, kind="stable")[:top]
    return [ScoredCategory(category=scores.classes[k], probability=_share(p[k])) for k in best]


def _violations(scores: Scores, found: Live) -> list[ScoredViolation]:
    flagged, cuts = found.scorer.flagged(scores)[0], found.scorer.thresholds
    p = scores.violation_probs[0]
    return [
        ScoredViolation(
            violation=scores.violations[k],
            probability=_share(p[k]),
            threshold=float(cuts[k]) if np.isfinite(cuts[k]) else None,
            flagged=bool(flagged[k]),
        )
        for k in np.argsort(-p, kind="stable")
    ]


def _share(value: Any) -> float:
    return min(max(float(value), 0.0), 1.0)
