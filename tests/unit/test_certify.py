"""Temperatures of the violation head, and which rows certify."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit

from tests.unit.test_trainer import CONFIG, rows, table
from trainer import certify, loop


@pytest.mark.parametrize("true", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_the_temperature_is_found_whatever_the_share_of_violations(true: float, shift: float) -> None:
    """Logits that are `true` times too large are cooled by that; more positives than listings have change nothing."""
    rng = np.random.default_rng(4)
    logits = rng.normal(-1, 2, 20_000)
    truth = rng.random(20_000) < expit(logits + shift)
    assert certify.temperature(logits * true, truth) == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("n_positive", [0, 3, 9, 91, 100])
def test_too_few_of_one_answer_leave_the_temperature(n_positive: int) -> None:
    """Ten of each are needed."""
    assert certify.temperature(np.linspace(-3, 3, 100), np.arange(100) >= 100 - n_positive) == 1.0


def test_a_perfect_separation_stays_within_bounds() -> None:
    """No finite temperature is best; the lowest allowed is taken."""
    assert certify.temperature(np.linspace(-3, 3, 100), np.arange(100) >= 50) == pytest.approx(0.5)


def test_cooling_changes_the_violations_of_the_detector_only(tmp_path: Path) -> None:
    """The temperature is built into the weights: logits are divided by it, categories and other violations stay."""
    made = table(tmp_path)
    wanted = made.targets
    wanted.is_asked[:] = True
    wanted.violation[:, 0] = np.arange(48) % 2
    fitted = loop.fit(made, rows(36), rows(0), config=CONFIG)
    before = loop.predict(fitted.detector, made, rows(48))
    found = certify.cool(fitted.detector, made, rows(48))
    after = loop.predict(fitted.detector, made, rows(48))
    assert found[0] != 1.0 and found[1] == 1.0
    odds = [torch.logit(torch.from_numpy(one[1][:, 0])).numpy() for one in (before, after)]
    assert odds[1] * found[0] == pytest.approx(odds[0], abs=1e-3)
    assert np.array_equal(before[0], after[0]) and np.array_equal(before[1][:, 1], after[1][:, 1])


def test_groups_certify_for_good() -> None:
    """Two thirds of them, told by the name alone."""
    names = [f"g{at}" for at in range(3000)]
    found = certify.certifying(names)
    assert found.mean() == pytest.approx(2 / 3, abs=0.03)
    assert np.array_equal(certify.certifying(names[::-1])[::-1], found)
