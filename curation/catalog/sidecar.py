"""The JSON beside a released model: which files belong to it, and what it promises. Read without numpy or ONNX Runtime.

It names the model file in floats and, since there is one, the same model in whole numbers with what it loses by them.
"""

import json
from collections.abc import Mapping
from typing import Any

from curation.errors import IntegrityError, shorten
from curation.store.files import FileStore

FORMAT = "refurbish-detector-1"
ONNX_SUFFIX = ".onnx"
SIDECAR_SUFFIX = ".json"
TOKENS_SUFFIX = ".tokens"

THRESHOLDS = "thresholds"
"""Key of the sidecar: by violation, what its threshold is and what speaks for it (`curation.quality.thresholds.Certified`)."""

TOKENIZER = "tokenizer_sha256"
"""Key of the sidecar, of models that read texts in order."""

SAID = "reads_said"
"""Key of the sidecar: whether violations are asked with the seller's category. Models of before have none, and are not."""

INT8 = "int8"
"""A precision, and a key of the sidecar: sha256 and bytes of the file in whole numbers, whether it is approved, why (words and
delta), and its own thresholds."""

_WANTED = {"format", "features", "classes", "violations", "onnx_sha256"}


def load(files: FileStore, onnx_sha256: str, sidecar_sha256: str) -> Mapping[str, Any]:
    """The sidecar of this model file. Raises NotFoundError if it is gone, IntegrityError if it is another model's."""
    found = read(files.get(sidecar_sha256, SIDECAR_SUFFIX))
    if found["onnx_sha256"] != onnx_sha256:
        raise IntegrityError(
            f"sidecar {sidecar_sha256[:12]} belongs to model file {shorten(found['onnx_sha256'])}, not to {onnx_sha256}; "
            "promote a model whose two files were written together"
        )
    return found


def read(data: bytes) -> Mapping[str, Any]:
    """What a sidecar's bytes say. Raises IntegrityError if they are not JSON, or not of `FORMAT`."""
    found = _parsed(data)
    missing = sorted(_WANTED - set(found))
    if missing or found["format"] != FORMAT:
        raise IntegrityError(f"a model's sidecar lacks {missing} or is not {FORMAT!r}: {shorten(found)}; export the model again")
    return found


def small(sidecar: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the sidecar says of the file in whole numbers; None where there is none or the gate did not approve it.

    Raises IntegrityError where what it says cannot be used.
    """
    found = sidecar.get(INT8)
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("sha256"), str) or not isinstance(found.get("approved"), bool):
        raise IntegrityError(f"a model's sidecar has an unusable part {INT8!r}: {shorten(found)}; export the model again")
    return found if found["approved"] else None


def further_files(data: bytes) -> list[tuple[str, str]]:
    """sha256 and suffix of each file that a sidecar names beside the model in floats. Raises IntegrityError if it is not JSON."""
    found = _parsed(data)
    used = small(found)
    named = [(used["sha256"], ONNX_SUFFIX)] if used else []
    tokenizer = found.get(TOKENIZER, "")
    if not isinstance(tokenizer, str):
        raise IntegrityError(f"a model's sidecar names the tokenizer {shorten(tokenizer)}, no sha256; export the model again")
    return [*named, (tokenizer, TOKENS_SUFFIX)] if tokenizer else named


def _parsed(data: bytes) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"a model's sidecar is not JSON: {error}; export the model again") from error
    if not isinstance(found, dict):
        raise IntegrityError(f"a model's sidecar is no JSON object: {shorten(found)}; export the model again")
    return found
