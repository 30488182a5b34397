"""The verified listings that are most like one that is asked about, by the live model's embedding.

Vectors of verified listings are kept in one file for each model, by listing and content, and added to as moderators decide more.
Memory is that of the newest 20,000 verified listings' vectors, however many there are.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation import telemetry
from curation.catalog import embeddings
from curation.catalog.embeddings import Embedded
from curation.catalog.scorer import Scorer
from curation.errors import InputError
from curation.release.labels import renamed_paths
from curation.store import listings
from curation.store.tables import LabelRow, ListingRow
from curation.store.taxonomy import chunks
from curation.store.workspace import Workspace
from curation.types import LabelSource, Listing, Question, Reason

K = 8
"""Neighbours that are counted; the page shows the first few."""

MIN_COUNTED = 4
"""With fewer verified listings nothing is said about how many agree."""

CODE = "neighbours"
MAX_VERIFIED = 20_000
PAGE = 500
FOLDER = "neighbours"

log = telemetry.logger("neighbours")


@dataclass(frozen=True, slots=True)
class Near:
    """A verified listing beside the one that was asked about."""

    ref: str
    category: str  #: what moderators decided
    similarity: float  #: cosine, in [-1, 1]
    photo_sha256: str | None  #: its first photo


@dataclass(frozen=True, slots=True)
class _Verified:
    ref: str
    content_sha256: str
    category: str
    photo_sha256: str | None

    @property
    def key(self) -> str:
        """Names the vector: a listing that changes is embedded anew."""
        return f"{self.content_sha256[:16]} {self.ref}"


@dataclass(frozen=True, slots=True)
class Atlas:
    """Verified listings and their vectors, for one model."""

    verified: tuple[_Verified, ...]
    vectors: NDArray[np.float32]  #: (n, D) of length 1

    def near(self, scorer: Scorer, found: Sequence[Listing], workspace: Workspace) -> dict[int, tuple[Near, ...]]:
        """Listing id → the nearest, likest first. A listing is not its own neighbour."""
        if not self.verified or not found:
            return {}
        queries = embeddings.unit(embeddings.embedded(scorer, found, workspace.media).vectors)
        cosines = queries @ self.vectors.T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, : K + 1]
        return {one.id: self._nearest(one.ref, order[row], cosines[row]) for row, one in enumerate(found)}

    def _nearest(self, ref: str, order: NDArray[np.int64], cosines: NDArray[np.float32]) -> tuple[Near, ...]:
        best = [(self.verified[at], float(cosines[at])) for at in order if self.verified[at].ref != ref][:K]
        return tuple(Near(one.ref, one.category, min(max(cosine, -1.0), 1.0), one.photo_sha256) for one, cosine in best)


def atlas(workspace: Workspace, scorer: Scorer) -> Atlas:
    """Of the newest verified listings, one of each near-duplicate group. Raises NotFoundError if the model has no embedding."""
    with workspace.db.read() as session:
        verified = _verified(session)
    file = workspace.settings.home / FOLDER / f"{scorer.sidecar['onnx_sha256'][:16]}.parquet"
    held = _kept(file)
    missing = [one for one in verified if one.key not in held]
    for part in chunks(missing, PAGE):
        held |= _embedded(workspace, scorer, part)
    there = [one for one in verified if one.key in held]
    vectors = np.stack([held[one.key] for one in there]) if there else np.zeros((0, 1), np.float32)
    if missing:
        _keep(file, [one.key for one in there], vectors)
    return Atlas(tuple(there), vectors)


def forget(workspace: Workspace, refs: Collection[str]) -> int:
    """Drop the vectors of these listings from every model's file; how many there were. Safe to repeat."""
    n_gone = 0
    for file in sorted((workspace.settings.home / FOLDER).glob("*.parquet")):
        held = _kept(file)
        kept = {key: vector for key, vector in held.items() if not {key, key.partition(" ")[2]} & set(refs)}
        n_gone += len(held) - len(kept)
        if kept and len(kept) < len(held):
            _keep(file, list(kept), np.stack(list(kept.values())))
        elif len(kept) < len(held) or not held:
            file.unlink(missing_ok=True)
    return n_gone


def reason(near: Sequence[Near]) -> Reason | None:
    """``7 of the 8 most similar verified listings are in Home / Tools.`` None where there are too few, or no two agree."""
    counted = Counter(one.category for one in near).most_common()
    if len(near) < MIN_COUNTED or counted[0][1] == 1:
        return None
    category, n = counted[0]
    all_of = f"the {len(near)} most similar verified listings are in"
    if 2 * n <= len(near):
        words = f"T{all_of[1:]} {len(counted)} categories, {n} of them in {category}."
    else:
        words = f"All {len(near)} {all_of.split(' ', 2)[2]} {category}." if n == len(near) else f"{n} of {all_of} {category}."
    return Reason(CODE, n / len(near), words)


def _verified(session: Session) -> list[_Verified]:
    """The newest first."""
    renames = renamed_paths(session)
    rows = session.execute(
        select(ListingRow.ref, ListingRow.group_key, ListingRow.content_sha256, ListingRow.images, LabelRow.value)
        .join(LabelRow, LabelRow.listing_id == ListingRow.id)
        .where(LabelRow.question == Question.CATEGORY.value, LabelRow.source == LabelSource.MODERATORS.value)
        .order_by(LabelRow.changed_at.desc(), LabelRow.id.desc())
        .limit(MAX_VERIFIED)
    )
    found: dict[str, _Verified] = {}
    for row in rows:
        photo = row.images[0]["sha256"] if row.images else None
        found.setdefault(row.group_key, _Verified(row.ref, row.content_sha256, renames.get(row.value, row.value), photo))
    return list(found.values())


def _embedded(workspace: Workspace, scorer: Scorer, verified: Sequence[_Verified]) -> dict[str, NDArray[np.float32]]:
    """Key → vector."""
    with workspace.db.read() as session:
        found = listings.load(session, refs=[one.ref for one in verified])
    made = embeddings.embedded(scorer, found, workspace.media)
    keys = {one.ref: one.key for one in verified}
    return {keys[ref]: vector for ref, vector in zip(made.refs, embeddings.unit(made.vectors), strict=True)}


def _kept(file: Path) -> dict[str, NDArray[np.float32]]:
    """Key → vector, as kept by an earlier look; nothing where there is no file, or none that can be read."""
    if not file.is_file():
        return {}
    try:
        return _by_key(embeddings.read(file))
    except InputError as error:
        log.warning("neighbours are embedded anew", error=str(error))
        return {}


def _by_key(parts: Iterable[Embedded]) -> dict[str, NDArray[np.float32]]:
    return {key: vector for part in parts for key, vector in zip(part.refs, part.vectors, strict=True)}


def _keep(file: Path, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
    with embeddings.Writer(file, file.stem) as out:
        out.write(Embedded(tuple(keys), vectors), ["verified"] * len(keys))
