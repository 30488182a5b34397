"""The race of designs: from scratch, on validation rows, against the rivals."""

import math

import numpy as np
import pytest
import torch

from curation.errors import ConfigError, InputError
from trainer.search.branch import Design, Filters
from trainer.search.cells import Genotype, Skeleton, pool_and_skip, random_genotype
from trainer.search.examples import Examples
from trainer.search.offspring import Offspring
from trainer.search.race import Entry, RaceConfig, field, race

SMALL = Skeleton(width=4, n_cells=3)
SHAPE = {"n_ids": 30, "n_classes": 2}
DESIGNS: dict[str, Design] = {
    "filters": Filters(8),
    "pools": pool_and_skip(),
    "random": random_genotype(np.random.default_rng(1)),
}


def rows(n_rows: int, seed: int = 1) -> Examples:
    """The class is whether token 7 stands somewhere."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(8, 30, (n_rows, 6))
    tokens[::2, 0] = 7
    return Examples.of(tokens, np.arange(n_rows) % 2, **SHAPE)


def run(config: RaceConfig, **options: object) -> tuple[str, list[Entry]]:
    """Winner and table of a short race."""
    found = race(DESIGNS, rows(64), rows(40, 2), **SHAPE, config=config, skeleton=SMALL, **options)  # type: ignore[arg-type]
    return found.winner, list(found.table)


def test_each_rung_keeps_the_best_and_trains_longer() -> None:
    """Three designs, then one, three times longer; the winner is the last that goes on."""
    seen: list[Entry] = []
    winner, table = run(RaceConfig(steps=4, n_rungs=2, batch=16, dim=8), progress=seen.append)
    assert [entry.rung for entry in table] == [1, 1, 1, 2] and len(seen) == 4
    assert [entry.n_steps for entry in table] == [4, 4, 4, 12]
    assert [entry.goes_on for entry in table] == [True, False, False, True]
    assert table[0].score == max(entry.score for entry in table[:3]) and table[3].name == table[0].name == winner
    assert all(0 <= entry.score <= 1 and entry.n_parameters > 0 for entry in table)


def test_the_seed_decides_the_table() -> None:
    """The same seed gives the same scores and losses, another one others."""
    config = RaceConfig(steps=3, n_rungs=1, batch=8, dim=8)
    same, again = ([(e.name, e.score, e.loss) for e in run(config)[1]] for _ in range(2))
    other = [(e.name, e.score, e.loss) for e in run(RaceConfig(seed=2, steps=3, n_rungs=1, batch=8, dim=8))[1]]
    assert same == again != other


def test_training_learns_a_keyword() -> None:
    """Sixty steps are enough to tell rows with the token from those without."""
    _, table = run(RaceConfig(steps=60, n_rungs=1, batch=32, dim=16, rate=0.01))
    assert {entry.name: entry.score for entry in table}["filters"] == 1.0


def test_a_spent_budget_gives_the_best_so_far() -> None:
    """One training is always done; what was begun is not thrown away."""
    ticks = iter(range(1000))
    found = race(
        DESIGNS,
        rows(64),
        rows(40, 2),
        **SHAPE,
        config=RaceConfig(steps=2, batch=8, dim=8),
        skeleton=SMALL,
        budget_s=4.5,
        clock=lambda: float(next(ticks)),
    )
    assert not found.is_complete and len(found.table) == 2 and found.winner == found.table[0].name


def test_a_network_that_diverges_comes_last() -> None:
    """Its score is NaN, and another design wins."""
    _, table = run(RaceConfig(steps=2, n_rungs=1, batch=8, dim=8, rate=1e30))
    lost = [math.isnan(entry.score) for entry in table]
    assert any(lost) and lost == sorted(lost)


def test_answers_are_judged_by_mean_average_precision() -> None:
    """Questions without a yes or without a no in the validation rows do not count."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(1, 30, (40, 5))
    answers = np.stack([tokens[:, 0] > 15, np.zeros(40), tokens[:, 1] > 15], 1).astype(float)
    answers[:10, 2] = math.nan
    held = Examples.of(tokens, answers, n_ids=30, n_classes=3)
    config = RaceConfig(steps=2, n_rungs=1, batch=8, dim=8)
    found = race({"filters": Filters(4)}, held, held, n_ids=30, n_classes=3, config=config, skeleton=SMALL)
    assert found.winner == "filters" and 0 < found.table[0].score <= 1


def test_the_field_has_the_rivals_in_it() -> None:
    """What was found twice runs once; random cells, the pooling cell and the TextCNN always run."""
    one, two = (random_genotype(np.random.default_rng(seed)) for seed in (7, 8))
    found = field([one, two, one], np.random.default_rng(1), n_random=2)
    assert list(found) == ["found 1", "found 2", "random 1", "random 2", "pool and skip", "TextCNN"]


def test_a_race_that_cannot_be_judged_is_refused() -> None:
    """No designs, no answers, or no rungs."""
    empty = Examples(torch.ones(4, 3, dtype=torch.int32), torch.full((4, 2), math.nan))
    with pytest.raises(InputError, match="there is no design to race"):
        race({}, rows(8), rows(8), **SHAPE)
    with pytest.raises(InputError, match="4 validation rows have 0 answers"):
        race(DESIGNS, rows(8), empty, **SHAPE)
    with pytest.raises(ConfigError, match="n_rungs=0, rate=nan"):
        RaceConfig(n_rungs=0, rate=math.nan)


def test_bred_cells_join_the_last_rung() -> None:
    """They come in rounds until all have joined, each with a name and a genotype of its own; the winner's design is told."""
    rng = np.random.default_rng(4)
    designs: dict[str, Design] = {"filters": Filters(4), **{f"random {at}": random_genotype(rng) for at in range(1, 6)}}
    offspring = Offspring(designs, rng, 3)
    config = RaceConfig(steps=2, n_rungs=2, batch=8, dim=8)
    found = race(dict(designs), rows(32), rows(20, 2), **SHAPE, config=config, skeleton=SMALL, more=offspring)  # type: ignore[arg-type]
    assert [entry.rung for entry in found.table] == [1] * 6 + [2] * 5 and offspring.n_left == 0
    assert {"bred 1", "bred 2", "bred 3"} == {entry.name for entry in found.table if entry.rung == 2} & {
        "bred 1",
        "bred 2",
        "bred 3",
    }
    assert found.design == designs[found.winner] and len({*designs.values()}) == 9


def test_children_are_like_the_best() -> None:
    """Of the cells by score; a design that diverged or is no cell has none."""
    rng = np.random.default_rng(3)
    cells = [random_genotype(rng) for _ in range(3)]
    told = [("a", 0.5, 1.0), ("b", 0.9, 0.2), ("c", math.nan, math.nan), ("filters", 1.0, 0.1)]
    entries = [Entry(1, name, score, loss, 1, 1, 0.1, False) for name, score, loss in told]
    children = Offspring({**dict(zip("abc", cells, strict=True)), "filters": Filters()}, rng, 5)(entries)
    assert list(children) == ["bred 1", "bred 2"]
    assert [differences(children[name], cells[at]) for name, at in (("bred 1", 1), ("bred 2", 0))] == [1, 1]
    assert Offspring({"filters": Filters()}, rng, 2)(entries[3:]) == {}


def differences(one: Design, other: Design) -> int:
    """Edges and read-outs that two genotypes do not share."""
    assert isinstance(one, Genotype) and isinstance(other, Genotype)
    edges = sum(len({*cell} - {*rival}) for (_, cell), (_, rival) in zip(one.cells, other.cells, strict=True))
    return edges + (one.read_out != other.read_out)


def test_a_name_runs_once() -> None:
    """What joins must not take the place of what is there."""
    with pytest.raises(InputError, match="pools"):
        run(RaceConfig(steps=2, n_rungs=1, batch=8, dim=8), more=lambda entries: {"pools": pool_and_skip()})
