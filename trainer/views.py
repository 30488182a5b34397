"""What the auxiliary heads say, each of one view of a listing: title, attributes or photos. They are never served."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data import Rows, Table
from trainer.model import Detector

BATCH = 512


@torch.no_grad()
def answers(detector: Detector, table: Table, rows: Rows) -> dict[str, NDArray[np.int64]]:
    """The class (n,) that each view's head chooses for these rows, -1 without that view; `joint` is what is served."""
    heads: Any = detector.eval().auxiliary
    found: dict[str, list[NDArray[np.int64]]] = {}
    for at in range(0, len(rows), BATCH):
        seen = detector.look(table.batch(rows[at : at + BATCH]))
        found.setdefault("joint", []).append(detector.category(seen.joint).argmax(1).cpu().numpy())
        for name, (vector, there) in seen.views.items():
            chosen = heads[name](vector).argmax(1)
            found.setdefault(name, []).append(torch.where(there > 0, chosen, -1).cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def report(detector: Detector, table: Table, validation: Rows) -> dict[str, dict[str, Any]]:
    """Of each view: rows that have it, `accuracy` against the labels of validation rows, `agreement` with the joint answer.

    Empty without auxiliary heads, or without labelled validation rows.
    """
    rows = validation[table.targets.category[validation] >= 0]
    if detector.auxiliary is None or not len(rows):
        return {}
    found, labels = answers(detector, table, rows), table.targets.category[rows]
    return {name: _figures(chosen, labels, found["joint"]) for name, chosen in found.items()}


def _figures(chosen: NDArray[np.int64], labels: NDArray[np.int64], joint: NDArray[np.int64]) -> dict[str, Any]:
    there = chosen >= 0
    if not there.any():
        return {"n": 0, "accuracy": None, "agreement": None}
    accuracy, agreement = ((chosen == other)[there].mean() for other in (labels, joint))
    return {"n": int(there.sum()), "accuracy": round(float(accuracy), 4), "agreement": round(float(agreement), 4)}
