"""One folder made equal to another, whole files only, while others write there."""

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

LEFT_OUT = ("cache", "refurbish.db", "refurbish.db-wal", "refurbish.db-shm")
"""Of `home`: what is made again, and the database, which is copied apart."""


def mirror(source: Path, target: Path, left_out: Collection[Path] = ()) -> tuple[int, int]:
    """Make `target` hold the files of `source`, copying what is not there; how many files and bytes it holds.

    `left_out`: files, resolved, that are copied to neither side.
    """
    n_files = n_bytes = 0
    wanted: set[Path] = set()
    for path in _files(source):
        name = path.relative_to(source)
        if path.resolve() in left_out or (target / name).resolve() in left_out:
            continue
        try:
            n_bytes += _copied(path, target / name)
        except FileNotFoundError:
            continue  # deleted meanwhile, as an export may be
        wanted.add(target / name)
        n_files += 1
    for path in _files(target):
        if path not in wanted and path.resolve() not in left_out:
            path.unlink()
    return n_files, n_bytes


def _copied(source: Path, target: Path) -> int:
    there, size = target.stat() if target.is_file() else None, source.stat()
    if there is None or (there.st_size, there.st_mtime_ns) != (size.st_size, size.st_mtime_ns):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            shutil.copy2(source, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    return size.st_size


def _files(folder: Path) -> Iterator[Path]:
    """Finished files only, links never."""
    for root, folders, names in os.walk(folder):
        left_out = LEFT_OUT if Path(root) == folder else ()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in left_out)
        for name in sorted(names):
            path = Path(root) / name
            if not name.startswith(".") and name not in left_out and path.is_file() and not path.is_symlink():
                yield path
