"""What could not be taken over from a catalog file: one JSON line each, with the row itself."""

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from curation.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Reject:
    """One loss. `lost`: the whole ``row``, or only a ``field`` of a row that was kept."""

    n: int
    line: int | None
    field: str
    code: str
    reason: str
    lost: str
    values: Mapping[str, Any] | None = None
    raw: str | None = None


class Rejects:
    """The rejects file: written beside its name, renamed when the run ends, absent if nothing was lost.

    A file of an earlier run is replaced, or removed when there is nothing to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_reason: Counter[str] = Counter()
        self.n_rows = 0
        self.n_fields = 0
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._file: TextIO | None = None

    def __enter__(self) -> "Rejects":
        try:
            self._file = self._part.open("w", encoding="ascii")
        except OSError as error:
            raise ConfigError(
                f"rejects file {self.path} cannot be written: {error.strerror}; name another with --rejects"
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        if self.by_reason:
            os.replace(self._part, self.path)
            return
        self._part.unlink(missing_ok=True)
        if kind is None:
            self.path.unlink(missing_ok=True)

    def add(self, reject: Reject) -> None:
        """Write one line and count it under ``field: code``."""
        self.by_reason[f"{reject.field}: {reject.code}"] += 1
        self.n_rows += reject.lost == "row"
        self.n_fields += reject.lost != "row"
        said: dict[str, Any] = {
            "row": reject.n,
            "line": reject.line,
            "field": reject.field,
            "code": reject.code,
            "reason": reject.reason,
            "lost": reject.lost,
        }
        said |= {"values": _plain(reject.values)} if reject.raw is None else {"raw": reject.raw}
        if self._file is not None:
            self._file.write(json.dumps(said, allow_nan=False, default=str) + "\n")

    @property
    def written(self) -> Path | None:
        """The file, or None if nothing was lost."""
        return self.path if self.by_reason else None


def beside(file: Path, fallback: Path) -> Path:
    """``listings.csv.rejects.jsonl`` beside the file, or in `fallback` where the folder is read-only."""
    if os.access(file.parent, os.W_OK):
        return file.with_name(f"{file.name}.rejects.jsonl")
    fallback.mkdir(parents=True, exist_ok=True)
    return fallback / f"{file.name}.rejects.jsonl"


def _plain(value: Any) -> Any:
    """JSON has no NaN or infinity: they are written as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
