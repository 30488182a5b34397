"""Fusions: what each makes of branches, and that a detector can be joined by any of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.test_trainer import CONFIG, rows, table
from trainer import loop
from trainer.config import FUSIONS
from trainer.fusion import Gated, Largest, fusion_of


def parts() -> list[torch.Tensor]:
    """Two branches of three rows."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, width, generator=generator) for width in (4, 2)]


def test_side_by_side_keeps_all() -> None:
    """Concatenation has no weights and is as wide as the branches together."""
    made = fusion_of("concat", (4, 2), 7)
    assert made.n_out == 6 and not list(made.parameters())
    assert torch.equal(made(parts()), torch.cat(parts(), 1))


def test_gates_are_those_of_the_paper() -> None:
    """h = sum of sigmoid(V [x, y] + c) * tanh(W x + b), written out; a shut gate leaves its branch out."""
    made = fusion_of("gated", (4, 2), 5)
    assert isinstance(made, Gated)
    joint = torch.cat(parts(), 1)
    gates = torch.sigmoid(joint @ made.gates.weight.T + made.gates.bias)
    values = [torch.tanh(value(part)) for value, part in zip(made.values, parts(), strict=True)]
    torch.testing.assert_close(made(parts()), gates[:, :5] * values[0] + gates[:, 5:] * values[1])
    nn.init.zeros_(made.gates.weight)
    with torch.no_grad():
        made.gates.bias.copy_(torch.tensor([100.0] * 5 + [-100.0] * 5))
    torch.testing.assert_close(made(parts()), values[0])


def test_the_largest_of_each_channel_wins() -> None:
    """No branch gives less than the joint vector, and one of them gives it."""
    made = fusion_of("max", (4, 2), 5)
    assert isinstance(made, Largest)
    values = torch.stack([value(part) for value, part in zip(made.values, parts(), strict=True)])
    assert (made(parts()) >= values).all() and (made(parts()) == values).any(0).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_detector_learns_with_any_fusion(tmp_path: Path, fusion: str) -> None:
    """Words that tell the category are learnt; the joint embedding is as wide as the fusion says."""
    made = table(tmp_path)
    config = replace(CONFIG, fusion=fusion, fusion_dim=16, epochs=20)
    fitted = loop.fit(made, rows(36), np.arange(36, 48), config=config)
    category, _ = loop.predict(fitted.detector, made, np.arange(36, 48))
    assert (category.argmax(1) == made.targets.category[36:]).mean() > 0.9
    assert fitted.detector.embed(made.batch(rows(4))).shape == (4, fitted.detector.fusion.n_out)
