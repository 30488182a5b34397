"""Two scores by their average precision on the same rows."""

import numpy as np
import pytest

from curation.errors import InputError, ProbabilityError
from curation.quality import flags


def test_the_better_score_is_better_beyond_its_interval() -> None:
    """Pairing sees a small difference that the two intervals alone would hide."""
    rng = np.random.default_rng(1)
    truth = rng.random(400) < 0.2
    shared = rng.normal(size=400)
    ours, theirs = truth * 1.5 + shared, truth * 1.0 + shared
    found = flags.compare(ours, theirs, truth, rng=rng)
    assert found.difference.low > 0 and found.ours.low < found.theirs.high
    assert found.difference.value == pytest.approx(found.ours.value - found.theirs.value)


def test_a_score_is_no_better_than_itself() -> None:
    """Paired draws cancel to the last bit, ties and order notwithstanding."""
    rng = np.random.default_rng(2)
    scores, truth = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.3
    found = flags.compare(scores, scores * 2 + 1, truth, rng=rng)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)


def test_what_cannot_be_compared() -> None:
    """No positive, another length, NaN."""
    rng, scores = np.random.default_rng(3), np.arange(4.0)
    with pytest.raises(InputError, match="with a positive"):
        flags.compare(scores, scores, np.zeros(4, bool), rng=rng)
    with pytest.raises(InputError, match="one length"):
        flags.compare(scores, scores[:3], np.ones(4, bool), rng=rng)
    with pytest.raises(ProbabilityError, match="not all finite"):
        flags.compare(scores * np.nan, scores, np.ones(4, bool), rng=rng)
