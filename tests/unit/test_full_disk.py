"""Whatever operation on the disk fails, what was there before is there afterwards, whole."""

import errno
import os
from pathlib import Path

import pytest

from curation.catalog.scorer import Scorer
from curation.store.files import FileStore, write_atomic
from tests import full_disk
from tests.unit.test_scorer import CLASSES, POLICY, detector
from tests.unit.test_trainer import SHAPE
from trainer import onnx


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_file_is_the_old_one_or_the_new_one_at_every_failure(tmp_path: Path, code: int) -> None:
    """Opening, writing, syncing and renaming fail in turn: the old file or all of the new one, nothing beside it (fault 49)."""
    target = tmp_path / "deep" / "file"
    write_atomic(target, b"old")
    n = full_disk.every(lambda: write_atomic(target, b"old"), tmp_path)
    assert n >= 4
    for nth in range(1, n + 1):
        with full_disk.failing(tmp_path, nth, code) as disk, pytest.raises(OSError, match=os.strerror(code)):
            write_atomic(target, b"new" * 5000)
        assert disk.n_failed == 1
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]
        has_its_name = "replace" in disk.done[: nth - 1]
        assert target.read_bytes() == (b"new" * 5000 if has_its_name else b"old")
        write_atomic(target, b"old")


def test_a_file_that_failed_once_can_be_stored_later(tmp_path: Path) -> None:
    """A store whose disk was full at any step takes the same file once there is room (fault 49)."""
    n = full_disk.every(lambda: FileStore(tmp_path / "0").put(b"model"), tmp_path)
    assert n >= 6
    for nth in range(1, n + 1):
        files = FileStore(tmp_path / str(nth))
        with full_disk.failing(files.root, nth, stays_full=True), pytest.raises(OSError, match="No space left"):
            files.put(b"model")
        assert not list(files.root.rglob(".part-*"))
        assert files.get(files.put(b"model")) == b"model"


def test_the_kernel_refuses_a_file_that_grows_too_large(tmp_path: Path) -> None:
    """The limit that stands for a full disk where C++ writes is one of the kernel (fault 49)."""
    with full_disk.largest_file(1000), pytest.raises(OSError, match="too large"):
        write_atomic(tmp_path / "file", b"x" * 1001)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["weights", "model", "sidecar"])
def test_a_model_is_exported_once_there_is_room(tmp_path: Path, name: str) -> None:
    """A disk that is full from the first byte of any of its files: nothing half is left, and the next try is whole (fault 49)."""
    files, about = FileStore(tmp_path), {"shape": SHAPE, "classes": CLASSES, "violations": POLICY, "report": {}}
    nth = {"weights": 3, "model": 11, "sidecar": 19}[name]
    with full_disk.failing(tmp_path, nth, stays_full=True), pytest.raises(OSError, match="No space left"):
        onnx.export(detector(), files, **about)
    assert not list(tmp_path.rglob(".part-*"))
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == ["weights", "model", "sidecar"].index(name)
    made = onnx.export(detector(), files, **about)
    assert Scorer.load(files, made.onnx_sha256, made.sidecar_sha256).classes == CLASSES
