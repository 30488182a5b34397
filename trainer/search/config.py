"""What a search can be told."""

import dataclasses
import math
from dataclasses import dataclass

from curation.errors import ConfigError, shorten
from trainer.search.supernet import Space

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Rates and lengths of one search. Rates per step, shares in [0, 1)."""

    seed: int = 1
    epochs: int = 15  #: passes over the half of the network weights
    batch: int = 256  #: rows of each half a step
    dim: int = 96  #: width of a token's vector
    optimizer: str = "adamw"  #: of the network weights: adamw, or sgd with momentum as in DARTS
    rate: float = 0.005  #: learning rate of the network at the beginning; it falls to `least_rate` along a cosine
    least_rate: float = 1e-4
    momentum: float = 0.9  #: of sgd
    weight_decay: float = 3e-4
    max_gradient: float = 5.0  #: norm to which the network's gradients are clipped
    alpha_rate: float = 6e-3  #: Adam learning rate of the architecture weights
    alpha_weight_decay: float = 1e-3
    warm_up: float = 0.25  #: share of the steps in which the architecture weights rest
    beta_decay: float = 0.0  #: weight at the end, rising from zero, of the decay on the softmaxed weights (beta-DARTS)
    fairness: float = 0.0  #: weight of Fair DARTS' zero-one loss; 10 there, and meant for a fair space
    stop_ratio: float = 0.0  #: stop when the eigenvalue has risen so that before it was this share of now; 0.75 in Zela et al.
    stop_window: int = 5  #: epochs of both means that are compared; that far back is the architecture then taken
    is_recorded: bool = True  #: on a GPU steps are recorded as CUDA graphs

    def __post_init__(self) -> None:
        values = {name: value for name, value in dataclasses.asdict(self).items() if type(value) in (int, float)}
        counts = ("epochs", "batch", "dim", "stop_window")
        bad = [name for name in (*counts, "seed") if type(values.get(name)) is not int or values[name] < (name != "seed")]
        bad += [name for name, value in values.items() if not math.isfinite(value) or value < 0]
        bad += [name for name in ("rate", "max_gradient", "alpha_rate") if not getattr(self, name) > 0]
        bad += [name for name in ("warm_up", "momentum", "stop_ratio") if not 0 <= getattr(self, name) < 1]
        bad += [] if self.optimizer in OPTIMIZERS else ["optimizer"]
        if bad:
            shown = ", ".join(f"{name}={shorten(getattr(self, name))}" for name in dict.fromkeys(bad))
            raise ConfigError(
                f"the search cannot use {shown}; counts are at least 1, rates above 0, shares in [0, 1), "
                f"optimizers {', '.join(OPTIMIZERS)}"
            )


def faithful(epochs: int = 50, seed: int = 1) -> tuple[SearchConfig, Space]:
    """First-order DARTS as published: all channels, SGD, no warm-up and no remedy (Liu et al., ICLR 2019, appendix A.1)."""
    config = SearchConfig(seed=seed, epochs=epochs, optimizer="sgd", rate=0.025, least_rate=0.001, alpha_rate=3e-4, warm_up=0.0)
    return config, Space(partial=1)
