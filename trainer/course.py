"""A fit between two epochs: all of it that changes, and the epoch that is kept."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.errors import InputError, shorten
from trainer.config import TrainConfig
from trainer.model import Detector
from trainer.search.state import into_optimizer, of_optimizer
from trainer.step import Steps

Losses = NDArray[np.float64]

NETWORK, BEST, KEPT, OPTIMIZER, OBJECTIVE = "network.", "best", "kept.", "optimizer", "objective."
DRAWS, DEVICE_DRAWS = "draws", "device_draws"


@dataclass(slots=True)
class Kept:
    """The last epoch that validation rows do not clearly object to: within a standard error of the best one.

    Rates fall to zero, so that a later epoch is the better one unless rows say otherwise; a few hundred rows seldom can.
    """

    epoch: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)
    best: Losses | None = None  #: of the epoch with the least mean

    def gives_way(self, losses: Losses, weight: Losses) -> bool:
        """Whether an epoch with these losses (n,) of the validation rows should take the kept one's place."""
        if self.best is None or not len(losses):
            self.best = losses
            return True
        worse = (losses - self.best) * weight / weight.mean()
        if worse.mean() < 0:
            self.best = losses
            return True
        return bool(worse.mean() <= worse.std() / math.sqrt(len(worse)))


@dataclass(slots=True)
class Course:
    """What a fit has come to after some epochs: `tensors` and `about` say all of it, `put_back` goes on from there."""

    detector: Detector
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR
    steps: Steps
    rng: np.random.Generator  #: what the order of rows is drawn by
    kept: Kept = field(default_factory=Kept)
    losses: list[float] = field(default_factory=list)  #: after each epoch
    trained: list[float] = field(default_factory=list)  #: the objective's own, in each epoch

    def goes_on(self, config: TrainConfig) -> bool:
        """Whether there is another epoch to come."""
        return len(self.losses) < config.epochs and len(self.losses) - self.kept.epoch < config.patience

    def add(self, found: Losses, weight: Losses) -> None:
        """Judge the epoch that just ended by the losses (n,) of validation rows, without any by the objective's own."""
        self.losses.append(float(np.average(found, weights=weight)) if len(found) else self.trained[-1])
        if self.kept.gives_way(found, weight):
            self.kept.epoch, self.kept.state = len(self.losses), _trained(self.detector)

    def tensors(self) -> dict[str, Tensor]:
        """By name, none shared with another."""
        remembered, _ = self.steps.objective.remembered()
        found = {f"{NETWORK}{name}": value for name, value in _trained(self.detector).items()}
        found |= {f"{KEPT}{name}": value for name, value in self.kept.state.items()}
        found |= {f"{OBJECTIVE}{name}": value for name, value in remembered.items()}
        found |= dict(of_optimizer(OPTIMIZER, self.optimizer))
        found |= {} if self.kept.best is None else {BEST: torch.from_numpy(self.kept.best)}
        found |= {DRAWS: torch.get_rng_state(), DEVICE_DRAWS: self.steps.draws.get_state()}
        return found

    def about(self) -> dict[str, Any]:
        """The rest of it, as JSON."""
        return {
            "losses": self.losses,
            "trained": self.trained,
            "kept_epoch": self.kept.epoch,
            "rates": self.schedule.get_last_lr(),
            "n_steps": self.schedule.last_epoch,
            "n_parts": self.steps.n_parts,
            "order": self.rng.bit_generator.state,
            "chance": self.steps.objective.remembered()[1],
        }

    def put_back(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Go on from what another course said. Raises InputError, and nothing was changed, where it is not of such a fit."""
        self._require_same(tensors, about)
        self.losses, self.trained = list(about["losses"]), list(about["trained"])
        self.kept = Kept(about["kept_epoch"], _part(tensors, KEPT), tensors[BEST].numpy() if BEST in tensors else None)
        self.detector.load_state_dict(_part(tensors, NETWORK), strict=False)
        into_optimizer(OPTIMIZER, self.optimizer, tensors)
        self.schedule.last_epoch, self.schedule._last_lr = about["n_steps"], list(about["rates"])
        for group, rate in zip(self.optimizer.param_groups, about["rates"], strict=True):
            group["lr"] = rate
        self.steps.objective.recall(_part(tensors, OBJECTIVE), about["chance"])
        self.steps.n_parts, self.rng.bit_generator.state = about["n_parts"], about["order"]
        torch.set_rng_state(tensors[DRAWS])
        self.steps.draws.set_state(tensors[DEVICE_DRAWS])

    def _require_same(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        bad = [name for name, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
        if bad:
            raise InputError(f"it holds NaN or infinite numbers in {shorten(bad, 200)}")
        wanted = self._wanted()
        differing = [name for name, value in tensors.items() if wanted.get(name, value.shape) != value.shape]
        extra = [name for name in tensors if name not in wanted and name != BEST]
        missing = [name for name in wanted if name not in tensors and not name.startswith(f"{OPTIMIZER}.")]
        unsaid = sorted(set(self.about()) - set(about))
        if differing or extra or missing or unsaid:
            raise InputError(f"it is of another fit: {shorten(differing + extra + missing + unsaid, 200)}")
        numbers = [*about["losses"], *about["trained"], *about["rates"]]
        if not 1 <= about["kept_epoch"] <= len(about["losses"]) == len(about["trained"]) or not np.isfinite(numbers).all():
            raise InputError(f"its epochs do not fit together: {shorten(about['losses'])}, kept {shorten(about['kept_epoch'])}")

    def _wanted(self) -> dict[str, torch.Size]:
        """Name and shape of each tensor that a checkpoint of such a fit may have; those of the optimizer may be missing."""
        found = {name: value.shape for name, value in self.tensors().items() if name != BEST}
        network = {name.removeprefix(NETWORK): shape for name, shape in found.items() if name.startswith(NETWORK)}
        found |= {f"{KEPT}{name}": shape for name, shape in network.items()}
        values = [value for group in self.optimizer.param_groups for value in group["params"]]
        for at, value in enumerate(values):
            found |= {f"{OPTIMIZER}.{at}.{name}": value.shape for name in ("exp_avg", "exp_avg_sq")}
            found[f"{OPTIMIZER}.{at}.step"] = torch.Size()
        return found


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _trained(detector: Detector) -> dict[str, Tensor]:
    """A copy of all that a fit may change: the stem, which detectors share, is as it was."""
    return {name: value.clone() for name, value in detector.state_dict().items() if not name.startswith("stem.")}
