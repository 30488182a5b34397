"""Which rows an architecture is searched on."""

import numpy as np
import pytest

from curation.errors import InputError
from curation.types import LabelSource, Question
from trainer import data
from trainer.config import TrainConfig
from trainer.data import Rows, Targets
from trainer.search import proxy


def targets(n: int, n_flagged: int = 0) -> Targets:
    """n listings, every fourth in a rare category; the first few violate a rule."""
    category = [("rare" if row % 4 == 0 else "usual", LabelSource.SELLER) for row in range(n)]
    violation = [("fake", LabelSource.MODERATORS) if row < n_flagged else None for row in range(n)]
    return data.targets(category, violation, ("fake", "spam"), TrainConfig())


def parts(n: int, n_train: int) -> tuple[Rows, Rows]:
    """The last rows learn, the first ones judge."""
    return np.arange(n - n_train, n), np.arange(n - n_train)


def test_violations_are_asked_where_enough_were_found() -> None:
    """As many listings without a violation as with it; a rule that nobody broke is left out."""
    train, validation = np.arange(600), np.arange(600, 900)
    wanted = targets(900, n_flagged=150)
    wanted.violation[600, 0] = 1
    found = proxy.proxy(wanted, train, validation, np.random.default_rng(1))
    assert (found.question, found.names) == (Question.VIOLATION, ("fake",))
    assert found.balance() == {"fake": 150, "none": 150}


def test_few_violations_leave_the_category() -> None:
    """Nine positives tell cells nothing."""
    found = proxy.proxy(targets(300, n_flagged=9), *parts(300, 200), np.random.default_rng(1))
    assert (found.question, found.names) == (Question.CATEGORY, ("rare", "usual"))
    assert found.balance() == {"rare": 50, "usual": 150}


def test_large_classes_are_cut_to_one_size() -> None:
    """Of no more rows than wanted the rare class keeps all it has."""
    found = proxy.proxy(targets(300), *parts(300, 200), np.random.default_rng(1), n_most=120)
    assert found.balance()["rare"] == 50
    assert 60 <= found.balance()["usual"] <= 70


def test_unlabelled_rows_are_left_out() -> None:
    """Neither search nor race sees a listing without a category."""
    wanted = targets(300)
    wanted.category[::3] = -1
    found = proxy.proxy(wanted, *parts(300, 200), np.random.default_rng(1))
    assert (wanted.category[np.append(found.train, found.validation)] >= 0).all()


def test_too_little_is_refused() -> None:
    """The message says what there is and what is needed."""
    with pytest.raises(InputError, match="30 training and 20 validation rows have a category, a search needs 50"):
        proxy.proxy(targets(50), *parts(50, 30), np.random.default_rng(1))
    with pytest.raises(InputError, match="search by --question category"):
        proxy.proxy(targets(300), *parts(300, 200), np.random.default_rng(1), question=Question.VIOLATION)
