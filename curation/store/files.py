"""Files named by the sha256 of their bytes, under one root. Written once, never changed."""

import contextlib
import glob
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from curation import crash
from curation.errors import IntegrityError, NotFoundError, shorten

SHA256 = re.compile(r"[0-9a-f]{64}")
CHUNK_BYTES = 1 << 20
LEFT_FOR_S = 24 * 3600.0
"""Nothing that we write takes this long."""


class FileStore:
    """Content-addressed files: `put` is idempotent and atomic, `get` checks the hash."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, sha256: str, suffix: str = "") -> Path:
        """Where the file lies, whether or not it is there. Raises NotFoundError on anything but a sha256."""
        if not SHA256.fullmatch(sha256):
            raise NotFoundError(f"{shorten(sha256)} is not a sha256 (64 hex digits)")
        return self.root / sha256[:2] / f"{sha256}{suffix}"

    def has(self, sha256: str, suffix: str = "") -> bool:
        return self.path(sha256, suffix).is_file()

    def put(self, data: bytes, suffix: str = "", *, durable: bool = True) -> str:
        """Store the bytes and return their sha256. `durable=False` skips the fsync (photos can be made again)."""
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path(sha256, suffix)
        if not target.is_file():
            write_atomic(target, data, durable=durable)
        return sha256

    def put_file(self, source: Path, suffix: str = "") -> str:
        """Copy a finished file of any size in and return its sha256."""
        sha256 = sha256_of_file(source)
        target = self.path(sha256, suffix)
        if not target.is_file():
            with writing(target) as file, source.open("rb") as data:
                shutil.copyfileobj(data, file, CHUNK_BYTES)
        return sha256

    def get(self, sha256: str, suffix: str = "") -> bytes:
        """The bytes, checked. Raises NotFoundError or IntegrityError."""
        path = self.path(sha256, suffix)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError(f"file {sha256}{suffix} is not in {self.root}; restore it from a backup") from None
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise IntegrityError(f"file {path} holds sha256 {found}, not {sha256}; restore it from a backup")
        return data


@contextmanager
def writing(target: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Write beside the target, then rename: readers see the old file or the whole new one."""
    is_new = not target.parent.is_dir()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        crash.reached("file.before_rename")
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if durable:  # without it a row that names the file may outlive a power cut that the file's name does not
        for folder in (target.parent, *((target.parent.parent,) if is_new else ())):
            _sync(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(folder: Path, prefix: str) -> None:
    """Remove temporary folders whose name begins so and that nothing was written into for a day: their makers were killed."""
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(FileNotFoundError):  # its maker has just ended
            if time.time() - path.stat().st_mtime > LEFT_FOR_S:
                shutil.rmtree(path, ignore_errors=True)


def write_atomic(target: Path, data: bytes, *, durable: bool = True) -> None:
    """These bytes as the target, whole or not at all."""
    with writing(target, durable=durable) as file:
        file.write(data)


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file of any size, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
