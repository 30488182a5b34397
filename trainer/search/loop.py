"""The search: architecture weights and network weights trained in turns, each on its own half of the data.

First order (DARTS, Liu, Simonyan and Yang, ICLR 2019, section 2.3 with xi = 0): one step of Adam on the architecture
weights with the loss on a batch of the second half, one step of the network with that on a batch of the first. The
architecture step computes gradients of the architecture weights only. What chance decides follows from the seed and the
step's number, so that a search that is saved and continued on one CPU ends with the same bits as one that never stopped.
"""

import dataclasses
import json
import math
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curation.errors import InputError, shorten
from trainer.objective import autocast
from trainer.search import state as saved
from trainer.search.cells import Genotype, Skeleton
from trainer.search.config import SearchConfig, faithful
from trainer.search.curvature import is_rising, largest_eigenvalue
from trainer.search.examples import Embedded, Examples, task_loss
from trainer.search.found import Epoch, Found, Progress
from trainer.search.gradients import Gradients, answering, usable
from trainer.search.supernet import Space, Supernet
from trainer.step import NotFiniteError

__all__ = ["Epoch", "Found", "Progress", "Search", "SearchConfig", "faithful", "search"]


def search(
    tokens: NDArray[Any],
    labels: NDArray[Any],
    *,
    n_ids: int,
    n_classes: int,
    config: SearchConfig | None = None,
    skeleton: Skeleton | None = None,
    space: Space | None = None,
    device: torch.device | str = "cpu",
    refs: Sequence[str] | None = None,
    state: Path | None = None,
    budget_s: float = math.inf,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Found:
    """Search cells for these rows: tokens (N, L) or (N, L, H), 0 = padding; labels (N,) classes or (N, V) 0/1/NaN.

    With a `state` file the search goes on from it where it exists, and is kept there after every epoch and at the end. After
    `budget_s` seconds of wall clock the best so far is returned. Raises InputError on rows that do not fit, NotFiniteError
    naming the rows (`refs`, else row numbers) on which the loss is not finite, DeviceLostError when an accelerator is gone.
    """
    found = Search(
        Examples.of(tokens, labels, n_ids=n_ids, n_classes=n_classes),
        (n_ids, n_classes),
        config=config or SearchConfig(),
        skeleton=skeleton or Skeleton(),
        space=space or Space(),
        device=device,
        refs=refs,
    )
    if state is not None and state.exists():
        found.load(state)
    return found.run(budget_s=budget_s, progress=progress, state=state)


class Search:
    """One search, stopped and continued at any step."""

    def __init__(
        self,
        rows: Examples,
        shape: tuple[int, int],
        *,
        config: SearchConfig,
        skeleton: Skeleton,
        space: Space,
        device: torch.device | str = "cpu",
        refs: Sequence[str] | None = None,
    ) -> None:
        """`shape`: ids and classes. Raises InputError when there are fewer than two rows."""
        if len(rows) < 2:
            raise InputError(f"{len(rows)} rows cannot be divided into halves; a search needs at least two")
        self.config, self.skeleton, self.space, self.device = config, skeleton, space, usable(device)
        self.rows = Examples(rows.tokens.to(self.device), rows.labels.to(self.device))
        self.halves = self.rows.halves(np.random.default_rng(config.seed))
        self.refs = refs
        torch.manual_seed(config.seed)
        self.network = nn.ModuleDict(
            {"embedded": Embedded(shape[0], config.dim), "supernet": Supernet(config.dim, shape[1], skeleton, space)}
        ).to(self.device)
        self.supernet: Supernet = self.network.get_submodule("supernet")  # type: ignore[assignment]
        self.architecture = self.supernet.architecture
        self.alphas = self.architecture.searched
        architecture = set(self.architecture.parameters())
        self.weights = [value for value in self.network.parameters() if value not in architecture]
        self.descent, self.adam = _descent(self.weights, config), _adam(self.alphas, config)
        self.pressure = torch.zeros((), device=self.device)
        is_recorded = config.is_recorded and self.device.type == "cuda"
        self.of_weights = Gradients(self._plain, self.weights, self.alphas, is_recorded)
        self.of_alphas = Gradients(self._remedied, self.alphas, self.weights, is_recorded)
        self.of_sharpness = Gradients(self._plain, self.alphas, self.weights, False)
        self.step, self.history, self.losses = 0, [], []
        self._orders: tuple[int, list[Tensor]] = (-1, [])

    step: int
    """Steps done."""

    history: list[Epoch]
    losses: list[tuple[float, float | None]]
    """Of the network and the architecture, in the steps of this epoch."""

    @property
    def steps_an_epoch(self) -> int:
        """Full batches of the first half, at least one."""
        return max(1, len(self.halves[0]) // self.config.batch)

    @property
    def n_steps(self) -> int:
        """Of the whole search."""
        return self.config.epochs * self.steps_an_epoch

    @property
    def is_sharp(self) -> bool:
        """Whether the eigenvalue has risen too much."""
        watched = [epoch.eigenvalue for epoch in self.history if epoch.eigenvalue is not None]
        return self.config.stop_ratio > 0 and is_rising(watched, self.config.stop_ratio, self.config.stop_window)

    def run(
        self,
        *,
        budget_s: float = math.inf,
        progress: Callable[[Progress], None] = lambda _: None,
        state: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Found:
        """Search on until all steps are done, the eigenvalue rises or the budget is spent: the best so far."""
        began_s, first = clock(), self.step
        ended_by = "steps"
        while self.step < self.n_steps:
            if self.is_sharp or clock() - began_s >= budget_s:
                ended_by = "eigenvalue" if self.is_sharp else "budget"
                break
            losses = self.advance()
            spent_s = clock() - began_s
            left_s = min(spent_s / (self.step - first) * (self.n_steps - self.step), max(0.0, budget_s - spent_s))
            progress(Progress(self.step, self.n_steps, *losses, left_s, spent_s))
            if state is not None and self.step % self.steps_an_epoch == 0:
                self.save(state)
        if state is not None:
            self.save(state)
        return Found(*self.best(), tuple(self.history), self.step, ended_by, clock() - began_s)

    def best(self) -> tuple[Genotype, int]:
        """The genotype to go on with, and the epoch it is from."""
        epochs = self.history[: -self.config.stop_window] if self.is_sharp else self.history
        scored = [epoch for epoch in epochs if epoch.architecture_loss is not None]
        if scored:
            found = min(scored, key=lambda epoch: epoch.architecture_loss or 0.0)
            return found.genotype, found.epoch
        return self.architecture.derive(), len(self.history)

    def advance(self) -> tuple[float, float | None]:
        """One step; the losses on the batches of both halves, before it."""
        share = self.step / self.n_steps
        self.architecture.auxiliary.fill_(self.space.auxiliary * (1 - share))
        self.pressure.fill_(self.config.beta_decay * share)
        trained, others = self._batches()
        searched = None
        with answering(self.device, f"search step {self.step + 1}"):
            if share >= self.config.warm_up:
                searched = self._checked(self.of_alphas, others)
                self.adam.step()
            lost = self._checked(self.of_weights, trained)
            nn.utils.clip_grad_norm_(self.weights, self.config.max_gradient)
            for group in self.descent.param_groups:
                group["lr"] = self._rate(share)
            self.descent.step()
        self.step += 1
        self.losses.append((lost, searched))
        if self.step % self.steps_an_epoch == 0:
            self._close(others)
        return lost, searched

    def _rate(self, share: float) -> float:
        least, most = self.config.least_rate, self.config.rate
        return least + (most - least) * (1 + math.cos(math.pi * share)) / 2

    def _plain(self, batch: Examples) -> tuple[Tensor, Tensor]:
        with autocast(self.device):
            loss = task_loss(self.supernet(*self.network["embedded"](batch.tokens)), batch.labels)
        return loss, loss

    def _remedied(self, batch: Examples) -> tuple[Tensor, Tensor]:
        """The loss with what keeps the architecture from collapsing."""
        loss, _ = self._plain(batch)
        total = loss + self.pressure * self.architecture.decay() if self.config.beta_decay else loss
        total = total + self.config.fairness * self.architecture.unfairness() if self.config.fairness else total
        return total, loss

    def _checked(self, gradients: Gradients, rows: Tensor) -> float:
        total, found = gradients(self.rows.take(rows))
        if math.isfinite(total):
            return found
        names = [self.refs[row] if self.refs else row for row in rows.tolist()]
        raise NotFiniteError(
            f"the loss became {total} at search step {self.step + 1} of {self.n_steps}, on {len(names)} listings, "
            f"{shorten(names, 400)}; no architecture was kept, look at these listings or lower the rates"
        )

    def _batches(self) -> list[Tensor]:
        """This step's rows of both halves; every epoch has its own order, the shorter half begins anew."""
        epoch, at = divmod(self.step, self.steps_an_epoch)
        if self._orders[0] != epoch:
            drawn = [np.random.default_rng([self.config.seed, epoch, which]) for which in range(2)]
            orders = (torch.from_numpy(rng.permutation(len(half))) for rng, half in zip(drawn, self.halves, strict=True))
            self._orders = epoch, [half[order.to(self.device)] for half, order in zip(self.halves, orders, strict=True)]
        steps = torch.arange(at * self.config.batch, (at + 1) * self.config.batch, device=self.device)
        return [order[steps[: len(order)] % len(order)] for order in self._orders[1]]

    def _close(self, rows: Tensor) -> None:
        """End an epoch: its means, its genotype, and how sharp the minimum is on the last batch."""
        searched = [loss for _, loss in self.losses if loss is not None]
        eigenvalue = None
        if searched and self.config.stop_ratio:
            batch, rng = self.rows.take(rows), np.random.default_rng([self.config.seed, self.step])
            eigenvalue = largest_eigenvalue(lambda: self._sharpness(batch), self.alphas, rng)
        means = float(np.mean([lost for lost, _ in self.losses])), float(np.mean(searched)) if searched else None
        self.history.append(Epoch(len(self.history) + 1, *means, eigenvalue, self.architecture.derive()))
        self.losses = []

    def _sharpness(self, batch: Examples) -> list[Tensor]:
        self.of_sharpness(batch)
        return [value.grad for value in self.alphas if value.grad is not None]

    def _about(self) -> dict[str, Any]:
        """What must be the same for a state to be continued."""
        asdict = dataclasses.asdict
        parts = {"config": asdict(self.config), "space": asdict(self.space), "skeleton": asdict(self.skeleton)}
        rows = [zlib.crc32(part.cpu().contiguous().numpy().tobytes()) for part in (self.rows.tokens, self.rows.labels)]
        return {**parts, "rows": [len(self.rows), *rows]}

    def save(self, path: Path) -> None:
        """Keep the whole state as one safetensors file; it takes the place of an older one at once."""
        history = [epoch.to_json() for epoch in self.history]
        about = {"about": self._about(), "step": self.step, "losses": self.losses, "history": history}
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors.update(saved.of_optimizer("descent", self.descent))
        tensors.update(saved.of_optimizer("adam", self.adam))
        saved.write(path, about, tensors)

    def load(self, path: Path) -> None:
        """Go on from what was saved. Raises NotFoundError, and InputError when it is the state of another search."""
        told, tensors = saved.read(path)
        wanted = json.loads(json.dumps(self._about()))
        differing = [key for key, value in wanted.items() if told["about"].get(key) != value]
        if differing:
            shown = "; ".join(f"{key} {shorten(told['about'].get(key), 200)}" for key in differing)
            raise InputError(f"{path} is the state of another search (saved: {shown}); search with the same, or remove it")
        try:
            self.network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("network.")})
            saved.into_optimizer("descent", self.descent, tensors)
            saved.into_optimizer("adam", self.adam, tensors)
            self.history = [Epoch.from_json(epoch) for epoch in told["history"]]
            self.step, self.losses = int(told["step"]), [(lost, searched) for lost, searched in told["losses"]]
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} does not fit this search: {shorten(str(error), 200)}; remove it to begin anew") from error


def _descent(weights: list[nn.Parameter], config: SearchConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(weights, config.rate, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(weights, config.rate, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)


def _adam(alphas: list[nn.Parameter], config: SearchConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(alphas, config.alpha_rate, betas=(0.5, 0.999), weight_decay=config.alpha_weight_decay, fused=True)
