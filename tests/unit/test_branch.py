"""The network of a genotype and its hand-designed rival: padding has no effect, and nothing is no vector but zeros."""

import numpy as np
import pytest
import torch
from torch import Tensor

from curation.errors import ConfigError, InputError
from trainer.search.branch import CellBranch, Design, FilterBranch, Filters, TextNetwork, branch_of
from trainer.search.cells import Edge, Genotype, Skeleton, pool_and_skip, random_genotype

SMALL = Skeleton(width=4, n_cells=3)
DESIGNS: list[Design] = [Filters(6), pool_and_skip(), *(random_genotype(np.random.default_rng(seed)) for seed in range(4))]


def made(design: Design) -> CellBranch | FilterBranch:
    """A small branch whose running statistics are not those it began with."""
    torch.manual_seed(1)
    branch = branch_of(design, SMALL, 5).double()
    branch(torch.randn(8, 5, 9, dtype=torch.float64), torch.ones(8, 9, dtype=torch.bool))
    return branch


def rows() -> tuple[Tensor, Tensor]:
    """Three rows of 12, 5 and 0 tokens."""
    mask = torch.arange(12) < torch.tensor([[12], [5], [0]])
    return torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64), mask


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: getattr(design, "read_out", "filters"))
def test_padding_has_no_effect(design: Design, is_training: bool) -> None:
    """Neither what stands in padded positions nor how many there are, in training and in use."""
    branch = made(design).train(is_training)
    x, mask = rows()
    longer = torch.cat([torch.where(mask[:, None], x, 1e3), torch.full((3, 5, 6), -1e3, dtype=torch.float64)], 2)
    padded = torch.cat([mask, torch.zeros(3, 6, dtype=torch.bool)], 1)
    torch.testing.assert_close(branch(longer, padded), branch(x, mask), rtol=0, atol=1e-9)


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: getattr(design, "read_out", "filters"))
def test_a_row_without_tokens_is_zeros_and_others_are_not(design: Design) -> None:
    """One vector of n_out numbers a row."""
    branch = made(design).eval()
    found = branch(*rows())
    assert found.shape == (3, branch.n_out)
    assert not found[2].any() and found[:2].any(1).all()


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: getattr(design, "read_out", "filters"))
def test_every_parameter_learns(design: Design) -> None:
    """All have a gradient, and it is that of finite differences in the stem or first kernel."""
    branch = made(design)
    x, mask = rows()
    branch(x, mask).square().sum().backward()
    assert all(value.grad is not None for value in branch.parameters())
    value = next(iter(branch.parameters()))
    assert value.grad is not None
    at, ends = value.grad.abs().argmax(), []
    for step in (1e-6, -2e-6):
        value.data.view(-1)[at] += step
        ends.append(branch(x, mask).square().sum().item())
    assert value.grad.view(-1)[at].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


def test_every_operation_keeps_or_halves_the_length() -> None:
    """All of them on both kinds of edge, in rows of odd and even length."""
    for op in ("skip", "zero", "max3", "average3", "conv3", "conv5", "dilated3", "dilated5"):
        edges = (Edge(0, 2, op), Edge(1, 2, "conv3"))
        branch = branch_of(Genotype(1, edges, edges, (2,), "max"), SMALL, 5)
        for length in (1, 7, 8):
            assert branch(torch.randn(2, 5, length), torch.ones(2, length, dtype=torch.bool)).shape == (2, branch.n_out)


def test_left_out_edges_are_drawn_in_training_only() -> None:
    """Drop path changes what training sees, and nothing in use."""
    branch = branch_of(random_genotype(np.random.default_rng(1)), Skeleton(width=4, n_cells=3, drop_path=0.5, drop_width=0.2), 5)
    x, mask = rows()[0].float(), rows()[1]
    assert not torch.equal(branch(x, mask), branch(x, mask))
    branch.eval()
    assert torch.equal(branch(x, mask), branch(x, mask))


def test_a_network_takes_one_id_or_several_at_a_position() -> None:
    """The ids of a position are added, so that one among padding is the same as one alone."""
    network = TextNetwork(Filters(3), SMALL, n_ids=20, n_classes=4, dim=5).eval()
    tokens = torch.tensor([[3, 4, 0], [5, 0, 0]])
    several = torch.stack([tokens, torch.zeros_like(tokens)], 2)
    torch.testing.assert_close(network(several), network(tokens))
    assert network(tokens).shape == (2, 4)


def test_filters_and_shapes_that_make_no_branch_are_refused() -> None:
    """No filters, or a mask of other rows."""
    with pytest.raises(ConfigError, match="one filter or more, of widths from 1"):
        Filters(widths=(0,))
    with pytest.raises(InputError, match="do not fit"):
        made(Filters(2))(torch.zeros(2, 5, 4), torch.ones(3, 4))
