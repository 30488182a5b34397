"""A served graph in whole numbers: the table of n-grams row by row, token branch and backbone by what training rows make of them.

Token branch and backbone are quantised statically (calibrated), per channel, as pairs of quantise and dequantise nodes: dynamic
quantisation of convolutions runs two to four times slower than floats. Weights have seven bits, so that processors without
instructions for dot products of bytes do not overflow and give the same answers. Patch filters and heads stay floats: bytes
cost them up to 0.007 and 0.019 of a violation's average precision on real ads and saved a tenth of the time, and none. So does
the convolution that sees a backbone's pixels, whose three channels are multiplied no quicker as bytes.
"""

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from curation.catalog.features import Features
from curation.catalog.scorer import Scorer
from curation.release.gates import Check
from curation.release.rounding import Answers, rounded
from curation.settings import Settings
from curation.types import Split
from trainer.certify import certifying
from trainer.data import Rows, Table
from trainer.rows import SnapshotRows
from trainer.served import LEAST

N_CALIBRATED = 256
"""Training rows that ranges of activations are taken from, at most."""

CALIBRATION_BATCH = 16
MIN_TABLE_ROWS = 256
"""Fewer rows are not worth their rounding."""

LEVELS = 127
"""Steps between zero and the largest value."""

BYTE_PRODUCT = """product (float[B, 1, L] weights, int32[B, L] ids) => (float[B, 1, D] product) {
    flat = Constant<value = int64[1] {-1}>()
    last = Constant<value = int64[1] {2}>()
    zero = Constant<value = uint8 {0}>()
    most = ReduceMax<keepdims = 1>(weights, last)
    largest = Max(most, least)
    unit = Div(largest, levels)
    unit_flat = Reshape(unit, flat)
    bytes = QuantizeLinear<axis = 0>(weights, unit_flat)
    rows = Gather<axis = 0>(table, ids)
    sums = MatMulInteger(bytes, rows, zero)
    sums_float = Cast<to = 1>(sums)
    unit_both = Div(unit, levels)
    product = Mul(sums_float, unit_both)
}"""
QUANTIZED = {"/sequence/": ("Conv", "Gather"), "/stem/(.*/)?convolutions/": ("Conv", "Relu", "Clip", "Add", "MaxPool")}
"""Which operations are quantised statically, by where they are: the token branch, and a backbone."""

N_COLOURS = 3
Inputs = Mapping[str, NDArray[Any]]


class _Rows(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Sequence[Inputs]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Inputs | None:
        return next(self._batches, None)


def calibration(features: Features, rows: NDArray[np.int64]) -> list[Inputs]:
    """Inputs of up to N_CALIBRATED of these rows, evenly spaced, some at a time."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), N_CALIBRATED)).astype(np.int64)] if len(rows) else rows
    return [features.inputs(chosen[at : at + CALIBRATION_BATCH]) for at in range(0, len(chosen), CALIBRATION_BATCH)]


def int8(graph: bytes, batches: Sequence[Inputs]) -> bytes:
    """The same model in whole numbers, calibrated on these inputs."""
    model = onnx.load_from_string(graph)
    _quantize_bags(model)
    chosen = _static(model.graph)
    if not chosen:
        return bytes(model.SerializeToString())
    with tempfile.TemporaryDirectory() as folder, _quiet():
        out = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            out,
            _Rows(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted(set(chosen.values())),
            nodes_to_quantize=list(chosen),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return out.read_bytes()


def _static(graph: onnx.GraphProto) -> dict[str, str]:
    """Names and kinds of the operations that are quantised by ranges."""
    colours = {one.name for one in graph.initializer if len(one.dims) == 4 and one.dims[1] == N_COLOURS}
    return {
        node.name: node.op_type
        for node in graph.node
        for where, kinds in QUANTIZED.items()
        if re.match(where, node.name) and node.op_type in kinds and not colours.intersection(node.input)
    }


def compared(full: Scorer, small: Scorer, table: Table, rows: SnapshotRows, settings: Settings) -> Check:
    """The gate's word on the file in whole numbers, on rows that neither trained the model nor certify its thresholds.

    Rows that moderators decided, of a question on which they decided enough; else validation rows with their labels as they are.
    """
    wanted, is_test = table.targets, rows.splits == Split.TEST.value
    part = (is_test & ~certifying(rows.groups)) | (rows.splits == Split.VALIDATION.value)
    decided = [np.flatnonzero(part & one) for one in (wanted.is_verified[:, 0], wanted.is_asked.any(1))]
    usual = rows.of(Split.VALIDATION)
    chosen = [found if len(found) >= max(1, settings.retrain_min_per_question) else usual for found in decided]
    category = chosen[0][wanted.category[chosen[0]] >= 0]
    answers = (_answers(one, table, category, chosen[1]) for one in (full, small))
    is_known = wanted.is_asked[chosen[1]] if chosen[1] is decided[1] else np.ones((len(usual), len(wanted.violations)), bool)
    truth = np.where(is_known, wanted.violation[chosen[1]], np.nan)
    return rounded(next(answers), next(answers), truth, wanted.violations, settings)


def _answers(scorer: Scorer, table: Table, category: Rows, violation: Rows) -> Answers:
    chosen = scorer.predict(table.features, category).category_probs.argmax(1)
    probs = scorer.predict(table.features, violation).violation_probs
    return Answers(chosen == table.targets.category[category], probs, scorer.thresholds)


def _quantize_bags(model: onnx.ModelProto) -> None:
    """Products of weights with gathered rows of a table, as products of bytes.

    y = w T[ids] with T in [-1, 1] becomes a / 127 · (u Q[ids]) with Q = round(127 T) and u = round(w / a) in [0, 127]; the unit a
    is of each listing, so that its scores do not depend on which others are scored with it.
    """
    tables = {one.name: one for one in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in [one for one in model.graph.node if one.op_type == "MatMul"]:
        gather = made_by.get(node.input[1])
        if gather is not None and gather.op_type == "Gather" and gather.input[0] in tables:
            _replace(model, node, gather, tables[gather.input[0]])


def _replace(model: onnx.ModelProto, product: onnx.NodeProto, gather: onnx.NodeProto, table: onnx.TensorProto) -> None:
    values = numpy_helper.to_array(table)
    users = [one for one in model.graph.node if gather.output[0] in one.input]
    if values.ndim != 2 or len(values) < MIN_TABLE_ROWS or len(users) != 1 or np.abs(values).max() > 1:
        return
    constants = {
        "table": np.round(values * LEVELS).astype(np.int8),
        "levels": np.array(LEVELS, np.float32),
        "least": np.array(LEAST, np.float32),
    }
    own = onnx.parser.parse_graph(BYTE_PRODUCT)
    names = {name: f"{product.output[0]}/{name}" for node in own.node for name in (*node.input, *node.output)}
    names |= {"weights": product.input[0], "ids": gather.input[1], "product": product.output[0], "": ""}
    for node in own.node:
        node.input[:], node.output[:] = [names[one] for one in node.input], [names[one] for one in node.output]
    graph = list(model.graph.node)
    at = graph.index(product)
    del model.graph.node[:]
    model.graph.node.extend([one for one in (*graph[:at], *own.node, *graph[at + 1 :]) if one.output[0] != gather.output[0]])
    model.graph.initializer.remove(table)
    model.graph.initializer.extend(numpy_helper.from_array(value, names[key]) for key, value in constants.items())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser recommends its own pre-processing on the root logger."""
    root = logging.getLogger()
    before, root.level = root.level, logging.ERROR
    try:
        yield
    finally:
        root.level = before
