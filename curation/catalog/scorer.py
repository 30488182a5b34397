"""A released detector, run by ONNX Runtime: files named by their sha256, and the shared featuriser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.catalog import canary
from curation.catalog import sidecar as sidecars
from curation.catalog.features import FeatureConfig, Features, Featurizer
from curation.catalog.kinds import Kinds
from curation.catalog.photos import PhotoCache
from curation.catalog.sidecar import INT8, ONNX_SUFFIX, SAID, THRESHOLDS, TOKENIZER
from curation.catalog.tokens import Tokenizer
from curation.errors import IntegrityError, NotFoundError, ProbabilityError, shorten
from curation.store.files import FileStore
from curation.types import Listing

BATCH = 128
N_THREADS = 2
INPUTS = ("ids", "counts", "numeric", "photos", "photo_index")
TOKEN_INPUTS = ("tokens", "token_fields")
"""Beside INPUTS, where the model reads texts in order."""

SAID_INPUT = "said"
"""Beside INPUTS, where violations are asked with the seller's category."""

OUTPUTS = ("category", "violation")
EMBEDDING = "embedding"
"""Beside OUTPUTS, of models that were exported with their joint embedding."""

FP32 = "fp32"
"""The precision beside INT8."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A detector's answers for N listings, in the order asked."""

    category_probs: NDArray[np.float32]  #: (N, K), rows sum to 1
    classes: tuple[str, ...]
    violation_probs: NDArray[np.float32]  #: (N, V) in [0, 1]
    violations: tuple[str, ...]


class Scorer:
    """One loaded model. `Scorer.load` checks that file, sidecar and code belong together."""

    def __init__(self, session: Any, sidecar: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> None:
        self._session, self.sidecar = session, sidecar
        self.classes, self.violations = tuple(sidecar["classes"]), tuple(sidecar["violations"])
        kinds = Kinds(self.classes) if sidecar.get(SAID) else None
        self.featurizer = Featurizer(FeatureConfig.from_json(sidecar["features"]), tokenizer, kinds)
        self.thresholds = _thresholds(sidecar)  #: (V,) flag a violation from this probability on; inf = never
        self.precision = FP32

    @property
    def cuts(self) -> Mapping[str, Any]:
        """What is known of each threshold of the file in use, by violation; empty for models older than thresholds."""
        found: Mapping[str, Any] = self.sidecar.get(THRESHOLDS, {})
        return found

    @classmethod
    def load(cls, files: FileStore, onnx_sha256: str, sidecar_sha256: str, precision: str = INT8) -> "Scorer":
        """The model of these files, in whole numbers (`precision` int8) where the gate approved them.

        Raises NotFoundError if a file is gone, IntegrityError if they do not belong together or answer made-up listings
        otherwise than where they were made.
        """
        sidecar = sidecars.load(files, onnx_sha256, sidecar_sha256)
        tokenizer = Tokenizer.load(files, sidecar[TOKENIZER]) if TOKENIZER in sidecar else None
        small = sidecars.small(sidecar) if precision == INT8 else None
        if small is None:
            found = cls.of(files.get(onnx_sha256, ONNX_SUFFIX), sidecar, tokenizer)
        else:
            served = {**sidecar, "onnx_sha256": small["sha256"], THRESHOLDS: small.get(THRESHOLDS, {})}
            found = cls.of(files.get(small["sha256"], ONNX_SUFFIX), served, tokenizer)
            found.precision = INT8
        canary.check(found, (small or sidecar).get(canary.CANARY))
        return found

    @classmethod
    def of(cls, graph: bytes, sidecar: Mapping[str, Any], tokenizer: Tokenizer | None = None) -> "Scorer":
        """The model of a file's bytes and its sidecar. Raises IntegrityError if it cannot be loaded or they disagree."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = N_THREADS
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        except Exception as error:
            if type(error).__module__.startswith("onnxruntime"):
                raise IntegrityError(
                    f"model file {sidecar['onnx_sha256']} cannot be loaded: {shorten(str(error), 200)}; export it again"
                ) from error
            raise
        _require_shape(session, sidecar)
        return cls(session, sidecar, tokenizer)

    def score(self, listings: Sequence[Listing], media: FileStore, cache: PhotoCache | None = None) -> Scores:
        """Probabilities for these listings, a batch at a time. Raises ProbabilityError if the model answers nonsense."""
        parts = [
            self.predict(self.featurizer.transform(listings[at : at + BATCH], media, cache))
            for at in range(0, len(listings), BATCH)
        ]
        category = np.concatenate([part.category_probs for part in parts] or [np.zeros((0, len(self.classes)), np.float32)])
        violation = np.concatenate([part.violation_probs for part in parts] or [np.zeros((0, len(self.violations)), np.float32)])
        return Scores(category, self.classes, violation, self.violations)

    def predict(self, features: Features, rows: NDArray[np.int64] | None = None) -> Scores:
        """The same for rows of ready features (default: all), a batch at a time."""
        rows = np.arange(len(features)) if rows is None else rows
        found = [self._session.run(list(OUTPUTS), features.inputs(rows[at : at + BATCH])) for at in range(0, len(rows), BATCH)]
        category = np.concatenate([part[0] for part in found] or [np.zeros((0, len(self.classes)), np.float32)])
        violation = np.concatenate([part[1] for part in found] or [np.zeros((0, len(self.violations)), np.float32)])
        bad = ~np.isfinite(category).all(1) | ~np.isfinite(violation).all(1)
        if bad.any():
            refs = [features.refs[row] for row in rows[bad]]
            raise ProbabilityError(f"the model gave NaN for {len(refs)} listings, {shorten(refs)}; roll back and retrain")
        return Scores(category, self.classes, violation, self.violations)

    def embed(self, features: Features) -> NDArray[np.float32]:
        """(N, D) joint embeddings, a batch at a time. Raises NotFoundError if the model was exported without.

        Raises ProbabilityError if it answers nonsense.
        """
        width = {node.name: node.shape[-1] for node in self._session.get_outputs()}.get(EMBEDDING)
        if width is None:
            raise NotFoundError("this model was exported without embeddings; retrain first: refurbish retrain")
        rows = np.arange(len(features))
        parts = [self._session.run([EMBEDDING], features.inputs(rows[at : at + BATCH]))[0] for at in range(0, len(rows), BATCH)]
        found: NDArray[np.float32] = np.concatenate([np.zeros((0, width), np.float32), *parts])
        bad = ~np.isfinite(found).all(1)
        if bad.any():
            refs = [features.refs[row] for row in np.flatnonzero(bad)]
            raise ProbabilityError(f"the model gave NaN for {len(refs)} listings, {shorten(refs)}; roll back and retrain")
        return found

    def flagged(self, scores: Scores) -> NDArray[np.bool_]:
        """(N, V) violations whose probability reaches the certified threshold; what has none is never flagged."""
        found: NDArray[np.bool_] = scores.violation_probs >= self.thresholds
        return found


def _thresholds(sidecar: Mapping[str, Any]) -> NDArray[np.float64]:
    """(V,) as certified; inf where nothing was, and for all of a model older than thresholds."""
    found = sidecar.get(THRESHOLDS, {})
    try:
        values = [(found.get(name) or {}).get("value") for name in sidecar["violations"]]
        cuts = np.array([np.inf if value is None else float(value) for value in values], np.float64)
    except (AttributeError, TypeError, ValueError):
        cuts = np.full(1, np.nan)
    if np.isnan(cuts).any():
        raise IntegrityError(f"a model's sidecar has thresholds that are no numbers: {shorten(found)}; export the model again")
    return cuts


def _require_shape(session: Any, sidecar: Mapping[str, Any]) -> None:
    """Names, widths and output columns must be those that the sidecar promises."""
    shape = FeatureConfig.from_json(sidecar["features"])
    found = {node.name: node.shape for node in (*session.get_inputs(), *session.get_outputs())}
    last = {name: sizes[-1] for name, sizes in found.items()}
    wanted = {
        "ids": shape.width,
        "counts": shape.width,
        "photo_index": shape.n_views,
        "category": len(sidecar["classes"]),
        "violation": len(sidecar["violations"]),
    }
    found.pop(EMBEDDING, None)
    bad = {name: (last.get(name), size) for name, size in wanted.items() if last.get(name) != size}
    further = (*(TOKEN_INPUTS if TOKENIZER in sidecar else ()), *([SAID_INPUT] if sidecar.get(SAID) else []))
    if bad or set(found) != {*INPUTS, *further, *OUTPUTS}:
        raise IntegrityError(
            f"model file and sidecar disagree (found, promised): {shorten(bad or sorted(found), 200)}; export it again"
        )
