"""Listings as vectors (product2vec): the joint embedding of a released model, written a page at a time, and nearest neighbours.

No torch: the vectors are an output of the exported model. Memory is that of one page, however many listings there are.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.catalog.scorer import Scorer
from curation.errors import InputError, NotFoundError, shorten
from curation.store import listings
from curation.store.files import FileStore
from curation.store.workspace import Workspace
from curation.types import Listing

COLUMNS = ("ref", "split", "model", "embedding")
DTYPES = ("float16", "float32")
PAGE = 1000
MAX_READ_ROWS = 4096

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A page of n listings and their vectors."""

    refs: tuple[str, ...]
    vectors: Vectors  #: (n, D), finite


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A listing beside the one that was asked about."""

    ref: str
    similarity: float  #: cosine, in [-1, 1]


def pages(workspace: Workspace, refs: Sequence[str] = (), size: int = PAGE) -> Iterator[list[Listing]]:
    """All listings ordered by id, or those with these refs, `size` at a time; no transaction is held in between.

    Raises NotFoundError on a ref that is not there.
    """
    if refs:
        yield from _named(workspace, list(dict.fromkeys(refs)), size)
        return
    after_id = 0
    while page := _page(workspace, after_id=after_id, limit=size):
        yield page
        after_id = page[-1].id


def _named(workspace: Workspace, refs: list[str], size: int) -> Iterator[list[Listing]]:
    with workspace.db.read() as session:
        missing = sorted(set(refs) - set(listings.id_by_ref(session, refs)))
    if missing:
        raise NotFoundError(f"{len(missing)} listings are not there: {shorten(missing)}; name refs as they were ingested")
    for at in range(0, len(refs), size):
        yield _page(workspace, refs=refs[at : at + size])


def _page(workspace: Workspace, **chosen: Any) -> list[Listing]:
    with workspace.db.read() as session:
        return listings.load(session, **chosen)


def embedded(scorer: Scorer, found: Sequence[Listing], media: FileStore) -> Embedded:
    """The vectors of a page. Raises NotFoundError if the model was exported without, ProbabilityError if it answers nonsense."""
    return Embedded(tuple(listing.ref for listing in found), scorer.embed(scorer.featurizer.transform(found, media)))


def unit(vectors: Vectors) -> Vectors:
    """The same directions (n, D) with length 1; a zero vector stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return found


class Writer:
    """A Parquet file that grows page by page and takes its name only when all of it is written.

    Columns ref, split, model, and embedding as a list of fixed size.
    """

    def __init__(self, path: Path, model: str, dtype: str = "float16") -> None:
        self.path, self.model, self.dtype = path, model, dtype
        self.n_rows, self.width = 0, 0
        self._file: Any = None
        self._part = ""

    def __enter__(self) -> "Writer":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, self._part = tempfile.mkstemp(dir=self.path.parent, prefix=".part-")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error}; name a file in a folder that can be") from error
        os.close(handle)
        return self

    def write(self, found: Embedded, splits: Sequence[str]) -> None:
        """Append a page. Raises InputError where a value is too large for float16."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with np.errstate(over="ignore"):
            values = found.vectors.astype(self.dtype)
        if not np.isfinite(values).all():
            raise InputError(f"an embedding is too large for {self.dtype}; write float32, or vectors of length 1")
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        model = pa.array([self.model] * len(values)).dictionary_encode()
        page = pa.table([pa.array(found.refs), pa.array(list(splits)).dictionary_encode(), model, column], names=list(COLUMNS))
        if self._file is None:
            self._file = pq.ParquetWriter(self._part, page.schema)
        self._file.write_table(page)
        self.n_rows, self.width = self.n_rows + len(values), values.shape[1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._file is not None:
                self._file.close()
            if kind is None and self._file is not None:
                os.replace(self._part, self.path)
        finally:
            Path(self._part).unlink(missing_ok=True)


def read(path: Path) -> Iterator[Embedded]:
    """What `Writer` wrote, a part at a time. Raises InputError where the file is not one of embeddings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = set(file.schema_arrow.names)
            if not {"ref", "embedding"} <= names:
                raise InputError(f"{path} has no embeddings, its columns are {shorten(sorted(names))}; write one with --out")
            for batch in file.iter_batches(batch_size=MAX_READ_ROWS, columns=["ref", "embedding"]):
                column = batch.column("embedding")
                values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
                if not np.isfinite(values).all():
                    raise InputError(f"{path} holds vectors of NaN or infinity; write it again with --out")
                yield Embedded(tuple(batch.column("ref").to_pylist()), values.astype(np.float32))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {shorten(str(error))}; write it again with --out") from error


def vector_of(ref: str, found: Iterable[Embedded]) -> Vectors:
    """The (D,) vector of this listing. Raises NotFoundError if it is not among these."""
    for part in found:
        if ref in part.refs:
            found_vector: Vectors = part.vectors[part.refs.index(ref)]
            return found_vector
    raise NotFoundError(f"listing {shorten(ref)} is not among these embeddings; write them anew, or name another")


def nearest(
    query: Vectors, found: Iterable[Embedded], k: int, *, but: str | None = None, advance: Callable[[int], None] = lambda n: None
) -> tuple[Neighbour, ...]:
    """The k listings with the largest cosine to query (D,), largest first, equal ones by ref. `but` is left out."""
    direction = unit(query[None])[0]
    best: list[tuple[float, str]] = []
    for part in found:
        if part.vectors.shape[1] != len(direction):
            raise InputError(f"vectors are {part.vectors.shape[1]} and {len(direction)} wide; compare those of one model")
        cosines = unit(part.vectors) @ direction
        top = np.argsort(-cosines, kind="stable")[: k + 1]
        best += [(-float(cosines[at]), part.refs[at]) for at in top if part.refs[at] != but]
        best = sorted(best)[:k]
        advance(len(part.refs))
    return tuple(Neighbour(ref, -against) for against, ref in best)
