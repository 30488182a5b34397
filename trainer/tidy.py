"""A graph as it is kept: what ONNX Runtime would fold at every start is folded once, and paddings go into convolutions."""

import tempfile
from collections import Counter
from pathlib import Path

import onnx
from onnx import numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process


def tidied(graph: bytes) -> bytes:
    """The same model by fewer steps.

    The exporter writes a padding as a dozen steps that end in a constant; where it stands apart from its convolution it takes a
    third of the time of a network of small convolutions, and whole numbers go back to floats for it.
    """
    with tempfile.TemporaryDirectory() as folder:
        written, folded = Path(folder) / "written.onnx", Path(folder) / "folded.onnx"
        written.write_bytes(graph)  # a graph in memory loses its constants where the folding fails
        quant_pre_process(written, folded, skip_symbolic_shape=True)
        model = onnx.load(folded)
    _put_paddings_into_convolutions(model.graph)
    return bytes(model.SerializeToString())


def _put_paddings_into_convolutions(graph: onnx.GraphProto) -> None:
    constants = {one.name: one for one in graph.initializer}
    n_users = Counter([*(name for node in graph.node for name in node.input), *(one.name for one in graph.output)])
    made_by = {name: node for node in graph.node for name in node.output}
    for node in [one for one in graph.node if one.op_type == "Conv"]:
        pad = made_by.get(node.input[0])
        if pad is None or pad.op_type != "Pad" or n_users[pad.output[0]] > 1 or not _is_of_zeros(pad):
            continue
        margins = constants.get(pad.input[1])
        if margins is not None and _widened(node, numpy_helper.to_array(margins).tolist()):
            node.input[0] = pad.input[0]
            graph.node.remove(pad)
            n_users[pad.input[1]] -= 1
            if not n_users[pad.input[1]]:
                graph.initializer.remove(margins)


def _is_of_zeros(pad: onnx.NodeProto) -> bool:
    """No other value is named, and the mode is the usual one."""
    mode = next((one.s for one in pad.attribute if one.name == "mode"), b"constant")
    return mode == b"constant" and len([name for name in pad.input if name]) == 2


def _widened(convolution: onnx.NodeProto, margins: list[int]) -> bool:
    """Add margins (of all axes, their beginnings first) to those of a convolution; False where they are not of its picture."""
    n_axes = len(margins) // 2
    own = next((one for one in convolution.attribute if one.name == "pads"), None)
    if own is None or min(margins) < 0 or any((*margins[:2], *margins[n_axes : n_axes + 2])):
        return False
    added = [*margins[2:n_axes], *margins[n_axes + 2 :]]
    own.ints[:] = [one + more for one, more in zip(own.ints, added, strict=True)]
    return True
