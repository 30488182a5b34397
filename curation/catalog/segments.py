"""Immutable files of rows, each row named by its first field: what several processes may compute once and share.

A file is written beside its final name and renamed, so that no reader sees half of one.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Segment = NDArray[np.void]
NAME_CHARS = 16


def stored(root: Path, name: str, dtype: np.dtype[np.void]) -> Iterator[Segment]:
    """Each `<name>-*.npy` under `root`, memory-mapped; those that are unreadable, empty or of other fields are ignored."""
    for path in sorted(root.glob(f"{name}-*.npy")):
        try:
            segment: Segment = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            continue
        if segment.dtype == dtype and len(segment):
            yield segment


def store(root: Path, name: str, segment: Segment) -> Path:
    """Write these rows, at least one; their file, called by the least of their keys, which are ASCII, and their number."""
    root.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=root, prefix=".part-")
    keys = segment[segment.dtype.names[0]].tolist()  # type: ignore[index]
    path = root / f"{name}-{min(keys).decode('ascii')[:NAME_CHARS]}-{len(segment)}.npy"
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, segment, allow_pickle=False)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    return path
