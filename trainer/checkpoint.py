"""Fits on disk, so that a run that was killed goes on where it was: safetensors and JSON, named by what is in them.

A run's fits share a folder, whose name is a hash of all that their weights follow from: the snapshot, the configuration, what
is carried over, the inputs, the device and the versions of this code and of torch. A file is written whole or not at all, its
name holds the sha256 of its bytes, and the one before it stays until it is there; one that is not what its name promises is
left aside for the one before. A disk that is full costs the checkpoint and not the fit.
"""

import hashlib
import json
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor

from curation import __version__, telemetry
from curation.errors import InputError, IntegrityError, shorten
from curation.store.files import write_atomic
from trainer.course import Course
from trainer.data import Rows
from trainer.processes import ALONE, Processes

FORMAT = "refurbish-checkpoint-1"
ABOUT = "about"
NAME = re.compile(r"(?P<epoch>\d{4})-(?P<sha256>[0-9a-f]{64})\.safetensors")
N_KEPT = 2
"""Of a fit, the newest first: the second is for when the first one cannot be read."""

STALE_S = 7 * 24 * 3600.0
"""Checkpoints that nobody went on from for so long are removed when another run begins."""

N_LEFT = 3
"""And of interrupted runs all but so many: a night that fails after the other would fill the disk within the week."""

log = telemetry.logger("checkpoint")


class Checkpoint(Protocol):
    """Where one fit is kept."""

    def resume(self, course: Course) -> None:
        """Put the course where it was kept last, if it was."""

    def keep(self, course: Course) -> None:
        """Keep it as it is after an epoch, if it is time to."""


class _Unsaved:
    def resume(self, course: Course) -> None:
        pass

    def keep(self, course: Course) -> None:
        pass


UNSAVED: Checkpoint = _Unsaved()
"""Of fits that are not kept."""


@dataclass(slots=True)
class Checkpoints:
    """The fits of one run. Every process of it has one; the first writes, and all go on from what the first one reads."""

    folder: Path
    every_s: float  #: seconds between two of them; 0 = after each epoch
    processes: Processes = ALONE
    clock: Callable[[], float] = time.monotonic
    resumed: dict[str, int] = field(default_factory=dict)  #: epochs that were there already, by the name of the fit
    kept_at_s: float = 0.0

    @classmethod
    def of(cls, home: Path, follows_from: Mapping[str, Any], every_s: float, processes: Processes = ALONE) -> "Checkpoints":
        """Of a run whose weights follow from this, as JSON; what other runs left long ago is removed."""
        versions = {"format": FORMAT, "refurbish": __version__, "torch": torch.__version__, "processes": processes.n}
        told = json.dumps({**versions, **follows_from}, sort_keys=True, allow_nan=False)
        own = home / "cache" / "fits" / hashlib.sha256(told.encode()).hexdigest()
        if processes.is_first:
            _sweep(own, time.time() - STALE_S)
        found = cls(own, every_s, processes)
        found.kept_at_s = found.clock()
        return found

    def fit(self, name: str, *rows: Rows) -> Checkpoint:
        """Of the fit of this name (a word) on these rows."""
        crcs = "-".join(f"{zlib.crc32(one.tobytes()):08x}" for one in rows)
        return _Fit(self, name, self.folder / f"{name}-{crcs}")

    def clear(self) -> None:
        """Remove them all: the run has ended well."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(slots=True)
class _Fit:
    run: Checkpoints
    name: str
    folder: Path

    def resume(self, course: Course) -> None:
        for tensors, about in self._found():
            try:
                course.put_back(tensors, about)
            except InputError as error:
                log.warning("checkpoint not used", fit=self.name, error=str(error))
                continue
            except (KeyError, TypeError, ValueError, RuntimeError) as error:  # half of it may be put back
                self.run.clear()
                raise InputError(
                    f"a checkpoint of {self.name} cannot be used, {error}; all were removed, run it again"
                ) from error
            self.run.resumed[self.name] = len(course.losses)
            log.info("fit goes on", fit=self.name, after_epoch=len(course.losses))
            return

    def keep(self, course: Course) -> None:
        if not self.run.processes.is_first or self.run.clock() - self.run.kept_at_s < self.run.every_s:
            return
        try:
            _write(self.folder, len(course.losses), course.tensors(), course.about())
        except OSError as error:
            log.warning("checkpoint not written", fit=self.name, error=str(error))
        self.run.kept_at_s = self.run.clock()

    def _found(self) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
        """What the first process can read, newest first, in all of them."""
        data = _readable(self.folder) if self.run.processes.is_first else iter(())
        while (found := self.run.processes.told_bytes(next(data, b""))) != b"":
            yield _parsed(found)


def _write(folder: Path, epoch: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Add a checkpoint; of those before it the newest stays."""
    told = json.dumps({"format": FORMAT, **about}, allow_nan=False)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = bytes_of(plain, {ABOUT: told})
    write_atomic(folder / f"{epoch:04d}-{hashlib.sha256(data).hexdigest()}.safetensors", data)
    for old in _newest_first(folder)[N_KEPT:]:
        old.unlink(missing_ok=True)


def _newest_first(folder: Path) -> list[Path]:
    try:
        return sorted((path for path in folder.iterdir() if NAME.fullmatch(path.name)), reverse=True)
    except FileNotFoundError:
        return []


def _readable(folder: Path) -> Iterator[bytes]:
    """The bytes of each checkpoint that is what its name promises; of the others the log says what is wrong."""
    for path in _newest_first(folder):
        try:
            data = path.read_bytes()
            _require_named(path, data)
            _parsed(data)
        except (OSError, InputError, IntegrityError) as error:
            log.warning("checkpoint not used", file=str(path), error=str(error))
        else:
            yield data


def _require_named(path: Path, data: bytes) -> None:
    found, named = hashlib.sha256(data).hexdigest(), NAME.fullmatch(path.name)
    if named is None or named["sha256"] != found:
        raise IntegrityError(f"checkpoint {path} holds sha256 {found}; it was changed or cut off, and is not gone on from")


def _parsed(data: bytes) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Raises InputError on anything but what `_write` writes."""
    try:
        tensors = tensors_of(data)
        about = json.loads(_header(data)[ABOUT])
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {shorten(about['format'])}, this release reads {FORMAT}")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"a checkpoint cannot be read: {shorten(str(error))}; the fit begins anew or at the one before"
        ) from error
    return tensors, about


def _header(data: bytes) -> dict[str, str]:
    """What was said beside the tensors; safetensors has no function for bytes. `tensors_of` has checked the length."""
    n_bytes = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + n_bytes])["__metadata__"]
    return found


def _sweep(own: Path, before: float) -> None:
    """Of the folders beside this one, remove those that nothing was written to since, and all but the newest."""
    try:
        changed = {path: max(_changed(path)) for path in own.parent.iterdir() if path.is_dir() and path != own}
    except OSError:
        return
    newest = sorted(changed, key=changed.__getitem__, reverse=True)[:N_LEFT]
    for path in changed:
        if changed[path] < before or path not in newest:
            shutil.rmtree(path, ignore_errors=True)


def _changed(folder: Path) -> Iterator[float]:
    yield folder.stat().st_mtime
    yield from (path.stat().st_mtime for path in folder.iterdir())
