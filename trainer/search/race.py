"""The race: designs trained from scratch, briefly and then longer, and judged on validation rows.

Architecture weights are a poor judge of cells (Yu et al., Evaluating the Search Phase of Neural Architecture Search, ICLR
2020), and random cells a serious rival (Li and Talwalkar, UAI 2019). So what a search found runs against random cells, the
cell of pooling and skips, and a TextCNN, by successive halving (Jamieson and Talwalkar, AISTATS 2016): of each rung the best
share goes on, and is trained from scratch again, longer and with another seed. Others may join the last rung
(`trainer.search.offspring`).
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from curation.errors import ConfigError, InputError, shorten
from trainer.objective import autocast
from trainer.search.branch import Design, Filters, TextNetwork
from trainer.search.cells import Genotype, Skeleton, pool_and_skip, random_genotype
from trainer.search.examples import UNKNOWN, Examples, task_loss
from trainer.search.gradients import answering, usable

POOL_AND_SKIP, TEXT_CNN = "pool and skip", "TextCNN"


@dataclass(frozen=True, slots=True)
class RaceConfig:
    """Rungs and rates of a race."""

    seed: int = 1
    steps: int = 100  #: of the first rung
    factor: int = 3  #: one design of so many goes on, and is trained so many times longer
    n_rungs: int = 3  #: fewer where one design is left
    batch: int = 128
    dim: int = 96  #: width of a token's vector
    dropout: float = 0.3  #: share of the branch's output that is left out in training
    rate: float = 0.003  #: AdamW learning rate, rising over a tenth of the steps and falling to zero
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        least = {"steps": 1, "factor": 2, "n_rungs": 1, "batch": 2, "dim": 1}
        bad = [name for name, value in least.items() if type(getattr(self, name)) is not int or getattr(self, name) < value]
        bad += [] if 0 <= self.dropout < 1 else ["dropout"]
        bad += [] if 0 < self.rate < math.inf else ["rate"]
        bad += [] if 0 <= self.weight_decay < math.inf else ["weight_decay"]
        if bad:
            shown = ", ".join(f"{name}={shorten(getattr(self, name))}" for name in bad)
            raise ConfigError(f"no race can be run with {shown}; counts are at least {least}, rates above 0, dropout in [0, 1)")

    def steps_of(self, rung: int) -> int:
        """Of a rung, from 0."""
        return self.steps * int(self.factor**rung)

    def kept_of(self, n_designs: int) -> int:
        """How many of so many go on."""
        return max(1, n_designs // self.factor)


@dataclass(frozen=True, slots=True)
class Entry:
    """One design in one rung."""

    rung: int  #: from 1
    name: str
    score: float  #: on validation rows, in [0, 1]: accuracy of classes, mean average precision of answers; NaN = diverged
    loss: float  #: on validation rows; decides where scores are equal
    n_steps: int
    n_parameters: int  #: without embeddings
    n_seconds: float
    goes_on: bool  #: into the next rung; in the last one, the winner


@dataclass(frozen=True, slots=True)
class Race:
    """All rungs, and who won."""

    winner: str
    design: Design  #: the winner's
    table: tuple[Entry, ...]  #: by rung, the best first
    is_complete: bool  #: False when the budget ended it: then the best of the last whole rung wins


def field(
    found: Iterable[Genotype], rng: np.random.Generator, *, n_random: int = 5, filters: Filters | None = None
) -> dict[str, Design]:
    """What was found, by number, and the rivals that every search must beat."""
    designs: dict[str, Design] = {f"found {at}": genotype for at, genotype in enumerate(dict.fromkeys(found), 1)}
    designs |= {f"random {at}": random_genotype(rng) for at in range(1, n_random + 1)}
    return designs | {POOL_AND_SKIP: pool_and_skip(), TEXT_CNN: filters or Filters()}


def race(
    designs: Mapping[str, Design],
    train: Examples,
    validation: Examples,
    *,
    n_ids: int,
    n_classes: int,
    config: RaceConfig | None = None,
    skeleton: Skeleton | None = None,
    device: torch.device | str = "cpu",
    budget_s: float = math.inf,
    more: Callable[[Sequence[Entry]], Mapping[str, Design]] | None = None,
    progress: Callable[[Entry], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Race:
    """Successive halving over these designs. The same inputs and seed give the same table on one CPU, but for its seconds.

    When all in the last rung were trained `more` is asked for designs that join it, until it names none. After `budget_s`
    seconds of wall clock no training is begun. Raises InputError without designs, on names that are there twice, or without
    an answer in the validation rows.
    """
    if not designs:
        raise InputError("there is no design to race; give a genotype, or what `field` makes")
    config, on = config or RaceConfig(), usable(device)
    check_validation(validation)
    runner = _Runner(config, skeleton or Skeleton(), _moved(train, on), _moved(validation, on), (n_ids, n_classes), on, clock)
    return _Course(dict(designs), runner, more, progress, clock() + budget_s).run()


@dataclass(slots=True)
class _Course:
    """A race that is going on."""

    designs: dict[str, Design]
    runner: "_Runner"
    more: Callable[[Sequence[Entry]], Mapping[str, Design]] | None
    progress: Callable[[Entry], None]
    ends_s: float
    table: list[Entry] = dataclasses.field(default_factory=list)

    def run(self) -> Race:
        config, left = self.runner.config, list(self.designs)
        for rung in range(config.n_rungs):
            is_last = rung + 1 == config.n_rungs or len(left) == 1
            entries: list[Entry] = []
            is_whole = self._train(rung, left, entries)
            is_complete = is_whole and (not is_last or self._grow(rung, entries))
            if is_whole or not self.table:
                self.table += _ranked(entries, config.kept_of(len(entries)) if is_whole and not is_last else 1)
            if is_last or not is_whole:
                return self._ended(is_complete)
            left = [entry.name for entry in self.table if entry.rung == rung + 1 and entry.goes_on]
        raise AssertionError("the last rung returns")

    def _train(self, rung: int, names: Sequence[str], entries: list[Entry]) -> bool:
        """Add an entry for each; whether the budget was enough."""
        for name in names:
            if self.runner.clock() >= self.ends_s and (entries or self.table):
                return False
            entries.append(self.runner.entry(rung, name, self.designs[name]))
            self.progress(entries[-1])
        return True

    def _grow(self, rung: int, entries: list[Entry]) -> bool:
        """Train what joins a rung, until nothing does; whether the budget was enough."""
        while joining := self._joining(entries):
            if not self._train(rung, joining, entries):
                return False
        return True

    def _joining(self, entries: Sequence[Entry]) -> list[str]:
        joining = self.more(entries) if self.more else {}
        twice = sorted(joining.keys() & self.designs.keys())
        if twice:
            raise InputError(f"designs {shorten(twice)} are in the race already; give those that join it other names")
        self.designs |= joining
        return list(joining)

    def _ended(self, is_complete: bool) -> Race:
        winner = next(entry.name for entry in self.table if entry.rung == self.table[-1].rung)
        return Race(winner, self.designs[winner], tuple(self.table), is_complete)


def check_validation(rows: Examples) -> None:
    """Raises InputError where there is nothing to be judged by."""
    labels = rows.labels
    known = labels != UNKNOWN if labels.ndim == 1 else ~labels.isnan()
    is_judged = bool(known.any()) if labels.ndim == 1 else bool(((labels == 1).any(0) & (labels == 0).any(0)).any())
    if not is_judged:
        raise InputError(
            f"{len(rows)} validation rows have {int(known.sum())} answers, none that a design can be judged by; "
            "give some, with yes and no in one question or more"
        )


def _ranked(entries: Sequence[Entry], n_kept: int) -> list[Entry]:
    ordered = sorted(entries, key=lambda entry: (-entry.score if math.isfinite(entry.score) else math.inf, entry.loss))
    return [dataclasses.replace(entry, goes_on=at < n_kept) for at, entry in enumerate(ordered)]


def _moved(rows: Examples, device: torch.device) -> Examples:
    return Examples(rows.tokens.to(device), rows.labels.to(device))


@dataclass(frozen=True, slots=True)
class _Runner:
    """Trains one design and judges it."""

    config: RaceConfig
    skeleton: Skeleton
    train: Examples
    validation: Examples
    shape: tuple[int, int]
    device: torch.device
    clock: Callable[[], float]

    def entry(self, rung: int, name: str, design: Design) -> Entry:
        began_s, n_steps = self.clock(), self.config.steps_of(rung)
        with answering(self.device, f"training {name}"):
            network = self.trained(design, n_steps, self.config.seed + rung)
            score, loss = judged(network, self.validation, self.config.batch)
        n_parameters = sum(value.numel() for value in network.parameters()) - network.embedded.table.weight.numel()
        return Entry(rung + 1, name, score, loss, n_steps, n_parameters, self.clock() - began_s, False)

    def trained(self, design: Design, n_steps: int, seed: int) -> TextNetwork:
        config, (n_ids, n_classes) = self.config, self.shape
        torch.manual_seed(seed)
        network = TextNetwork(design, self.skeleton, n_ids=n_ids, n_classes=n_classes, dim=config.dim, dropout=config.dropout).to(
            self.device
        )
        optimizer = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.weight_decay, fused=True)
        rng = np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(len(self.train)) for _ in range(1 + n_steps * config.batch // len(self.train))])
        for step in range(n_steps):
            rows = torch.from_numpy(order[step * config.batch : (step + 1) * config.batch]).to(self.device)
            optimizer.param_groups[0]["lr"] = config.rate * min(10 * (step + 1) / n_steps, 1.0, 1.1 * (1 - step / n_steps))
            self._step(network, optimizer, self.train.take(rows))
        return network

    def _step(self, network: nn.Module, optimizer: torch.optim.Optimizer, rows: Examples) -> None:
        with autocast(self.device):
            loss = task_loss(network(rows.tokens), rows.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()


@torch.no_grad()
def judged(network: nn.Module, rows: Examples, batch: int = 256) -> tuple[float, float]:
    """Score (see `Entry`) and loss of a network on these rows; both NaN where a logit is not finite."""
    network.eval()
    logits = torch.cat([network(part).float() for part in torch.split(rows.tokens, 4 * batch)])
    if not logits.isfinite().all():
        return math.nan, math.nan
    return _score(logits, rows.labels), task_loss(logits, rows.labels).item()


def _score(logits: Tensor, labels: Tensor) -> float:
    if labels.ndim == 1:
        known = labels != UNKNOWN
        return (logits.argmax(1) == labels)[known].float().mean().item()
    found = []
    for answers, told in zip(logits.T.cpu().numpy(), labels.T.cpu().numpy(), strict=True):
        known = ~np.isnan(told)
        if 0 < told[known].sum() < known.sum():
            found.append(average_precision_score(told[known], answers[known]))
    return float(np.mean(found))
