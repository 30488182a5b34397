"""The search: continued with the same bits, stopped by time, sharpness or what is not finite, always with an architecture."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.errors import ConfigError, InputError, NotFoundError
from trainer.search.cells import Skeleton
from trainer.search.curvature import is_rising, largest_eigenvalue
from trainer.search.examples import Examples, task_loss
from trainer.search.gradients import DeviceLostError, answering
from trainer.search.loop import Found, Progress, Search, SearchConfig, faithful, search
from trainer.search.supernet import Space
from trainer.step import NotFiniteError

SHAPE = {"n_ids": 30, "n_classes": 3}
CONFIG = SearchConfig(epochs=3, batch=8, dim=6, warm_up=0.0)
SMALL: dict[str, Any] = {"skeleton": Skeleton(width=8, n_cells=3), "space": Space(n_nodes=2)}


def rows(n_rows: int = 48) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens whose first says the class; some rows are short."""
    rng = np.random.default_rng(1)
    tokens, labels = rng.integers(4, 30, (n_rows, 7)), rng.integers(0, 3, n_rows)
    tokens[:, 0] = labels + 1
    tokens[::3, 4:] = 0
    return tokens, labels


def begun(config: SearchConfig = CONFIG, **options: Any) -> Search:
    """A search of these rows that has not taken a step."""
    return Search(Examples.of(*rows(), **SHAPE), (30, 3), config=config, **SMALL, **options)


def values(found: Search) -> list[Tensor]:
    """All that was learnt."""
    return [value.clone() for value in found.network.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_seed_decides_everything() -> None:
    """The same seed ends with the same bits and genotype, another with others."""
    one, again, other = begun(), begun(), begun(dataclasses.replace(CONFIG, seed=2))
    assert one.run().genotype == again.run().genotype and other.run().n_steps == 9
    assert same(values(one), values(again)) and not same(values(one), values(other))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("n_steps", [1, 4, pytest.param(6, marks=pytest.mark.slow)])
def test_a_continued_search_ends_with_the_same_bits(tmp_path: Path, optimizer: str, n_steps: int) -> None:
    """Saved in the midst of an epoch, at its end or in the first step; history and all (fault 47)."""
    config = dataclasses.replace(CONFIG, optimizer=optimizer, warm_up=0.3, beta_decay=1.0, stop_ratio=0.01)
    whole, first, second = begun(config), begun(config), begun(config)
    for _ in range(n_steps):
        first.advance()
    first.save(tmp_path / "state")
    second.load(tmp_path / "state")
    assert whole.run().history == second.run().history
    assert same(values(whole), values(second))


def test_both_kinds_of_weights_learn_in_turns() -> None:
    """While the architecture rests it keeps its values; afterwards both losses fall and the epochs are told."""
    found = begun(dataclasses.replace(CONFIG, epochs=8, warm_up=0.25, rate=0.02))
    before = [value.detach().clone() for value in found.alphas]
    for _ in range(6):
        assert found.advance()[1] is None
    assert same(before, list(found.alphas))
    told = found.run()
    assert not same(before, list(found.alphas))
    assert told.history[0].architecture_loss is None and told.history[-1].weight_loss < 0.5 * told.history[0].weight_loss
    assert told.epoch in range(3, 9) and told.genotype == told.history[told.epoch - 1].genotype


def test_halves_have_no_row_in_common_and_equal_shares() -> None:
    """Every row is in one half, and each class is divided evenly."""
    first, second = begun().halves
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(48))
    labels = torch.from_numpy(rows()[1])
    assert (labels[first].bincount() - labels[second].bincount()).abs().max() <= 1


def test_the_budget_ends_it_with_the_best_so_far_and_it_goes_on(tmp_path: Path) -> None:
    """Seconds left fall with the budget; the next run takes up where this one stopped."""
    told: list[Progress] = []
    ticks = iter(range(1000))
    stopped = begun().run(budget_s=8, clock=lambda: float(next(ticks)), progress=told.append, state=tmp_path / "state")
    assert stopped.ended_by == "budget" and 0 < stopped.n_steps < 9 and stopped.genotype
    assert [one.left_s for one in told] == sorted((one.left_s for one in told), reverse=True)
    found = search(*rows(), **SHAPE, config=CONFIG, **SMALL, state=tmp_path / "state")
    assert found.ended_by == "steps" and found.n_steps == 9 and len(found.history) == 3


def test_no_time_at_all_still_gives_an_architecture() -> None:
    """Derived from the weights as they are."""
    found: Found = begun().run(budget_s=0)
    assert (found.n_steps, found.epoch, found.ended_by) == (0, 0, "budget") and len(found.genotype.normal) == 4


@pytest.mark.parametrize("refs", [None, [f"ad-{at}" for at in range(48)]])
def test_a_loss_that_is_not_finite_names_the_rows(refs: list[str] | None) -> None:
    """By their names, or numbers where they have none; the weights are not touched (fault 45)."""
    found = begun(refs=refs)
    table = found.network.get_submodule("embedded").get_parameter("table.weight")
    table.data[5] = math.nan
    before = [value.detach().clone() for value in found.alphas]
    with pytest.raises(NotFiniteError, match=rf"nan at search step 1 of 9, on 8 listings, \[{'.ad-' if refs else '[0-9]'}"):
        found.run()
    assert same(before, list(found.alphas))


def test_the_eigenvalue_stops_it_and_an_earlier_architecture_is_taken() -> None:
    """When the mean over the window has risen, the one before the window wins."""
    found = begun(dataclasses.replace(CONFIG, stop_ratio=0.75, stop_window=1, epochs=6))
    for _ in range(6):
        found.advance()
    found.history = [dataclasses.replace(one, eigenvalue=value) for one, value in zip(found.history, (1.0, 2.0), strict=True)]
    told = found.run()
    assert (told.ended_by, told.n_steps, told.epoch) == ("eigenvalue", 6, 1)


@pytest.mark.parametrize(
    ("values", "is_rise"),
    [([1, 1, 1], False), ([1, 1, 1, 1], False), ([1, 1, 2, 2], True), ([9, 1, 1, 1, 1.3], False), ([-1, -1, 1, 1], True)],
)
def test_a_rise_needs_two_windows(values: list[float], is_rise: bool) -> None:
    """The mean of the last two epochs against that of the two before."""
    assert is_rising(values, 0.75, 2) is is_rise


def test_the_largest_eigenvalue_is_that_of_the_hessian() -> None:
    """Of a known quadratic, negative ones beside, and the parameters stay where they were."""
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    hessian = torch.from_numpy(basis @ np.diag([-9.0, 4.0, 2.0, *rng.uniform(0, 1, 9)]) @ basis.T)
    parameters = [torch.randn(3, 2, dtype=torch.float64), torch.randn(6, dtype=torch.float64)]
    before = [value.clone() for value in parameters]

    def gradients() -> list[Tensor]:
        flat = hessian @ torch.cat([value.flatten() for value in parameters])
        return [flat[:6].view(3, 2), flat[6:]]

    assert largest_eigenvalue(gradients, parameters, rng, 12) == pytest.approx(4.0, rel=1e-6)
    assert same(before, parameters)


def test_remedies_change_what_is_found() -> None:
    """Decay, fairness and the auxiliary skip each lead elsewhere than the plain search."""
    plain = begun()
    plain.run()
    for config, space in (
        (dataclasses.replace(CONFIG, beta_decay=50.0), {}),
        (CONFIG, {"fair": True}),
        (CONFIG, {"auxiliary": 1.0}),
    ):
        other = Search(
            Examples.of(*rows(), **SHAPE), (30, 3), config=config, skeleton=SMALL["skeleton"], space=Space(n_nodes=2, **space)
        )
        other.run()
        assert not same(list(plain.alphas), list(other.alphas))
    assert other.architecture.auxiliary == pytest.approx(1 - 8 / 9)


def test_plain_darts_is_one_option_away() -> None:
    """All channels, no edge weights, SGD without warm-up."""
    config, space = faithful(epochs=1)
    found = Search(
        Examples.of(*rows(), **SHAPE),
        (30, 3),
        config=dataclasses.replace(config, batch=8, dim=6),
        skeleton=SMALL["skeleton"],
        space=space,
    )
    assert len(found.alphas) == 3 and isinstance(found.descent, torch.optim.SGD)
    assert found.run().history[0].architecture_loss is not None


def test_a_state_of_another_search_is_refused(tmp_path: Path) -> None:
    """Other settings, other rows, no state at all, none there (fault 48)."""
    path = tmp_path / "state"
    begun().save(path)
    with pytest.raises(InputError, match="is the state of another search"):
        begun(dataclasses.replace(CONFIG, seed=3)).load(path)
    tokens, labels = rows()
    with pytest.raises(InputError, match=r"is the state of another search \(saved: rows"):
        search(tokens, labels[::-1].copy(), **SHAPE, config=CONFIG, **SMALL, state=path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="holds no state of a search"):
        begun().load(path)
    with pytest.raises(NotFoundError, match="there is no saved search"):
        begun().load(tmp_path / "none")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0, "rate": math.nan}, "epochs=0, rate=nan"),
        ({"warm_up": 1.0}, "warm_up=1.0"),
        ({"batch": 2.5}, "batch=2.5"),
        ({"optimizer": "adam"}, "optimizer='adam'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_settings_that_make_no_search_are_shown(values: dict[str, Any], message: str) -> None:
    """All of them at once, with what they may be."""
    with pytest.raises(ConfigError, match=f"the search cannot use {message}"):
        SearchConfig(**values)


@pytest.mark.parametrize(
    ("tokens", "labels", "message"),
    [
        ([[0.5, 1.0]], [1], "tokens are float64 of shape"),
        ([1, 2], [1, 1], "tokens are int64 of shape"),
        ([[31, 2]], [1], "token ids go from 2 to 31, the vocabulary has 0 to 29"),
        ([[-1, 2]], [1], "token ids go from -1 to 2"),
        ([[1, 2]], [1, 2], r"1 rows have labels of shape \(2,\)"),
        ([[1, 2]], [[1, 0]], r"give \(1,\) classes or \(1, 3\) of 0 and 1"),
        ([[1, 2]], [3], "label 3.0 is none of 0 to 2"),
        ([[1, 2]], [[1, 0, 2]], "label 2.0 is none of 0 to 1"),
        ([[1, 2]], [-1], "none of 1 rows has a label"),
        ([[1, 2]], [1], "1 rows cannot be divided into halves"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tokens: list[Any], labels: list[Any], message: str) -> None:
    """Shapes, ids and labels are checked before anything is trained."""
    with pytest.raises(InputError, match=message):
        search(np.array(tokens), np.array(labels), **SHAPE, config=CONFIG, **SMALL)


def test_what_nobody_knows_costs_nothing() -> None:
    """Unknown classes and answers are left out of the loss; without any it is 0."""
    logits = torch.randn(3, 2)
    known = task_loss(logits[:2], torch.tensor([1, 0]))
    assert task_loss(logits, torch.tensor([1, 0, -1])) == pytest.approx(known.item())
    answers = torch.tensor([[1.0, math.nan], [0.0, math.nan], [math.nan, math.nan]])
    assert task_loss(logits, answers) == pytest.approx(task_loss(logits[:2, :1], answers[:2, :1]).item())
    assert task_loss(logits, torch.full((3, 2), math.nan)) == 0


def test_devices_that_fail_say_what_to_do() -> None:
    """None there, too small, or gone in the midst (fault 46)."""
    with pytest.raises(ConfigError, match="device 'cuda:9' cannot be used"):
        begun(device="cuda:9")
    cpu, many = torch.device("cpu"), "search step 3 needs more memory than cpu has.*take a smaller batch"
    with pytest.raises(ConfigError, match=many), answering(cpu, "search step 3"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(DeviceLostError, match="stopped answering during search step 3"), answering(cpu, "search step 3"):
        raise torch.AcceleratorError("device lost")
