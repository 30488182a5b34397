"""A fitted detector → ONNX file, sidecar and weights, all in the file store, all named by sha256."""

import io
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from curation.catalog import canary
from curation.catalog.canary import CANARY
from curation.catalog.features import FeatureConfig, Features
from curation.catalog.scorer import EMBEDDING, INPUTS, OUTPUTS, SAID_INPUT, TOKEN_INPUTS, Scorer
from curation.catalog.sidecar import FORMAT, INT8, ONNX_SUFFIX, SAID, SIDECAR_SUFFIX, THRESHOLDS, TOKENIZER
from curation.catalog.tokens import Tokenizer
from curation.release.gates import Check
from curation.store.db import dump_json
from curation.store.files import FileStore
from curation.types import Listing
from trainer import quantize
from trainer.model import Detector, Exportable
from trainer.quantize import Inputs
from trainer.served import served
from trainer.tidy import tidied

OPSET = 18
WEIGHTS_SUFFIX = ".safetensors"
TOLERANCE = 1e-4
"""How far a probability of the exported model may be from torch's."""

N_COMPARED = 256
N_TIMED = 24


@dataclass(frozen=True, slots=True)
class Artifact:
    """What was stored."""

    onnx_sha256: str
    sidecar_sha256: str
    weights_sha256: str
    n_bytes: int  #: of the ONNX file in floats
    small: Mapping[str, Any] | None = None  #: what the sidecar says of the one in whole numbers


@dataclass(frozen=True, slots=True)
class Rounding:
    """What a file in whole numbers is made and judged by."""

    batches: Sequence[Inputs]  #: of training rows, to calibrate by
    approve: Callable[[Scorer, Scorer], Check]  #: of the file in floats and the one in whole numbers


def export(
    detector: Detector,
    files: FileStore,
    *,
    shape: FeatureConfig,
    classes: Sequence[str],
    violations: Sequence[str],
    report: Mapping[str, Any],
    certify: Callable[[Scorer], Mapping[str, Any]] | None = None,
    tokenizer: Tokenizer | None = None,
    rounding: Rounding | None = None,
) -> Artifact:
    """Store the detector as it will be served, in floats and, with `rounding`, in whole numbers.

    `report` travels in the sidecar, with each file's answers to made-up listings and the thresholds that `certify` finds by its
    answers. Raises ProbabilityError if it answers NaN.
    """
    detector = detector.cpu().eval()
    weights = files.put(save({name: value.contiguous() for name, value in detector.state_dict().items()}), WEIGHTS_SUFFIX)
    graph = traced(served(detector, shape.photo_px), shape)
    onnx_sha256 = files.put(graph, ONNX_SUFFIX)
    sidecar: dict[str, Any] = {
        "format": FORMAT,
        "features": shape.to_json(),
        "classes": list(classes),
        "violations": list(violations),
        "temperature": float(detector.log_temperature.exp()),
        "train": detector.config.to_json(),
        "onnx_sha256": onnx_sha256,
        "weights_sha256": weights,
        "report": dict(report),
        **({TOKENIZER: tokenizer.save(files)} if tokenizer else {}),
        **({SAID: True} if detector.config.reads_said else {}),
    }
    made = Scorer.of(graph, sidecar, tokenizer)
    sidecar[CANARY] = canary.answers(made)
    if certify is not None:
        sidecar[THRESHOLDS] = certify(made)
    if rounding is not None and rounding.batches:
        sidecar[INT8] = _rounded(graph, sidecar, rounding, files, certify, tokenizer)
    sidecar_sha256 = files.put(dump_json(sidecar).encode(), SIDECAR_SUFFIX)
    return Artifact(onnx_sha256, sidecar_sha256, weights, len(graph), sidecar.get(INT8))


def _rounded(
    graph: bytes,
    sidecar: Mapping[str, Any],
    rounding: Rounding,
    files: FileStore,
    certify: Callable[[Scorer], Mapping[str, Any]] | None,
    tokenizer: Tokenizer | None,
) -> dict[str, Any]:
    """Store the file in whole numbers; what the sidecar says of it."""
    data = quantize.int8(graph, rounding.batches)
    found: dict[str, Any] = {"sha256": files.put(data, ONNX_SUFFIX), "bytes": len(data)}
    made = Scorer.of(data, {**sidecar, THRESHOLDS: {}}, tokenizer)
    found[CANARY] = canary.answers(made)
    if certify is not None:
        found[THRESHOLDS] = certify(made)
    own = {**sidecar, THRESHOLDS: found.get(THRESHOLDS, {})}
    check = rounding.approve(Scorer.of(graph, sidecar, tokenizer), Scorer.of(data, own, tokenizer))
    return {**found, "approved": check.passed, "words": check.words, "delta": dict(check.numbers)}


def traced(network: Exportable, shape: FeatureConfig) -> bytes:
    """The graph of a network, by the exporter that traces: the newer one takes 9-60 s of processor time for the same graph."""
    detector, n, side = network.detector, 2, shape.photo_px
    example = (
        torch.ones(n, shape.width, dtype=torch.int32),
        torch.ones(n, shape.width, dtype=torch.uint8),
        torch.zeros(n, len(detector.numeric_mean)),
        torch.zeros(n + 1, side, side, 3, dtype=torch.uint8),
        torch.ones(n, shape.n_views, dtype=torch.int32),
    )
    further = dict(zip(TOKEN_INPUTS, detector.token_example(n), strict=False))
    further |= {SAID_INPUT: torch.ones(n, dtype=torch.int32)} if detector.config.reads_said else {}
    names = (*INPUTS, *further)
    axes = {name: {0: "photos" if name == "photos" else "listings"} for name in (*names, *OUTPUTS, EMBEDDING)}
    axes |= {name: {0: "listings", 1: "positions"} for name in names if name in TOKEN_INPUTS}
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based ONNX export", DeprecationWarning)
        warnings.filterwarnings("ignore", "The feature will be removed", DeprecationWarning)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)  # of paddings, which it writes back to front
        torch.onnx.export(
            network.eval(),
            (*example, further),
            out,  # type: ignore[arg-type]
            input_names=list(names),
            output_names=[*OUTPUTS, EMBEDDING],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return tidied(out.getvalue())


@torch.no_grad()
def difference(scorer: Scorer, detector: Detector, features: Features, rows: NDArray[np.int64]) -> float:
    """How far the loaded artifact's probabilities of these rows are from torch's, at most."""
    found = scorer.predict(features, rows)
    inputs = {name: torch.from_numpy(array) for name, array in features.inputs(rows).items()}
    category, violation, _ = Exportable(detector.cpu().eval())(**inputs)
    gaps = np.abs(found.category_probs - category.numpy()), np.abs(found.violation_probs - violation.numpy())
    return float(max(gap.max(initial=0.0) for gap in gaps))


def latency_ms_p95(scorer: Scorer, listings: Sequence[Listing], media: FileStore) -> float:
    """95th percentile of the milliseconds from one listing to its scores, photos decoded afresh."""
    spent_ms = []
    for listing in (*listings[:1], *listings[:N_TIMED]):  # the first one warms up
        started_s = time.perf_counter()
        scorer.score([listing], media)
        spent_ms.append((time.perf_counter() - started_s) * 1000)
    return float(np.percentile(spent_ms[1:], 95)) if len(spent_ms) > 1 else 0.0
