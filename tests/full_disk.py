"""A disk that fails: the n-th operation that changes files under a folder ends as the kernel would end it.

`failing` stands where Python meets the kernel: `os.open` that creates, `os.write`, `fsync`, `replace`, `rename` and `mkdir`.
While it lasts `open` is Python's own implementation in `_pyio`, which goes through them; what C or C++ writes by itself does not:
for that there is `largest_file`, a limit that the kernel keeps, and for SQLite `PRAGMA max_page_count`.
"""

import _pyio
import builtins
import errno
import io
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

CALLS = ("open", "write", "fsync", "close", "replace", "rename", "mkdir")
NEVER = 0
"""As `nth`: nothing fails, operations are only counted."""


@dataclass(slots=True)
class Disk:
    """What became of the operations on the files of a folder."""

    root: Path
    nth: int  #: the operation that fails, from 1; NEVER = none
    code: int  #: errno
    stays_full: bool  #: whether all later ones but removals fail too
    done: list[str] = field(default_factory=list)  #: names of the operations, the failed ones too
    n_failed: int = 0
    own: set[int] = field(default_factory=set)  #: descriptors of files in the folder

    def step(self, name: str, path: object) -> None:
        """Count an operation. Raises OSError where it is this one's turn to fail."""
        self.done.append(name)
        n = len(self.done)
        if n == self.nth or (self.stays_full and self.nth != NEVER and n > self.nth):
            self.n_failed += 1
            raise OSError(self.code, os.strerror(self.code), str(path))

    def holds(self, path: object) -> bool:
        """Whether this is a path in the folder."""
        if not isinstance(path, str | os.PathLike):
            return False
        return Path(os.path.abspath(path)).is_relative_to(self.root)


@contextmanager
def failing(root: Path, nth: int = NEVER, code: int = errno.ENOSPC, *, stays_full: bool = False) -> Iterator[Disk]:
    """The `nth` operation on files under `root` raises OSError of this code; with `stays_full` all after it, too."""
    disk = Disk(root.resolve(), nth, code, stays_full)
    with ExitStack() as stack:
        kernel = _Kernel(disk, {name: getattr(os, name) for name in CALLS})
        for name in CALLS:
            stack.enter_context(patch.object(os, name, getattr(kernel, name)))
        stack.enter_context(patch.object(io, "open", _pyio.open))
        stack.enter_context(patch.object(builtins, "open", _pyio.open))
        yield disk


def every(work: Callable[[], Any], root: Path) -> int:
    """How many operations `work` does on files under `root` when nothing fails."""
    with failing(root) as disk:
        work()
    return len(disk.done)


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """The kernel lets no file of this process grow beyond this size (EFBIG), whoever writes it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@dataclass(frozen=True, slots=True)
class _Kernel:
    """The functions of `os` as they are, and what stands for them."""

    disk: Disk
    real: Mapping[str, Callable[..., Any]]

    def open(self, path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        is_own = self.disk.holds(path)
        if is_own and flags & os.O_CREAT:
            self.disk.step("open", path)
        found: int = self.real["open"](path, flags, *args, **kwargs)
        if is_own:
            self.disk.own.add(found)
        return found

    def write(self, descriptor: int, data: Any) -> int:
        if descriptor in self.disk.own:
            self.disk.step("write", descriptor)
        found: int = self.real["write"](descriptor, data)
        return found

    def fsync(self, descriptor: int) -> None:
        if descriptor in self.disk.own:
            self.disk.step("fsync", descriptor)
        self.real["fsync"](descriptor)

    def close(self, descriptor: int) -> None:
        self.disk.own.discard(descriptor)
        self.real["close"](descriptor)

    def replace(self, source: Any, target: Any, **kwargs: Any) -> None:
        if self.disk.holds(target):
            self.disk.step("replace", target)
        self.real["replace"](source, target, **kwargs)

    def rename(self, source: Any, target: Any, **kwargs: Any) -> None:
        if self.disk.holds(target):
            self.disk.step("rename", target)
        self.real["rename"](source, target, **kwargs)

    def mkdir(self, path: Any, *args: Any, **kwargs: Any) -> None:
        if self.disk.holds(path) and not Path(path).is_dir():
            self.disk.step("mkdir", path)
        self.real["mkdir"](path, *args, **kwargs)
