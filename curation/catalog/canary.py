"""Made-up listings whose answers a model's sidecar tells: a model that gives others where it is loaded is not used there.

A file can be what its sha256 says, load, and still answer nonsense: another runtime, a processor without the instructions that
whole numbers need, a fault of memory. So the answers to a few listings travel with each file, and are asked for again wherever
it is loaded.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curation.catalog.features import Features
from curation.errors import IntegrityError, ProbabilityError, shorten
from curation.store.files import FileStore
from curation.types import Listing

if TYPE_CHECKING:
    from curation.catalog.scorer import Scorer, Scores

CANARY = "canary"
"""Key of a sidecar, and of its part about whole numbers: `category` and `violation`, (n, up to N_TOLD) pairs of column and p."""

N_TOLD = 8
"""Columns told of each listing, those with the largest probabilities."""

TOLERANCE = 0.05
"""Between a told probability and the one that is given; whole numbers may be rounded otherwise by another processor."""

SUM_TOLERANCE = 1e-3
TEXTS = (
    ("Oak chest of drawers, 1930s", "Three drawers, brass handles. Some scratches on the top, collection only."),
    ("iPhone 13 128GB unlocked!!", "Screen replaced last year; battery at 88 %. Comes with a case and the original box."),
    ("vélo de course taille 54", "Cadre en aluminium, pneus neufs — 14 vitesses."),
    ("", ""),
)


def answers(scorer: "Scorer") -> dict[str, list[list[tuple[int, float]]]]:
    """What this model says, for its sidecar. Raises ProbabilityError if it is no number."""
    scores = scorer.predict(features(scorer))
    return {"category": _told(scores.category_probs), "violation": _told(scores.violation_probs)}


def check(scorer: "Scorer", told: Mapping[str, Any] | None) -> None:
    """Raise IntegrityError if the model answers otherwise than its sidecar tells, or nothing that could be probabilities."""
    scores = _answered(scorer)
    _require_probabilities(scorer, scores)
    for name, found in (("category", scores.category_probs), ("violation", scores.violation_probs)):
        wanted = _parsed(scorer, told, name, found.shape) if told is not None else ()
        for row, column, p in wanted:
            if abs(found[row, column] - p) > TOLERANCE:
                raise IntegrityError(
                    f"{_named(scorer)} answers {found[row, column]:.3f} instead of {p:.3f} for the {name} of a made-up listing: "
                    "it does not run here as where it was made; export it again here, or set precision to fp32"
                )


def _answered(scorer: "Scorer") -> "Scores":
    try:
        return scorer.predict(features(scorer))
    except ProbabilityError as error:
        raise IntegrityError(f"{_named(scorer)} answers made-up listings with NaN; export it again or promote another") from error
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            words = f"{_named(scorer)} loads, but stops at made-up listings: {shorten(str(error), 200)}"
            raise IntegrityError(f"{words}; export it again or promote another") from error
        raise


def features(scorer: "Scorer") -> Features:
    """The made-up listings as the model sees them: with and without text, price and photo."""
    listings = [
        Listing(at, f"canary-{at}", None, title, text, 10.0 * at or None, "EUR", {}, (), None, (), f"canary-{at}", None)
        for at, (title, text) in enumerate(TEXTS)
    ]
    made = scorer.featurizer.transform(listings, FileStore(Path("no-photos")))
    side = scorer.featurizer.config.photo_px
    shade = np.linspace(0, 255, side * side * 3, dtype=np.uint8).reshape(1, side, side, 3)
    index = made.photo_index.copy()
    index[::2, 0] = len(made.photos)
    return replace(made, photos=np.concatenate([made.photos, shade]), photo_index=index)


def _told(probs: NDArray[np.float32]) -> list[list[tuple[int, float]]]:
    best = np.argsort(-probs, axis=1, kind="stable")[:, :N_TOLD]
    return [[(int(k), round(float(row[k]), 3)) for k in columns] for row, columns in zip(probs, best, strict=True)]


def _require_probabilities(scorer: "Scorer", scores: "Scores") -> None:
    category, violation = scores.category_probs, scores.violation_probs
    sums = category.sum(1)
    is_wrong = np.abs(sums - 1).max(initial=0) > SUM_TOLERANCE or category.min(initial=0) < 0
    if is_wrong or violation.min(initial=0) < 0 or violation.max(initial=0) > 1 + SUM_TOLERANCE:
        raise IntegrityError(
            f"{_named(scorer)} answers made-up listings with what are no probabilities (sums {shorten(sums.tolist())}); "
            "export it again, or promote another"
        )


def _parsed(scorer: "Scorer", told: Any, name: str, shape: tuple[int, ...]) -> list[tuple[int, int, float]]:
    try:
        found = [(row, int(k), float(p)) for row, pairs in enumerate(told[name]) for k, p in pairs]
        if len(told[name]) != shape[0] or not all(0 <= k < shape[1] and 0 <= p <= 1 for _, k, p in found):
            raise ValueError(f"{len(told[name])} listings, {shape[0]} wanted, or columns and probabilities out of range")
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{_named(scorer)}: its sidecar tells unusable answers, {error}; export it again") from error
    return found


def _named(scorer: "Scorer") -> str:
    return f"model file {str(scorer.sidecar.get('onnx_sha256'))[:12]}"
