"""The model file in whole numbers: close to the one in floats, smaller, alone as in company, and judged before it serves."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx as onnx_format
import pytest
import torch
from onnxruntime import InferenceSession

from curation.catalog.canary import CANARY, TEXTS
from curation.catalog.features import Features, Featurizer
from curation.catalog.scorer import FP32, OUTPUTS, Scorer
from curation.catalog.sidecar import INT8, ONNX_SUFFIX, SIDECAR_SUFFIX, THRESHOLDS
from curation.errors import IntegrityError, NotFoundError
from curation.release.gates import Check
from curation.release.registry import Model
from curation.store.files import FileStore
from curation.store.workspace import Workspace
from tests.unit import test_efficientnet as efficientnet_tests
from tests.unit import test_resnet as resnet_tests
from tests.unit import test_sequence as sequence_tests
from tests.unit.test_scorer import CLASSES, POLICY, changed, detector, listings
from tests.unit.test_trainer import SHAPE
from trainer import judgement, loop, onnx, quantize
from trainer.config import TrainConfig
from trainer.model import Exportable
from trainer.served import served

Exported = tuple[FileStore, onnx.Artifact, Features]


def export(files: FileStore, features: Features, *, is_approved: bool = True) -> onnx.Artifact:
    """A detector in both precisions; thresholds that tell the files apart."""
    rounding = onnx.Rounding(
        quantize.calibration(features, np.arange(8)), lambda *_: Check("int8", is_approved, "said so", {"n": 8})
    )
    return onnx.export(
        detector(),
        files,
        shape=SHAPE,
        classes=CLASSES,
        violations=POLICY,
        report={},
        certify=lambda one: {"unsafe": {"value": float(one.predict(features).category_probs[0, 0])}},
        rounding=rounding,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One approved detector in both precisions."""
    files = FileStore(tmp_path_factory.mktemp("files"))
    features = Featurizer(SHAPE).transform(listings(files), files)
    return files, export(files, features), features


def test_whole_numbers_are_close_and_small(exported: Exported) -> None:
    """Probabilities differ by less than two hundredths, those of violations as little as floats, and the file is smaller."""
    files, made, features = exported
    full, small = (Scorer.load(files, made.onnx_sha256, made.sidecar_sha256, one) for one in (FP32, INT8))
    assert (full.precision, small.precision) == (FP32, INT8) and made.small is not None
    expected, found = full.predict(features), small.predict(features)
    assert 0 < np.abs(expected.category_probs - found.category_probs).max() < 0.02
    assert np.abs(expected.violation_probs - found.violation_probs).max() < 1e-5
    assert made.small["bytes"] < 0.9 * made.n_bytes and len(files.get(made.small["sha256"], ONNX_SUFFIX)) == made.small["bytes"]


def test_a_score_does_not_depend_on_company(exported: Exported) -> None:
    """Units of quantised weights are of each listing."""
    files, made, features = exported
    scorer = Scorer.load(files, made.onnx_sha256, made.sidecar_sha256)
    together = scorer.predict(features).category_probs
    alone = np.concatenate([scorer.predict(features, np.array([row])).category_probs for row in range(8)])
    assert np.allclose(together, alone, atol=1e-6)


def test_each_file_has_its_own_thresholds(exported: Exported) -> None:
    """What was certified for one file is not promised for the other."""
    files, made, features = exported
    for precision in (FP32, INT8):
        scorer = Scorer.load(files, made.onnx_sha256, made.sidecar_sha256, precision)
        assert scorer.thresholds[1] == float(scorer.predict(features).category_probs[0, 0]) == scorer.cuts["unsafe"]["value"]


def test_what_is_not_approved_is_not_served(exported: Exported, tmp_path: Path) -> None:
    """Floats serve, and the sidecar says why."""
    _, _, features = exported
    files = FileStore(tmp_path)
    made = export(files, features, is_approved=False)
    assert Scorer.load(files, made.onnx_sha256, made.sidecar_sha256).precision == FP32
    section = json.loads(files.get(made.sidecar_sha256, SIDECAR_SUFFIX))[INT8]
    assert section["words"] == "said so" and section["delta"] == {"n": 8} and not section["approved"]


def test_a_live_model_is_compared_in_floats_where_its_whole_numbers_do_not_run(
    exported: Exported, sqlite_workspace: Workspace, now: datetime
) -> None:
    """On a machine that computes them otherwise it still defends its place; where floats do not run either, it cannot."""
    files, made, _ = exported
    workspace, sidecar = replace(sqlite_workspace, files=files), json.loads(files.get(made.sidecar_sha256, SIDECAR_SUFFIX))
    elsewhere = {"category": [[[0, 1.0]]] * len(TEXTS), "violation": [[]] * len(TEXTS)}
    told = changed(files, made, int8={**sidecar[INT8], CANARY: elsewhere})
    with pytest.raises(IntegrityError, match="made-up listing"):
        Scorer.load(files, made.onnx_sha256, told)
    live = Model(1, "det-0001", None, made.onnx_sha256, told, "0" * 64, {}, now)
    assert judgement._runnable(workspace, live).precision == FP32
    neither = changed(files, made, int8={**sidecar[INT8], CANARY: elsewhere}, canary=elsewhere)
    with pytest.raises(IntegrityError, match="made-up listing"):
        judgement._runnable(workspace, replace(live, sidecar_sha256=neither))


def test_a_sidecar_without_whole_numbers_is_read_as_ever(exported: Exported) -> None:
    """Models exported before there were any serve in floats."""
    files, made, _ = exported
    sidecar = json.loads(files.get(made.sidecar_sha256, SIDECAR_SUFFIX))
    del sidecar[INT8]
    older = files.put(json.dumps(sidecar).encode(), SIDECAR_SUFFIX)
    scorer = Scorer.load(files, made.onnx_sha256, older)
    assert scorer.precision == FP32 and scorer.cuts == sidecar[THRESHOLDS]


@pytest.mark.parametrize(
    "section", [[], {"approved": True}, {"sha256": 3, "approved": True}, {"sha256": "0" * 64, "approved": 1}]
)
def test_an_unusable_part_of_the_sidecar_is_refused(exported: Exported, section: object) -> None:
    """A sidecar is never guessed at (fault 48)."""
    files, made, _ = exported
    with pytest.raises(IntegrityError, match="unusable part 'int8'"):
        Scorer.load(files, made.onnx_sha256, changed(files, made, int8=section))


def test_a_lost_or_changed_file_is_refused(exported: Exported, tmp_path: Path) -> None:
    """As for floats: no silent change to another file (fault 48)."""
    _, _, features = exported
    files = FileStore(tmp_path)
    made = export(files, features)
    assert made.small is not None
    path = files.path(made.small["sha256"], ONNX_SUFFIX)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match="holds sha256"):
        Scorer.load(files, made.onnx_sha256, made.sidecar_sha256)
    path.unlink()
    with pytest.raises(NotFoundError, match="restore it from a backup"):
        Scorer.load(files, made.onnx_sha256, made.sidecar_sha256)
    assert Scorer.load(files, made.onnx_sha256, made.sidecar_sha256, FP32).precision == FP32


def test_the_served_network_answers_as_the_detector(exported: Exported) -> None:
    """Folding and leaving out change nothing, with photos and without, and the detector stays what it was."""
    *_, features = exported
    made = detector()
    quick = served(made, SHAPE.photo_px)
    for rows in (np.arange(8), np.array([7]), np.array([1, 1])):
        inputs = {name: torch.from_numpy(array) for name, array in features.inputs(rows).items()}
        with torch.no_grad():
            for found, expected in zip(quick(**inputs), Exportable(made)(**inputs), strict=True):
                assert torch.allclose(found, expected, atol=1e-6)
    assert made.text is not quick.detector.text and made.stem is not quick.detector.stem


def test_only_what_pays_is_whole_numbers(exported: Exported) -> None:
    """The table of n-grams is of bytes; the stem and the heads, where bytes cost accuracy and save nothing, are of floats."""
    files, made, _ = exported
    assert made.small is not None
    model = onnx_format.load_from_string(files.get(made.small["sha256"], ONNX_SUFFIX))
    of_bytes = [list(one.dims) for one in model.graph.initializer if one.data_type == onnx_format.TensorProto.INT8]
    assert [SHAPE.n_buckets, 8] in of_bytes
    assert {node.op_type for node in model.graph.node} >= {"MatMulInteger", "Conv", "Gemm"}


def test_calibration_takes_no_more_than_it_needs(exported: Exported) -> None:
    """Rows are spread evenly, a batch at a time; without rows there is nothing."""
    *_, features = exported
    assert quantize.calibration(features, np.zeros(0, np.int64)) == []
    assert [len(one["ids"]) for one in quantize.calibration(features, np.tile(np.arange(8), 50))] == [
        quantize.CALIBRATION_BATCH
    ] * 16


@pytest.mark.parametrize("architecture", ["textcnn", "cells"])
def test_token_branches_are_whole_numbers(tmp_path: Path, architecture: str) -> None:
    """Convolutions of a TextCNN and of cells are quantised, and answers stay close, of a listing that has nothing too."""
    files, chosen = FileStore(tmp_path), sequence_tests.config(architecture, epochs=1)
    found = [*sequence_tests.listings(40), *listings(files)]
    made = sequence_tests.table(files, chosen, found)
    fitted = loop.fit(made, np.arange(40), np.arange(40, 48), config=chosen)
    full = onnx.traced(served(fitted.detector, SHAPE.photo_px), SHAPE)
    small = quantize.int8(full, quantize.calibration(made.features, np.arange(16)))
    kinds = {node.op_type for node in onnx_format.load_from_string(small).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "MatMulInteger"} <= kinds
    inputs = made.features.inputs(np.arange(48))
    answers = [answered(graph, inputs) for graph in (full, small)]
    assert all(np.abs(one - other).max() < 0.05 for one, other in zip(*answers, strict=True))


def answered(graph: bytes, inputs: quantize.Inputs) -> list[np.ndarray]:
    found: list[np.ndarray] = InferenceSession(graph, providers=["CPUExecutionProvider"]).run(list(OUTPUTS), dict(inputs))
    return found


@pytest.mark.parametrize("network", [resnet_tests, efficientnet_tests], ids=["resnet", "efficientnet"])
def test_backbones_are_whole_numbers(tmp_path: Path, network: ModuleType) -> None:
    """All convolutions but the one that sees colours; no padding stands alone, and a listing without photos is answered too.

    Weights are random, which magnifies rounding.
    """
    found, _ = resnet_tests.features(tmp_path)
    changes = {**resnet_tests.CONFIG.to_json(), "backbone": str(network.written(tmp_path)), "backbone_alone": True}
    made = resnet_tests.untrained(TrainConfig.from_json(changes), found)
    full = onnx.traced(served(made, resnet_tests.SHAPE.photo_px), resnet_tests.SHAPE)
    small = quantize.int8(full, quantize.calibration(found, np.arange(8)))
    graph = onnx_format.load_from_string(small).graph
    assert "Pad" not in {node.op_type for node in graph.node}
    floats = {one.name for one in graph.initializer if one.data_type == onnx_format.TensorProto.FLOAT}
    assert [node.op_type for node in graph.node if node.op_type == "Conv" and floats.intersection(node.input)] == ["Conv"]
    for row in range(8):
        answers = [answered(one, found.inputs(np.array([row]))) for one in (full, small)]
        assert all(np.abs(one - other).max() < 0.2 for one, other in zip(*answers, strict=True))
