"""A catalog file into the database: read, check, store photos, write in batches, group near-duplicates.

Batches are committed as they come. A run that is stopped can be run again: what is there already
counts as the same.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from curation.catalog import duplicates, images, mapping, readers, taxonomy_file
from curation.catalog.drafts import Draft, Rules, fill
from curation.catalog.mapping import FileMap
from curation.catalog.readers import Broken, Row, Table
from curation.catalog.rejects import Reject, Rejects, beside
from curation.errors import ConfigError, InputError, RowError, shorten
from curation.store import erasure, listings, taxonomy, violations
from curation.store.listings import Counts
from curation.store.workspace import Workspace
from curation.types import Photo

BATCH_ROWS = 1_000
N_THREADS = min(8, max(2, os.cpu_count() or 2))
"""Decoding leaves the interpreter's lock, so that threads use all cores while a batch is written."""

BATCHES_AHEAD = 2
"""Batches whose photos are being decoded while an earlier one is written; bounds the memory."""

SIDECAR = "mapping.toml"
ERASED = "erased"
ERASED_WORDS = "this listing was erased; let it come back with: refurbish erase --listing REF --allow"

Advance = Callable[[int, int], None]
"""Told after each batch: rows done in it, rows expected in all."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to read one file; None = what lies beside the file, or a guess."""

    map: FileMap | None = None
    images: Path | None = None
    taxonomy: Path | None = None
    fmt: str | None = None
    rejects: Path | None = None
    group: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a file. `n_rows` = new + changed + same + rejected rows."""

    n_rows: int
    n_new: int
    n_changed: int
    n_same: int
    n_photos: int
    n_rejected_rows: int
    n_rejected_fields: int
    reasons: Mapping[str, int]  #: "field: code" → how often
    rejects: str | None
    n_regrouped: int
    mapping: Mapping[str, object]
    mapping_from: str  #: given, the name of the file beside the catalog, or guessed


def run(
    workspace: Workspace, file: Path, options: Options, *, now: datetime, advance: Advance = lambda n, total: None
) -> Summary:
    """Take a catalog file over. Raises InputError or ConfigError before anything is written."""
    with Table(file, options.fmt) as table:
        file_map, origin = choose_map(table, options.map)
        _require_columns(table, file_map)
        folder = _image_folder(file, file_map, options.images)
        rules = _rules(workspace, file_map, options.taxonomy, now=now)
        with Rejects(options.rejects or beside(file, workspace.settings.home / "rejects")) as rejects:
            done = _Pipeline(workspace, rules, folder, rejects, now=now).run(table, advance)
    n_regrouped = duplicates.assign_groups(workspace) if options.group else 0  # also heals a run that was stopped before it
    return Summary(
        n_rows=done.n_rows,
        n_new=done.counts.n_new,
        n_changed=done.counts.n_changed,
        n_same=done.counts.n_same,
        n_photos=done.n_photos,
        n_rejected_rows=rejects.n_rows,
        n_rejected_fields=rejects.n_fields,
        reasons=dict(rejects.by_reason.most_common()),
        rejects=str(rejects.written) if rejects.written else None,
        n_regrouped=n_regrouped,
        mapping=file_map.model_dump(exclude_defaults=True),
        mapping_from=origin,
    )


def choose_map(table: Table, given: FileMap | None) -> tuple[FileMap, str]:
    """The mapping in force and where it is from."""
    beside_it = table.path.with_name(SIDECAR)
    if given is not None:
        return given, "given"
    if beside_it.is_file():
        return mapping.load(beside_it), str(beside_it)
    samples = table.samples()
    columns = table.columns or tuple(dict.fromkeys(name for row in samples for name in row))
    return mapping.guess(columns, samples), "guessed"


def _require_columns(table: Table, file_map: FileMap) -> None:
    """Every mapped column must be there; JSON lines may leave any but the ref and the title out."""
    if table.columns:
        missing = [name for name in file_map.columns() if name not in table.columns]
        there = table.columns
    else:
        samples = table.samples()
        needed = [name for name in (file_map.ref, file_map.title) if name]
        missing = [name for name in needed if samples and not any(name in row for row in samples)]
        there = tuple(dict.fromkeys(name for row in samples for name in row))
    if missing:
        raise InputError(
            f"file {table.path} has no column {', '.join(map(shorten, missing))}; it has {shorten(list(there), 300)}; "
            "correct the mapping (--map)"
        )


def _image_folder(file: Path, file_map: FileMap, given: Path | None) -> Path | None:
    """Where the photos are, resolved; None if the mapping names no photos."""
    if file_map.photos is None:
        return None
    folder = given or file.parent / file_map.photos.folder
    if not folder.is_dir():
        raise InputError(f"image folder {folder} does not exist; say where the photos are with --images, or leave [photos] out")
    return folder.resolve()


def _rules(workspace: Workspace, file_map: FileMap, taxonomy_path: Path | None, *, now: datetime) -> Rules:
    with workspace.db.read() as session:
        policy = violations.names(session, workspace.settings)
    known = frozenset(policy)
    named = set(file_map.flags.columns.values()) if file_map.flags else set()
    if unknown := sorted(named - known):
        raise ConfigError(
            f"the mapping names violation {shorten(unknown[0])}, the policy has {', '.join(policy)}; "
            "set violations in refurbish.toml or REFURBISH_VIOLATIONS"
        )
    if taxonomy_path is None:
        return Rules(file_map, known)
    paths = taxonomy_file.load(taxonomy_path)
    with workspace.db.write() as session:
        taxonomy.ensure(session, paths)
        return Rules(file_map, known, taxonomy.known(session))


@dataclass(slots=True)
class _Done:
    n_rows: int = 0
    n_photos: int = 0
    counts: Counts = field(default_factory=Counts)


Pending = tuple[Draft, list[Future[Photo]]]


class _Pipeline:
    """Rows → drafts → photos (in threads) → records → database, a batch at a time, in the file's order."""

    def __init__(self, workspace: Workspace, rules: Rules, folder: Path | None, rejects: Rejects, *, now: datetime) -> None:
        self.workspace, self.rules, self.folder, self.rejects, self.now = workspace, rules, folder, rejects, now
        self.seen: set[str] = set()
        with workspace.db.read() as session:
            self.erased = erasure.every_barred(session)
        self.done = _Done()

    def run(self, table: Table, advance: Advance) -> _Done:
        ahead: deque[list[Pending]] = deque()
        with ThreadPoolExecutor(N_THREADS) as threads:
            try:
                for batch in _batches(table.rows()):
                    self.done.n_rows += len(batch)
                    ahead.append([self._submit(draft, threads) for row in batch if (draft := self._draft(row))])
                    if len(ahead) > BATCHES_AHEAD:
                        self._write(ahead.popleft())
                    advance(len(batch), table.n_rows())
                while ahead:
                    self._write(ahead.popleft())
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        return self.done

    def _draft(self, row: Row | Broken) -> Draft | None:
        """The row as a draft, or None with the reason in the rejects."""
        if isinstance(row, Broken):
            self.rejects.add(Reject(row.n, row.line, "row", row.code, row.reason, "row", raw=row.raw))
            return None
        draft = Draft(row.n, row.line, row.values, row.raw)
        try:
            fill(draft, self.rules)
            if draft.ref in self.erased:
                raise RowError("ref", ERASED_WORDS, ERASED)
            if draft.ref in self.seen:
                raise RowError("ref", f"ref {shorten(draft.ref)} comes twice in the file; the first row was kept", "duplicate")
        except RowError as error:
            if error.code == ERASED:
                draft = Draft(row.n, row.line, {}, None)
            self._reject(draft, error.field, error.code, str(error), lost="row")
            return None
        except RecursionError:
            self._reject(draft, "row", "too_deep", "a cell is nested too deeply", lost="row")
            return None
        self.seen.add(draft.ref)
        for note in draft.notes:
            self._reject(draft, note.field, note.code, str(note), lost="field")
        return draft

    def _submit(self, draft: Draft, threads: ThreadPoolExecutor) -> Pending:
        if self.folder is None:
            return draft, []
        return draft, [threads.submit(images.store, self.workspace.media, self.folder, name) for name in draft.photos]

    def _write(self, batch: list[Pending]) -> None:
        records = [draft.record(self._photos(draft, found)) for draft, found in batch]
        if records:
            self.done.counts += self.workspace.db.retrying(lambda session: listings.upsert(session, records, now=self.now))

    def _photos(self, draft: Draft, found: list[Future[Photo]]) -> tuple[Photo, ...]:
        """The photos that could be used, each once; the others are noted."""
        photos: dict[str, Photo] = {}
        for waiting in found:
            try:
                photo = waiting.result()
                photos.setdefault(photo.sha256, photo)
            except images.PhotoError as error:
                self._reject(draft, "photos", error.code, str(error), lost="photo")
        self.done.n_photos += len(photos)
        return tuple(photos.values())

    def _reject(self, draft: Draft, name: str, code: str, reason: str, *, lost: str) -> None:
        self.rejects.add(Reject(draft.n, draft.line, name, code, reason, lost, draft.values, draft.raw))


def _batches(rows: Iterable[Row | Broken]) -> Iterator[list[Row | Broken]]:
    """Lists of at most 1,000 rows, cut earlier where they hold much text."""
    batch: list[Row | Broken] = []
    n_chars = 0
    for row in rows:
        batch.append(row)
        n_chars += _n_chars(row)
        if len(batch) >= BATCH_ROWS or n_chars > readers.MAX_RECORD_CHARS:
            yield batch
            batch, n_chars = [], 0
    if batch:
        yield batch


def _n_chars(row: Row | Broken) -> int:
    """About how much memory the row takes."""
    if row.raw is not None:
        return len(row.raw)
    return sum([len(value) for value in row.values.values() if type(value) is str]) if isinstance(row, Row) else 0
