"""Out-of-sample probabilities between a training run, which makes them, and whoever asks later.

Of many classes only the largest probabilities of each listing are kept, and the exact one of its label: 14,000 categories
take 70 bytes a listing and not 56,000. The fold that held a listing out is kept beside it either way; in-sample
probabilities are refused when they are stored and when they are read. So is the run's opinion of what labels should be
changed to, if it has one: `refurbish repair` then goes by the same scores as the run.
"""

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from curation.errors import ProbabilityError, shorten
from curation.quality.held_out import SparseOutOfSample, check_sparse, dense, sparse
from curation.quality.sparse import TOP, TopK, index_type
from curation.quality.validate import UNLABELLED, OutOfSample, check
from curation.review.repair_evidence import Opinion, check_opinion
from curation.store.files import FileStore
from curation.store.tables import RunRow
from curation.store.workspace import Workspace

REPORT_KEY = "pred_probs_sha256"
"""Where a run's report names its probabilities."""

SUFFIX = ".parquet"

MAX_DENSE_CLASSES = 1000
"""Up to so many classes every probability is kept."""

HeldOut = OutOfSample | SparseOutOfSample


def store(
    files: FileStore,
    oos: OutOfSample,
    labels: NDArray[np.integer] | None = None,
    k: int = TOP,
    *,
    opinion: Opinion | None = None,
) -> str:
    """Keep the probabilities as Parquet, and the opinion beside them; its sha256.

    With `labels` (N,), class indices of the labels as they are now and -1 for none, and more than MAX_DENSE_CLASSES classes:
    the `k` largest of each row, and the label's. Else all of them: ref, fold, p_0 … p_{K-1}, the classes in the metadata.
    An opinion adds suggested, suggested_score, may and suggested_given.
    """
    check(oos, labels)
    if labels is not None and len(oos.classes) > MAX_DENSE_CLASSES:
        return store_sparse(files, sparse(oos, labels, k), opinion=opinion)
    columns = _provenance(oos) | _said(oos, opinion)
    columns |= {f"p_{k}": pa.array(oos.pred_probs[:, k].astype(np.float32)) for k in range(len(oos.classes))}
    return _put(files, columns, oos.classes)


def store_sparse(files: FileStore, oos: SparseOutOfSample, *, opinion: Opinion | None = None) -> str:
    """Keep a top-k store as Parquet: ref, fold, label, p_given, idx and p (lists of k), and the opinion; its sha256."""
    check_sparse(oos)
    kept = oos.store
    columns = (
        _provenance(oos)
        | _said(oos, opinion)
        | {
            "label": pa.array(kept.labels),
            "p_given": pa.array(kept.p_given),
            "idx": pa.FixedSizeListArray.from_arrays(pa.array(kept.idx.reshape(-1)), kept.k),
            "p": pa.FixedSizeListArray.from_arrays(pa.array(kept.p.reshape(-1)), kept.k),
        }
    )
    return _put(files, columns, oos.classes)


def load(files: FileStore, sha256: str) -> OutOfSample:
    """The probabilities of all classes, float32; of a top-k store as `held_out.dense` fills it up.

    Raises ProbabilityError on a file that is something else, or one whose table would not fit into memory.
    """
    held = load_held(files, sha256)
    return dense(held) if isinstance(held, SparseOutOfSample) else held


def load_held(files: FileStore, sha256: str) -> HeldOut:
    """What was stored, in the form it was stored in. Raises ProbabilityError on a file that is something else."""
    return load_judged(files, sha256)[0]


def load_judged(files: FileStore, sha256: str) -> tuple[HeldOut, Opinion | None]:
    """As `load_held`, and the run's opinion; None of a run that kept none."""
    data = files.get(sha256, SUFFIX if files.has(sha256, SUFFIX) else "")
    try:
        table = pq.read_table(io.BytesIO(data))
        classes = tuple(json.loads((table.schema.metadata or {})[b"classes"]))
        held = _sparse(table, classes) if "idx" in table.column_names else _dense(table, classes)
        opinion = _opinion(table) if "suggested" in table.column_names else None
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ProbabilityError(
            f"file {sha256} holds no out-of-sample probabilities: {shorten(str(error), 200)}; train again"
        ) from error
    check_held(held)
    return held, opinion and check_opinion(opinion, len(held.refs), len(held.classes))


def check_held(held: HeldOut) -> None:
    """Raise ProbabilityError unless the probabilities can be worked on, in either form."""
    check_sparse(held) if isinstance(held, SparseOutOfSample) else check(held)


def newest(workspace: Workspace) -> tuple[int, OutOfSample] | None:
    """The newest ended run that has probabilities, by its id, and them; None before the first."""
    with workspace.db.read() as session:
        found = newest_file(session)
    return None if found is None else (found[0], load(workspace.files, found[1]))


def newest_held(workspace: Workspace) -> tuple[int, HeldOut] | None:
    """As `newest`, in the form they were stored in."""
    found = newest_judged(workspace)
    return None if found is None else found[:2]


def newest_judged(workspace: Workspace) -> tuple[int, HeldOut, Opinion | None] | None:
    """As `newest_held`, and the run's opinion if it kept one."""
    with workspace.db.read() as session:
        found = newest_file(session)
    return None if found is None else (found[0], *load_judged(workspace.files, found[1]))


def newest_file(session: Session) -> tuple[int, str] | None:
    """The newest ended run that has probabilities, and the sha256 of these; None before the first."""
    runs = session.execute(select(RunRow.id, RunRow.report).where(RunRow.finished_at.is_not(None)).order_by(RunRow.id.desc()))
    return next(((row.id, row.report[REPORT_KEY]) for row in runs if row.report.get(REPORT_KEY)), None)


def _provenance(oos: HeldOut) -> dict[str, Any]:
    return {"ref": pa.array(oos.refs, pa.string()), "fold": pa.array(np.asarray(oos.folds, dtype=np.int32))}


def _said(oos: HeldOut, opinion: Opinion | None) -> dict[str, Any]:
    """Columns of an opinion; none without one."""
    if opinion is None:
        return {}
    n = len(oos.refs)
    kept = check_opinion(opinion, n, len(oos.classes))
    may = np.ones(n, dtype=bool) if kept.may is None else kept.may
    given = np.full(n, UNLABELLED) if kept.given is None else kept.given
    return {
        "suggested": pa.array(np.asarray(kept.suggested, dtype=np.int32)),
        "suggested_score": pa.array(kept.score),
        "may": pa.array(may),
        "suggested_given": pa.array(np.asarray(given, dtype=np.int32)),
    }


def _opinion(table: Any) -> Opinion:
    named = ("suggested", "suggested_score", "may", "suggested_given")
    return Opinion(*(table[name].to_numpy() for name in named))


def _put(files: FileStore, columns: dict[str, Any], classes: tuple[str, ...]) -> str:
    table = pa.table(columns).replace_schema_metadata({"classes": json.dumps(classes, ensure_ascii=False)})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return files.put(out.getvalue(), SUFFIX)


def _dense(table: Any, classes: tuple[str, ...]) -> OutOfSample:
    probs = np.column_stack([table[f"p_{k}"].to_numpy() for k in range(len(classes))])
    return OutOfSample(probs, classes, tuple(table["ref"].to_pylist()), table["fold"].to_numpy())


def _sparse(table: Any, classes: tuple[str, ...]) -> SparseOutOfSample:
    n = table.num_rows
    idx, p = (table[name].combine_chunks().values.to_numpy() for name in ("idx", "p"))
    shape = (n, table.schema.field("p").type.list_size)
    kept = TopK(
        idx=idx.reshape(shape).astype(index_type(len(classes))),
        p=p.reshape(shape).astype(np.float32),
        labels=table["label"].to_numpy().astype(np.int32),
        p_given=table["p_given"].to_numpy().astype(np.float32),
        n_classes=len(classes),
    )
    return SparseOutOfSample(kept, classes, tuple(table["ref"].to_pylist()), table["fold"].to_numpy())
