"""The files that a registered model is served from: which they are, whether they are there and hold what was stored."""

from typing import Protocol

from curation.catalog.sidecar import ONNX_SUFFIX, SIDECAR_SUFFIX, further_files
from curation.errors import IntegrityError, NotFoundError
from curation.store.files import FileStore


class Stored(Protocol):
    """What of a model names its files."""

    @property
    def name(self) -> str: ...
    @property
    def onnx_sha256(self) -> str: ...
    @property
    def sidecar_sha256(self) -> str: ...


def files_of(model: Stored, files: FileStore) -> list[tuple[str, str]]:
    """sha256 and suffix of every file that the model is served from."""
    wanted = [(model.onnx_sha256, ONNX_SUFFIX), (model.sidecar_sha256, SIDECAR_SUFFIX)]
    return wanted + (further_files(files.get(*wanted[1])) if files.has(*wanted[1]) else [])


def gone(model: Stored, files: FileStore) -> str:
    """Which files of the model are missing, in words; empty if it could go live."""
    try:
        _require_there(model, files)
    except (NotFoundError, IntegrityError) as error:
        return str(error)
    return ""


def require_intact(model: Stored, files: FileStore | None) -> None:
    """All files of the model are there, and hold what they were stored with. Raises NotFoundError or IntegrityError."""
    if files is not None:
        for sha256, suffix in _require_there(model, files):
            files.get(sha256, suffix)


def _require_there(model: Stored, files: FileStore) -> list[tuple[str, str]]:
    wanted = files_of(model, files)
    missing = [f"{sha256}{suffix}" for sha256, suffix in wanted if not files.has(sha256, suffix)]
    if missing:
        raise NotFoundError(
            f"model {model.name} cannot go live: {' and '.join(missing)} not in {files.root}; restore from a backup"
        )
    return wanted
