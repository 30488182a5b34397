"""Graphs as they are kept: paddings go into the convolutions that they are of, and nothing else does."""

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from torch import Tensor, nn
from torch.nn import functional

from trainer.tidy import tidied

Padding = Callable[[Tensor], Tensor]


class Padded(nn.Module):
    """A convolution behind some padding."""

    def __init__(self, padding: Padding, n_uses: int) -> None:
        super().__init__()
        self.padding, self.n_uses = padding, n_uses
        self.convolution = nn.Conv2d(2, 3, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.padding(x)
        return self.convolution(wide).sum((2, 3)) + (wide.sum() if self.n_uses > 1 else 0)


def written(network: nn.Module, x: Tensor) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (x,), out, input_names=["x"], output_names=["y"], dynamo=False)
    return out.getvalue()


class Cut(nn.Module):
    """What is cut off is said by a constant that must be folded."""

    k: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.tensor([2, 8], dtype=torch.int64))
        self.linear = nn.Linear(8, 600)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.reshape(-1, 8))[:, : self.k[0] * 3 - 1]


def test_constants_that_shapes_need_are_folded() -> None:
    """Weights stay in the graph."""
    network, x = Cut(), torch.randn(4, 8)
    graph = tidied(written(network, x))
    (found,) = InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    assert np.abs(found - network(x).detach().numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("padding", "n_uses", "is_folded"),
    [
        (lambda x: functional.pad(x, (0, 1, 2, 3)), 1, True),
        (lambda x: functional.pad(x, (0, 1, 2, 3)), 2, False),
        (lambda x: functional.pad(x, (0, 1, 2, 3), value=1.0), 1, False),
        (lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), 1, False),
        (lambda x: functional.pad(x, (0, -1, 0, 0)), 1, False),
        (lambda x: functional.pad(x, (0, 0, 0, 0, 0, 0, 1, 0)), 1, False),
    ],
    ids=["zeros", "used twice", "ones", "reflected", "cut off", "of the batch"],
)
def test_a_padding_goes_into_its_convolution(padding: Padding, n_uses: int, is_folded: bool) -> None:
    """Where it adds zeros around the picture and nobody else reads it; the answers are the same."""
    torch.manual_seed(1)
    network, x = Padded(padding, n_uses), torch.randn(2, 2, 8, 8)
    graph = tidied(written(network, x))
    assert ("Pad" not in {node.op_type for node in onnx.load_from_string(graph).graph.node}) == is_folded
    (found,) = InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    assert np.abs(found - network(x).detach().numpy()).max() < 1e-4
