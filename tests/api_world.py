"""A service with models to call: real detectors exported to ONNX, made once a test process."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from flask.testing import FlaskClient

from curation.catalog.sidecar import ONNX_SUFFIX, SIDECAR_SUFFIX
from curation.release import registry
from curation.store import tokens
from curation.store.files import FileStore
from curation.store.people import Role
from curation.store.workspace import Workspace
from tests.conftest import NOW
from tests.unit.test_scorer import CLASSES, POLICY, detector
from tests.unit.test_trainer import SHAPE
from trainer import onnx


@cache
def artifact(bias: float) -> tuple[bytes, bytes]:
    """Model file and sidecar of a detector that leans towards its second class by `bias`."""
    files = FileStore(Path(mkdtemp(prefix="model-")))
    made = detector()
    with torch.no_grad():
        made.category.leaf.bias.add_(torch.tensor([0.0, bias, 0.0]))
    found = onnx.export(made, files, shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    return files.get(found.onnx_sha256, ONNX_SUFFIX), files.get(found.sidecar_sha256, SIDECAR_SUFFIX)


def stored(files: FileStore, bias: float = 0.0) -> dict[str, str]:
    """The files of such a model in a store, as a registry names them."""
    graph, sidecar = artifact(bias)
    shas = {"onnx_sha256": files.put(graph, ONNX_SUFFIX), "sidecar_sha256": files.put(sidecar, SIDECAR_SUFFIX)}
    return {**shas, "weights_sha256": "0" * 64}


def promote(workspace: Workspace, bias: float = 0.0) -> str:
    """Register a model and make it live; its name."""
    kept = stored(workspace.files, bias)
    with workspace.db.write() as session:
        made = registry.add_model(session, run_id=None, **kept, report={}, now=NOW)
        registry.promote(session, made.name, by="test", reason="test", now=NOW, files=workspace.files)
    return made.name


def as_(client: FlaskClient, workspace: Workspace, role: Role) -> FlaskClient:
    """The client with a token of this role on every request."""
    with workspace.db.write() as session:
        token = tokens.create(session, role.value, role, now=NOW)
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


def errors(answer: Any) -> Mapping[str, str]:
    """Field → problem of a refusal."""
    return {one["field"]: one["problem"] for one in answer.json.get("fields", [])}
