"""Out-of-sample probabilities between a training run, which makes them, and whoever asks later."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select

from curation.errors import ProbabilityError
from curation.quality.validate import OutOfSample, check
from curation.store.files import FileStore
from curation.store.tables import RunRow
from curation.store.workspace import Workspace

REPORT_KEY = "pred_probs_sha256"
"""Where a run's report names its probabilities."""

SUFFIX = ".parquet"


def store(files: FileStore, oos: OutOfSample) -> str:
    """Keep the probabilities as Parquet: ref, fold, p_0 … p_{K-1}, the classes in the metadata; its sha256."""
    check(oos)
    columns = {"ref": pa.array(oos.refs, pa.string()), "fold": pa.array(np.asarray(oos.folds, dtype=np.int32))}
    columns |= {f"p_{k}": pa.array(oos.pred_probs[:, k].astype(np.float32)) for k in range(len(oos.classes))}
    table = pa.table(columns).replace_schema_metadata({"classes": json.dumps(oos.classes, ensure_ascii=False)})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return files.put(out.getvalue(), SUFFIX)


def load(files: FileStore, sha256: str) -> OutOfSample:
    """What `store` was given, as float32. Raises ProbabilityError on a file that is something else."""
    data = files.get(sha256, SUFFIX if files.has(sha256, SUFFIX) else "")
    try:
        table = pq.read_table(io.BytesIO(data))
        classes = tuple(json.loads((table.schema.metadata or {})[b"classes"]))
        probs = np.column_stack([table[f"p_{k}"].to_numpy() for k in range(len(classes))])
        oos = OutOfSample(probs, classes, tuple(table["ref"].to_pylist()), table["fold"].to_numpy())
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise ProbabilityError(f"file {sha256} holds no out-of-sample probabilities: {error}; train again") from error
    check(oos)
    return oos


def newest(workspace: Workspace) -> tuple[int, OutOfSample] | None:
    """The newest ended run that has probabilities, by its id, and them; None before the first."""
    with workspace.db.read() as session:
        runs = session.execute(select(RunRow.id, RunRow.report).where(RunRow.finished_at.is_not(None)).order_by(RunRow.id.desc()))
        found = next(((row.id, row.report[REPORT_KEY]) for row in runs if row.report.get(REPORT_KEY)), None)
    return None if found is None else (found[0], load(workspace.files, found[1]))
