"""Small builders for tests: records, listings in a workspace, and photos that differ by seed."""

import io
from datetime import datetime
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select

from curation.store import listings
from curation.store.listings import Record
from curation.store.tables import LabelRow, ListingRow
from curation.store.workspace import Workspace
from curation.types import Listing, Photo, Question
from tests.conftest import NOW


def record(ref: str = "r1", **changes: Any) -> Record:
    """A plausible listing; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "seller_ref": "s1",
        "title": f"Garden rake {ref}",
        "description": f"A sturdy rake, hardly used. Number {ref}.",
        "price": 12.5,
        "currency": "GBP",
        "attributes": {"brand": "Oakley & Sons"},
        "category": "Home / Garden",
    }
    return Record(ref=ref, **fields | changes)


def records(n: int, **changes: Any) -> list[Record]:
    """Listings r0 … r(n-1)."""
    return [record(f"r{i}", **changes) for i in range(n)]


def add(workspace: Workspace, *found: Record, now: datetime = NOW) -> dict[str, int]:
    """Store the records; ref → listing id."""
    with workspace.db.write() as session:
        listings.upsert(session, found, now=now)
        return listings.id_by_ref(session, [one.ref for one in found])


def all_listings(workspace: Workspace) -> list[Listing]:
    """Every listing, ordered by id."""
    with workspace.db.read() as session:
        return [listing for page in listings.pages(session) for listing in page]


def label(workspace: Workspace, ref: str, question: Question = Question.CATEGORY) -> tuple[str, str] | None:
    """Value and source of a listing's label."""
    query = select(LabelRow.value, LabelRow.source).join(ListingRow, ListingRow.id == LabelRow.listing_id)
    with workspace.db.read() as session:
        found = session.execute(query.where(ListingRow.ref == ref, LabelRow.question == question.value)).one_or_none()
    return None if found is None else (found.value, found.source)


def picture(seed: int = 0, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture of smooth blobs: the same for the same seed, far from that of any other."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, fmt: str = "JPEG", **options: Any) -> bytes:
    """The picture as the bytes of a file."""
    out = io.BytesIO()
    image.save(out, fmt, **options)
    return out.getvalue()


def photo(workspace: Workspace, seed: int = 0, size: tuple[int, int] = (96, 64)) -> Photo:
    """A stored photo."""
    sha256 = workspace.media.put(encoded(picture(seed, size), quality=85), ".jpg", durable=False)
    return Photo(sha256, *size, f"{np.random.default_rng(seed).integers(2**63):016x}")
