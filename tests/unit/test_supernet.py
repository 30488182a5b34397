"""The searchable network: its gradients are those of one module an edge, and padding changes nothing."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from curation.errors import ConfigError, InputError
from tests.benchmarks.darts_port import Port
from trainer.search.cells import CONVOLUTIONS, Skeleton
from trainer.search.examples import Embedded, task_loss
from trainer.search.supernet import Architecture, Space, Supernet

DOUBLE = torch.float64
TOLERANCE = 1e-9


def made(space: Space, n_cells: int = 6) -> Supernet:
    """A small network in double precision, its architecture weights far from even."""
    torch.manual_seed(1)
    found = Supernet(5, 3, Skeleton(width=8, n_cells=n_cells), space).to(DOUBLE)
    for value in found.architecture.parameters():
        value.data.normal_()
    return found


def gradients(network: torch.nn.Module, logits: Tensor, names: tuple[str, ...]) -> list[Tensor]:
    """Of a loss that all logits count in."""
    loss = (logits.softmax(1) * torch.arange(logits.numel(), dtype=DOUBLE).view_as(logits)).sum()
    return list(torch.autograd.grad(loss, [network.get_parameter(name) for name in names]))


@pytest.mark.parametrize("fair", [False, True])
@pytest.mark.parametrize(("partial", "n_cells"), [pytest.param(1, 6, marks=pytest.mark.slow), (1, 3), (2, 4), (4, 6)])
@pytest.mark.parametrize("length", [9, 16])
def test_gradients_are_those_of_one_module_an_edge(partial: int, n_cells: int, length: int, fair: bool) -> None:
    """Loss and gradients of architecture and head equal the port's to 1e-9, with all channels and with a part of them."""
    ours = made(Space(partial=partial, fair=fair, auxiliary=0.5), n_cells)
    port = Port(ours)
    x, mask = torch.randn(6, 5, length, dtype=DOUBLE), torch.ones(6, length, dtype=torch.bool)
    names = ("architecture.normal", "architecture.reduction", "architecture.read_out", "head.weight")
    names += ("architecture.normal_edges", "architecture.reduction_edges") if partial > 1 else ()
    logits, theirs = ours(x, mask), port(x)
    torch.testing.assert_close(logits, theirs, rtol=0, atol=TOLERANCE)
    for found, wanted in zip(gradients(ours, logits, names), gradients(port, theirs, names), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE)
    stem, first = gradients(ours, ours(x, mask), ("stem",)), gradients(port, port(x), ("stem.0.weight",))
    torch.testing.assert_close(stem[0], first[0][:, :, 0], rtol=0, atol=TOLERANCE)


def test_gradients_with_masks_are_those_of_finite_differences() -> None:
    """Kernels, entrances and architecture weights, where some rows are shorter than others and one is empty."""
    ours = made(Space(n_nodes=2, partial=2), 3)
    x, mask = torch.randn(4, 5, 7, dtype=DOUBLE), torch.arange(7) < torch.tensor([[7], [4], [1], [0]])
    wanted = [ours.cells[1].sources[0].kernel, ours.cells[1].entrances[0].weight, ours.architecture.reduction]
    for value in wanted:
        at, distance = value.detach().flatten().argsort()[2], 1e-6
        loss = ours(x, mask).square().sum()
        (grad,) = torch.autograd.grad(loss, [value])
        with torch.no_grad():
            value.view(-1)[at] += distance
            above = ours(x, mask).square().sum()
            value.view(-1)[at] -= 2 * distance
            below = ours(x, mask).square().sum()
            value.view(-1)[at] += distance
        assert grad.flatten()[at].item() == pytest.approx((above - below).item() / (2 * distance), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("partial", [1, 4])
def test_padding_changes_nothing(partial: int) -> None:
    """Neither what stands in padded positions nor how many there are."""
    ours = made(Space(partial=partial))
    mask = torch.arange(12) < torch.tensor([[12], [5], [3]])
    x = torch.randn(3, 5, 12, dtype=DOUBLE)
    longer = torch.cat([torch.where(mask[:, None], x, 1e3), torch.full((3, 5, 7), -1e3, dtype=DOUBLE)], 2)
    padded = torch.cat([mask, torch.zeros(3, 7, dtype=torch.bool)], 1)
    torch.testing.assert_close(ours(longer, padded), ours(x * mask[:, None], mask), rtol=0, atol=1e-9)


def test_bfloat16_stays_near() -> None:
    """With autocast the moments stay in single precision, so that logits and gradients are near."""
    ours = made(Space()).float()
    x, mask = torch.randn(16, 5, 16), torch.ones(16, 16, dtype=torch.bool)
    plain = ours(x, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = ours(x, mask)
    rounded.float().sum().backward()
    assert (plain - rounded).abs().max() < 0.1 * plain.abs().max()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in ours.architecture.parameters())


def test_the_strongest_operations_are_derived() -> None:
    """Two edges a node, zero never, whatever its weight."""
    architecture = Architecture(Space(partial=1))
    with torch.no_grad():
        architecture.normal.fill_(0.0)[:, 0] = 9.0
        architecture.normal[3, 5] = architecture.normal[4, 6] = 12.0
        architecture.read_out.copy_(torch.tensor([0.0, 0.0, 1.0]))
    found = architecture.derive()
    third = [(edge.source, edge.op) for edge in found.normal if edge.node == 3]
    assert third == [(1, "conv5"), (2, "dilated3")]
    assert found.read_out == "attention" and len(found.normal) == 8
    assert all(edge.op != "zero" for _, edges in found.cells for edge in edges)


def test_remedies_pull_the_architecture_where_they_should() -> None:
    """Decay pulls the strongest down most; fairness drives sigmoids away from one half."""
    architecture = Architecture(Space(fair=True))
    with torch.no_grad():
        architecture.normal.fill_(0.1)[:, 4] = 2.0
    (decay,) = torch.autograd.grad(architecture.decay(), [architecture.normal])
    assert (decay > 0).all() and (decay[:, 4] > decay[:, 1]).all()
    (fairness,) = torch.autograd.grad(architecture.unfairness(), [architecture.normal])
    assert (fairness < 0).all()


def test_partial_channels_need_a_width_that_can_be_parted() -> None:
    """And a space needs nodes; both are said with the value."""
    with pytest.raises(ConfigError, match="width 12 has no even 4th part; choose a multiple of 8"):
        Supernet(5, 3, Skeleton(width=12), Space())
    with pytest.raises(ConfigError, match="n_nodes=0"):
        Space(n_nodes=0)


def test_shapes_that_do_not_fit_are_shown() -> None:
    """Embeddings of another width, or a mask of another length."""
    with pytest.raises(InputError, match=r"\(2, 4, 8\) and mask \(2, 8\) do not fit; give \(B, 5, L\) and \(B, L\)"):
        made(Space())(torch.zeros(2, 4, 8, dtype=DOUBLE), torch.ones(2, 8, dtype=torch.bool))


def test_a_convolution_has_weights_for_each_entry() -> None:
    """Kernel entries of all convolutions stand side by side."""
    assert made(Space()).cells[0].sources[0].kernel.shape[2] == sum(width for width, _ in CONVOLUTIONS.values())


def test_a_step_moves_nothing_to_or_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device without memory a copy from the processor or a look at a value would fail: so a step can be recorded."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no such device
    ours, embedded = Supernet(6, 3, Skeleton(width=8, n_cells=3), Space(auxiliary=1.0)), Embedded(20, 6)
    ours, embedded = ours.to("meta"), embedded.to("meta")
    tokens, answers = torch.ones(4, 9, dtype=torch.int32, device="meta"), torch.ones(4, 3, device="meta")
    with OneDevice():
        loss = task_loss(ours(*embedded(tokens)), answers) + ours.architecture.decay() + ours.architecture.unfairness()
        loss.backward()
    assert loss.device.type == "meta" and ours.architecture.normal.grad is not None


class OneDevice(TorchDispatchMode):
    """Refuses tensors of the processor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        assert all(one.device.type == "meta" for one in tree_leaves((args, kwargs, found)) if isinstance(one, Tensor)), func
        return found
