"""What an objective remembers of each listing, carried from one retrain into the next.

A few classes a listing, of SELFIE the last predicted ones, of early-learning regularisation the largest means: at most
32 bytes. The key of a row is the listing's ref and the label that it was learnt under; the key of a class is its path.
Laid onto another table a row is kept only while what it was learnt from still holds:

- Rows are found by ref. New listings start empty; those that are gone are forgotten.
- Classes are found by path. Predictions of a class that is gone are forgotten; a history is then no longer full.
- A label that changed since, by its seller, by a repair or because one was taken back, starts empty: a network that
  learnt the former label would, by its predictions, talk the new one down.
- What moderators decided is not remembered, neither when saved nor when laid: such a label is never refurbished, and once
  the decision is withdrawn nothing that was learnt from it stays behind.

The folds of the out-of-sample probabilities are never handed a state: it has seen what they hold out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as tensors_of
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation import telemetry
from curation.errors import InputError, IntegrityError, NotFoundError, shorten
from curation.store.files import FileStore
from curation.store.tables import RunRow
from curation.store.workspace import Workspace
from trainer.data import Rows, Table

REPORT_KEY = "state_sha256"
"""Where a run's report names the state that its fit ended with."""

SUFFIX = ".safetensors"
FORMAT = "refurbish-state-1"
EMPTY = -1
UNLABELLED = -1
MAX_SMALL = 2**15
"""Up to so many classes an entry takes two bytes."""

log = telemetry.logger("state")


@dataclass(frozen=True, slots=True)
class Laid:
    """What is remembered of m rows of a table, in its classes."""

    rows: Rows  #: (m,) row numbers of the table
    entries: NDArray[np.int64]  #: (m, k) classes, EMPTY = none
    p: NDArray[np.float16]  #: (m, k) of each entry, 0 where it has none


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What is remembered of n listings. Raises InputError where the arrays do not fit together."""

    kind: str  #: whose it is
    classes: tuple[str, ...]  #: paths
    refs: tuple[str, ...]  #: (n,)
    labels: NDArray[np.int64]  #: (n,) class that each was learnt under, ascending, UNLABELLED = none
    entries: NDArray[np.signedinteger[Any]]  #: (n, k) classes, EMPTY = none
    p: NDArray[np.float16] | None = None  #: (n, k) of each entry, in [0, 1]

    def __post_init__(self) -> None:
        n, n_classes = len(self.refs), len(self.classes)
        if self.labels.shape != (n,) or self.entries.ndim != 2 or len(self.entries) != n:
            shapes = f"{self.labels.shape} labels, {self.entries.shape} entries"
            raise InputError(f"{n} refs, {shapes} cannot be the state of the same listings; train again")
        if self.entries.dtype.kind != "i" or self.labels.dtype.kind != "i":
            raise InputError(f"a state's entries are {self.entries.dtype}, no numbers of classes; train again")
        if self.p is not None and (self.p.shape != self.entries.shape or not ((self.p >= 0) & (self.p <= 1)).all()):
            raise InputError(f"a state's weights {self.p.shape} are no probabilities of its entries; train again")
        for name, found in (("labels", self.labels), ("entries", self.entries)):
            if found.size and not -1 <= found.min() <= found.max() < n_classes:
                raise InputError(f"a state's {name} name classes {found.min()}…{found.max()} of {n_classes}; train again")

    def __len__(self) -> int:
        return len(self.refs)

    @property
    def row_bytes(self) -> int:
        """Bytes a listing, besides its key."""
        return sum(found.itemsize * found.shape[1] for found in (self.entries, self.p) if found is not None)

    @classmethod
    def of(
        cls, kind: str, table: Table, rows: Rows, entries: NDArray[np.signedinteger[Any]], p: NDArray[np.float16] | None = None
    ) -> "State":
        """Of these rows of a table; what moderators decided is left out."""
        wanted = table.targets
        is_open = ~wanted.is_verified[rows, 0]
        order = np.argsort(wanted.category[rows][is_open], kind="stable")
        kept = np.flatnonzero(is_open)[order]
        small = np.int16 if len(wanted.classes) <= MAX_SMALL else np.int32
        refs = tuple(table.refs[row] for row in rows[kept])
        labels = wanted.category[rows[kept]]
        return cls(kind, wanted.classes, refs, labels, entries[kept].astype(small), None if p is None else p[kept])

    def on(self, table: Table) -> Laid:
        """Laid onto a table; rows whose label is another one now, or was decided by moderators, are left out."""
        wanted = table.targets
        at = {ref: row for row, ref in enumerate(table.refs)}
        rows = np.array([at.get(ref, -1) for ref in self.refs], np.int64)
        now = self._classes_in(wanted.classes)
        is_same = (wanted.category[rows] == now[self.labels]) & ((now[self.labels] >= 0) | (self.labels == UNLABELLED))
        kept = np.flatnonzero((rows >= 0) & is_same & ~wanted.is_verified[rows, 0])
        entries = now[self.entries[kept]]
        p = np.zeros(entries.shape, np.float16) if self.p is None else np.where(entries == EMPTY, 0, self.p[kept])
        return Laid(rows[kept], entries, p.astype(np.float16))

    def _classes_in(self, classes: tuple[str, ...]) -> NDArray[np.int64]:
        """(K + 1,) class by its path among these, EMPTY = gone; the last one is that of EMPTY and UNLABELLED."""
        at = {path: index for index, path in enumerate(classes)}
        return np.array([*(at.get(path, EMPTY) for path in self.classes), EMPTY], np.int64)


def save(files: FileStore, state: State) -> str:
    """Keep it as safetensors: entries, weights, refs and, as one number a class, labels; its sha256."""
    about = {"format": FORMAT, "kind": state.kind, "classes": state.classes, "refs": state.refs}
    tensors: dict[str, NDArray[Any]] = {
        "about": np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), np.uint8),
        "n_of_label": np.bincount(state.labels + 1, minlength=len(state.classes) + 1).astype(np.int64),
        "entries": np.ascontiguousarray(state.entries),
    }
    if state.p is not None:
        tensors["p"] = np.ascontiguousarray(state.p)
    return files.put(tensors_of(tensors), SUFFIX)


def load(files: FileStore, sha256: str) -> State:
    """What was saved. Raises NotFoundError, IntegrityError, and InputError on a file that holds something else."""
    data = files.get(sha256, SUFFIX)
    try:
        return _parsed(read_tensors(data))
    except (SafetensorError, InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"file {sha256}{SUFFIX} holds no state of a fit: {shorten(str(error))}; train again") from error


def _parsed(tensors: Mapping[str, NDArray[Any]]) -> State:
    about = json.loads(tensors["about"].tobytes())
    if about["format"] != FORMAT:
        raise InputError(f"its format is {about['format']!r}, not {FORMAT!r}")
    counts = tensors["n_of_label"]
    labels = np.repeat(np.arange(len(counts)) - 1, counts)
    classes, refs = tuple(map(str, about["classes"])), tuple(map(str, about["refs"]))
    return State(str(about["kind"]), classes, refs, labels, tensors["entries"], tensors.get("p"))


@dataclass(frozen=True, slots=True)
class Carried:
    """What a run goes on from."""

    state: State | None
    report: dict[str, Any] | None  #: run, sha256 and number of listings, or why it could not be read


def carried(workspace: Workspace) -> Carried:
    """The state of the newest ended run that kept one. One that cannot be read is no reason not to train: it is reported."""
    with workspace.db.read() as session:
        found = newest_file(session)
    if found is None:
        return Carried(None, None)
    about = {"run_id": found[0], "sha256": found[1]}
    try:
        state = load(workspace.files, found[1])
    except (InputError, IntegrityError, NotFoundError) as error:
        log.warning("state not carried over", run=found[0], error=str(error))
        return Carried(None, {**about, "error": str(error)})
    return Carried(state, {**about, "kind": state.kind, "n_listings": len(state)})


def keep(files: FileStore, state: State | None) -> str | None:
    """Save what a fit remembers; what a run's report names by REPORT_KEY."""
    return None if state is None else save(files, state)


def newest_file(session: Session) -> tuple[int, str] | None:
    """The newest ended run that kept a state, and the sha256 of it; None before the first."""
    runs = session.execute(select(RunRow.id, RunRow.report).where(RunRow.finished_at.is_not(None)).order_by(RunRow.id.desc()))
    return next(((row.id, row.report[REPORT_KEY]) for row in runs if row.report.get(REPORT_KEY)), None)
