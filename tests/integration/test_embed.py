"""`refurbish embed`: listings as vectors of the live model, and their neighbours."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from curation.catalog.embeddings import pages
from curation.release import registry
from curation.store.workspace import Workspace
from tests.builders import add, record
from tests.commands import run
from tests.conftest import NOW
from tests.unit.test_scorer import CLASSES, POLICY, detector
from tests.unit.test_trainer import SHAPE
from trainer import onnx

TITLES = ("garden rake", "garden rake old", "kettle", "doll dress", "pan", "spade")


def released(workspace: Workspace) -> None:
    """A live model with random weights, and six listings."""
    add(workspace, *(record(f"r{at}", title=title, description=title) for at, title in enumerate(TITLES)))
    made = onnx.export(detector(), workspace.files, shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    shas = {"onnx_sha256": made.onnx_sha256, "sidecar_sha256": made.sidecar_sha256, "weights_sha256": made.weights_sha256}
    with workspace.db.write() as session:
        model = registry.add_model(session, run_id=None, report={}, now=NOW, **shas)
        registry.promote(session, model.name, by="test", reason="test", now=NOW, files=workspace.files)


def test_a_file_of_vectors(workspace: Workspace, tmp_path: Path) -> None:
    """One row a listing with its split and the model's name; vectors have length 1, or the model's own."""
    released(workspace)
    told = json.loads(run(workspace, "embed", "--out", str(tmp_path / "e.parquet"), "--json").stdout)
    found = pq.read_table(tmp_path / "e.parquet").to_pydict()
    assert told["n_listings"] == 6 and found["ref"] == [f"r{at}" for at in range(6)]
    assert set(found["split"]) <= {"train", "validation", "test"} and set(found["model"]) == {told["model"]}
    assert np.allclose(np.linalg.norm(np.array(found["embedding"], float), axis=1), 1, atol=1e-2)
    run(workspace, "embed", "--out", str(tmp_path / "raw.parquet"), "--raw", "--dtype", "float32", "--ref", "r2")
    raw = pq.read_table(tmp_path / "raw.parquet").to_pydict()
    assert raw["ref"] == ["r2"] and not math.isclose(np.linalg.norm(raw["embedding"][0]), 1, abs_tol=0.1)


def test_vectors_are_those_of_the_trained_model(workspace: Workspace, tmp_path: Path) -> None:
    """ONNX Runtime gives what torch calls the joint embedding."""
    released(workspace)
    run(workspace, "embed", "--out", str(tmp_path / "e.parquet"), "--raw", "--dtype", "float32")
    with workspace.db.read() as session:
        model = registry.live(session)
    assert model is not None
    scorer = onnx.Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256)
    features = scorer.featurizer.transform([one for page in pages(workspace, size=4) for one in page], workspace.media)
    inputs = {name: torch.from_numpy(array) for name, array in features.inputs(np.arange(6)).items()}
    with torch.no_grad():
        *_, joint = onnx.Exportable(detector())(**inputs)
    assert np.allclose(np.array(pq.read_table(tmp_path / "e.parquet")["embedding"].to_pylist()), joint.numpy(), atol=1e-4)


def test_neighbours_by_file_and_afresh(workspace: Workspace, tmp_path: Path) -> None:
    """The same ones either way, the listing itself left out, likest first."""
    released(workspace)
    run(workspace, "embed", "--out", str(tmp_path / "e.parquet"), "--dtype", "float32")
    asked = ("embed", "--nearest", "r0", "--k", "3", "--json")
    afresh, of_file = (json.loads(run(workspace, *asked, *more).stdout) for more in ((), ("--file", str(tmp_path / "e.parquet"))))
    assert [one["ref"] for one in afresh["neighbours"]] == [one["ref"] for one in of_file["neighbours"]]
    assert afresh["neighbours"][0]["ref"] == "r1" and len(afresh["neighbours"]) == 3
    assert "garden rake old" in run(workspace, "embed", "--nearest", "r0").stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--k", "3"), "either --out FILE or --nearest REF"),
        (("--out", "e.parquet", "--nearest", "r0"), "either --out FILE or --nearest REF"),
        (("--nearest", "gone"), "'gone'"),
        (("--out", "e.parquet", "--ref", "gone"), "'gone'"),
        (("--nearest", "r0", "--file", "no-such.parquet"), "cannot be read"),
    ],
)
def test_a_wrong_call_is_explained(
    sqlite_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    """What is wrong, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    released(sqlite_workspace)
    found = run(sqlite_workspace, "embed", *arguments)
    assert found.exit_code == 1 and told in found.stderr and not list(tmp_path.glob("*.parquet"))
    assert not list(tmp_path.glob(".part-*"))


def test_without_a_model_training_is_named(sqlite_workspace: Workspace) -> None:
    """Nothing is live yet."""
    found = run(sqlite_workspace, "embed", "--nearest", "r0")
    assert found.exit_code == 1 and "refurbish retrain" in found.stderr
