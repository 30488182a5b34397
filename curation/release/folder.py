"""A folder that appears whole or not at all."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curation import crash
from curation.errors import InputError, shorten
from curation.store.files import remove_leftovers

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
FORMAT = "refurbish-export-1"


@contextmanager
def building(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its place when the block ends well, and vanishes when it does not.

    Raises InputError if `out` holds anything but an earlier export that may be overwritten, or if
    the disk refuses.
    """
    out = out.absolute()
    _bring_back(out)
    require_free(out, overwrite=overwrite)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(out.parent, f".{out.name}.part-")
        part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.part-"))
    except OSError as error:
        raise _refused(out, error) from error
    try:
        part.chmod(0o755)
        yield part
        _sync(part)
        require_free(out, overwrite=overwrite)
        crash.reached("export.before_rename")
        _swap(part, out)
    except OSError as error:
        raise _refused(out, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_free(out: Path, *, overwrite: bool) -> None:
    """Raises InputError unless `out` is absent, empty, or an earlier export that may be overwritten."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise InputError(f"{shorten(str(out))} is not a folder; name a new one")
    if not any(out.iterdir()):
        return
    foreign = _foreign_files(out)
    if foreign is None:
        raise InputError(f"folder {shorten(str(out))} is not empty and not an earlier export; name a new one")
    if not overwrite:
        raise InputError(f"folder {shorten(str(out))} holds an earlier export; pass --overwrite to replace it")
    if foreign:
        raise InputError(
            f"folder {shorten(str(out))} holds {len(foreign)} files that no export wrote, such as {shorten(foreign[0])}; "
            "move them away or name a new folder"
        )


def _foreign_files(out: Path) -> list[str] | None:
    """Files in an earlier export that it did not write; None if it is no export."""
    try:
        manifest: dict[str, Any] = json.loads((out / MANIFEST).read_bytes())
        sums = (out / SUMS).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    own = {line.partition("  ")[2] for line in sums.splitlines()} | {MANIFEST, SUMS}
    found = (path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir() or path.is_symlink())
    return sorted(name for name in found if name not in own)


def _swap(part: Path, out: Path) -> None:
    """Rename; an earlier export steps aside first and comes back if the rename fails."""
    if not out.exists() or not any(out.iterdir()):
        os.replace(part, out)
        return
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=_aside(out)))
    os.replace(out, aside)
    crash.reached("export.between_renames")
    try:
        os.replace(part, out)
    except OSError:
        os.replace(aside, out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(out: Path) -> str:
    """How names begin under which an earlier export steps aside."""
    return f".{out.name}.old-"


def _bring_back(out: Path) -> None:
    """An earlier export that a kill left aside, between the two renames, takes its place again."""
    if out.exists() or out.is_symlink() or not out.parent.is_dir():
        return
    left = [path for path in out.parent.glob(f"{glob.escape(_aside(out))}*") if (path / MANIFEST).is_file()]
    if left:
        os.replace(max(left, key=lambda path: path.stat().st_mtime_ns), out)


def _sync(folder: Path) -> None:
    """Have the bytes on the disk before the name is."""
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refused(out: Path, error: OSError) -> InputError:
    return InputError(f"export to {shorten(str(out))} failed: {error}; nothing was left behind, make room or name another folder")
