"""Do thresholds keep their promise? Simulated validation sets whose true precision past every score is known.

    python -m tests.benchmarks.thresholds [--runs 1000] [--seed 1] [--json]

Negatives score N(0, 1), positives N(2.48, 1): at a prevalence of 5 % no threshold with a precision of 0.9 finds more than
0.345 of the positives. Every rule sees the same draws and wants a precision of 0.9 at a risk of 0.05. *Broken* is the share of
runs whose threshold truly has less, *recall* its true mean, 0 where a rule abstains.

The other detectors: *flat* has no knowledge at all on listings of which 0.899 are positive, the worst case for a rule that may
not break its promise; *head* has 0.05 % of negatives above all positives, so that the strictest scores are the wrong ones. Then
half of the validation rows are positive, in deployment 5 %. Last, moderators were asked about most reported listings (half of
the positives, 2 % of the negatives), half of the other high scores and one in twenty of the rest (half as many runs).
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import binom, norm

from curation.quality import flags, thresholds

TARGET, RISK = 0.9, 0.05
SHIFT = 2.48
GRID = 81
LEAST = 29
"""Flagged rows below which nothing can be certified."""

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
Rule = Callable[["Draw"], float]


@dataclass(frozen=True)
class World:
    """Where rows come from: prevalence in deployment and in the rows, and what is wrong with the detector."""

    name: str
    n: int
    prevalence: float
    shown: float  #: prevalence of the validation rows
    shift: float = SHIFT
    head: float = 0.0  #: share of negatives that score like N(shift + 2, 0.3)

    def tails(self, threshold: float) -> tuple[float, float]:
        """Shares of positives and of negatives past a score."""
        negatives = (1 - self.head) * norm.sf(threshold) + self.head * norm.sf((threshold - self.shift - 2) / 0.3)
        return float(norm.sf(threshold - self.shift)), float(negatives)

    def precision(self, threshold: float) -> float:
        """In deployment; 1 where nothing is flagged."""
        positive, negative = self.tails(threshold)
        right, wrong = self.prevalence * positive, (1 - self.prevalence) * negative
        return right / (right + wrong) if right + wrong > 0 else 1.0

    @property
    def oracle(self) -> float:
        """The highest recall of a threshold with the wanted precision."""
        grid = np.linspace(-5, 9, 3000)
        return max((self.tails(t)[0] for t in grid if self.precision(t) >= TARGET), default=0.0)

    def draw(self, rng: np.random.Generator) -> "Draw":
        """Validation rows."""
        truth = rng.random(self.n) < self.shown
        scores = rng.standard_normal(self.n)
        odd = ~truth & (rng.random(self.n) < self.head) if self.head else np.zeros(self.n, bool)
        scores = np.where(odd, self.shift + 2 + 0.3 * scores, scores + self.shift * truth)
        seen = int(rng.binomial(N_UNIFORM, self.prevalence))
        return Draw(self, scores, truth, seen, float(rng.uniform(1, 3)), rng)


N_UNIFORM = 2_000
"""Listings drawn uniformly, where the prevalence must be estimated."""


class Draw:
    """One validation set, the highest score first; the low ones, which no rule reaches, are left out."""

    def __init__(
        self, world: World, scores: Floats, truth: Bools, n_seen: int, too_sure: float, rng: np.random.Generator
    ) -> None:
        n_kept = min(len(scores), max(1_000, int(1.5 * world.shown * world.n)))
        top = np.argpartition(-scores, n_kept - 1)[:n_kept]
        order = top[np.argsort(-scores[top])]
        self.world, self.n_seen, self.too_sure, self.rng = world, n_seen, too_sure, rng
        self.scores, self.truth, self.n_positive = scores[order], truth[order], int(truth.sum())
        self.hits = np.cumsum(self.truth)
        self.sizes = np.arange(1, len(order) + 1)

    def loosest(self, passes: Bools) -> float:
        """Score of the largest size that passes."""
        found = np.flatnonzero(passes)
        return float(self.scores[found[-1]]) if len(found) else math.inf


def empirical(draw: Draw) -> float:
    """The loosest threshold whose precision on the rows is the target."""
    return draw.loosest(draw.hits >= TARGET * draw.sizes)


def fixed(draw: Draw) -> float:
    """A probability of 0.9, from log-odds that are right but for being one to three times too large."""
    world = draw.world
    log_odds = math.log(0.9 / 0.1) / draw.too_sure
    return (log_odds - math.log(world.shown / (1 - world.shown)) + world.shift**2 / 2) / world.shift if world.shift else math.inf


def wilson(draw: Draw) -> float:
    """The loosest threshold whose own 95 % lower bound reaches the target, as if it had been the only one."""
    z, n, rate = norm.isf(RISK), draw.sizes, draw.hits / draw.sizes
    low = (rate + z**2 / (2 * n) - z * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))) / (1 + z**2 / n)
    return draw.loosest(low >= TARGET)


def grid(world: World) -> Floats:
    """81 calibrated probabilities from 0.99 down to 0.19, as scores."""
    log_odds = logit(np.linspace(0.99, 0.19, GRID)) - logit(world.shown)
    return (log_odds + world.shift**2 / 2) / world.shift if world.shift else np.linspace(2, -2, GRID)


def tested(draw: Draw) -> tuple[Floats, NDArray[np.int64], Floats]:
    """The grid, how many reach each score, and exact p-values."""
    scores = grid(draw.world)
    n = np.searchsorted(-draw.scores, -scores, side="right")
    k = np.append(0, draw.hits)[n]
    return scores, n, np.where(n > 0, binom.sf(k - 1, n, TARGET), 1.0)


def bonferroni(draw: Draw) -> float:
    """Learn then Test, the risk divided by 81 scores."""
    scores, _, p = tested(draw)
    return float(scores[p <= RISK / GRID].min(initial=math.inf))


def sequence(draw: Draw) -> float:
    """Learn then Test, fixed sequence of 81 scores, strictest first, from the first with 29 rows on."""
    scores, n, p = tested(draw)
    first = int(np.argmax(n >= LEAST)) if (n >= LEAST).any() else GRID
    n_passed = int(np.cumprod(p[first:] <= RISK).sum())
    return float(scores[first + n_passed - 1]) if n_passed else math.inf


def ours(draw: Draw) -> float:
    """Rungs from two starts."""
    world = draw.world
    return thresholds.certify(draw.scores, draw.truth, target=TARGET, risk=RISK, expected=world.shown * world.n).value


def known(draw: Draw) -> float:
    """Ours, corrected by the true enrichment."""
    world = draw.world
    odds = world.shown / (1 - world.shown) * (1 - world.prevalence) / world.prevalence
    return certified(draw, odds, RISK)


def bounded(draw: Draw) -> float:
    """Ours, corrected by a bound of the enrichment that costs half of the risk."""
    world = draw.world
    return certified(draw, thresholds.enrichment_bound(draw.n_positive, world.n, draw.n_seen, N_UNIFORM, RISK / 2), RISK / 2)


def certified(draw: Draw, enrichment: float, risk: float) -> float:
    expected = draw.world.shown * draw.world.n
    return thresholds.certify(draw.scores, draw.truth, target=TARGET, risk=risk, expected=expected, enrichment=enrichment).value


def thinned(draw: Draw) -> float:
    """Ours, rows weighted by how many listings they stand for."""
    world = draw.world
    weights = np.where(draw.truth, world.prevalence / world.shown, (1 - world.prevalence) / (1 - world.shown))
    expected = world.n * (1 - world.shown) * world.prevalence / (1 - world.prevalence)
    return thresholds.certify(
        draw.scores, draw.truth, target=TARGET, risk=RISK, expected=expected, weights=weights, rng=draw.rng
    ).value


PLAIN: Mapping[str, Rule] = {
    "empirical": empirical,
    "fixed 0.9": fixed,
    "Wilson, each alone": wilson,
    "LTT, Bonferroni": bonferroni,
    "LTT, fixed sequence": sequence,
    "ours": ours,
}
ENRICHED: Mapping[str, Rule] = {
    "empirical": empirical,
    "ours, uncorrected": ours,
    "ours, prevalence known": known,
    "ours, prevalence bounded": bounded,
    "ours, weights": thinned,
}


def worlds() -> list[tuple[World, Mapping[str, Rule]]]:
    """All that is simulated."""
    sizes = [(n, prevalence) for prevalence in (0.05, 0.01) for n in (2_000, 10_000, 50_000)]
    usual = [(World(f"n={n:,}, {prevalence:.0%}", n, prevalence, prevalence), PLAIN) for n, prevalence in sizes]
    odd = [
        (World("flat, n=5,000", 5_000, 0.899, 0.899, shift=0.0), PLAIN),
        (World("head, n=10,000, 5%", 10_000, 0.05, 0.05, shift=3.0, head=0.0005), PLAIN),
    ]
    enriched = [(World(f"n={n:,}, half positive, 5%", n, 0.05, 0.5), ENRICHED) for n in (4_000, 20_000)]
    return [*usual, *odd, *enriched]


ASKED = World("60,000 listings, reports and high scores asked about, 5%", 60_000, 0.05, 0.05)


def asked_about(n_runs: int, seed: int) -> dict[str, dict[str, float]]:
    """Broken, recall and abstentions where not everybody was asked about."""
    rng, n = np.random.default_rng(seed), ASKED.n
    high = ASKED.tails(2.3)[0]
    expected = n * ASKED.prevalence * (0.5 * 0.8 + 0.5 * (high * 0.5 + (1 - high) * 0.05))
    found: dict[str, list[tuple[bool, float, bool]]] = {"as if drawn at random": [], "standing for others": []}
    for _ in range(n_runs):
        truth = rng.random(n) < ASKED.prevalence
        scores = rng.standard_normal(n) + ASKED.shift * truth
        reported = rng.random(n) < np.where(truth, 0.5, 0.02)
        asked = rng.random(n) < np.where(reported, 0.8, np.where(scores > 2.3, 0.5, 0.05))
        rows, weights = flags.stand_for(scores, asked, reported, int(expected))
        plain = thresholds.certify(scores[asked], truth[asked], target=TARGET, risk=RISK, expected=expected)
        fewer = expected * float(weights.mean() / weights.max())
        fair = thresholds.certify(scores[rows], truth[rows], target=TARGET, risk=RISK, expected=fewer, weights=weights, rng=rng)
        for name, one in zip(found, (plain, fair), strict=True):
            found[name].append((ASKED.precision(one.value) < TARGET, ASKED.tails(one.value)[0], not one.holds))
    return averages(found)


def averages(found: Mapping[str, list[tuple[bool, float, bool]]]) -> dict[str, dict[str, float]]:
    """Broken, recall and abstentions of each rule's runs."""
    means = {name: np.mean(np.array(rows, float), axis=0) for name, rows in found.items()}
    return {name: {"broken": float(b), "recall": float(r), "abstains": float(a)} for name, (b, r, a) in means.items()}


def measured(world: World, rules: Mapping[str, Rule], n_runs: int, seed: int) -> dict[str, dict[str, float]]:
    """Broken, recall and abstentions of each rule."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[tuple[bool, float, bool]]] = {name: [] for name in rules}
    for _ in range(n_runs):
        draw = world.draw(rng)
        for name, rule in rules.items():
            value = rule(draw)
            found[name].append((world.precision(value) < TARGET, world.tails(value)[0], math.isinf(value)))
    return averages(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = {}
    for world, rules in [*worlds(), (ASKED, {})]:
        figures = measured(world, rules, asked.runs, asked.seed) if rules else asked_about(asked.runs // 2, asked.seed)
        found[world.name] = {"oracle": world.oracle, "rules": figures}
        if not asked.json:
            show(world, figures)
    if asked.json:
        print(json.dumps(found, indent=2))


def show(world: World, figures: Mapping[str, Mapping[str, float]]) -> None:
    """One world's table."""
    print(f"\n{world.name}: oracle recall {world.oracle:.3f}\n{'':26s}broken  recall  abstains")
    for name, one in figures.items():
        print(f"{name:26s}{one['broken']:6.1%}  {one['recall']:6.3f}  {one['abstains']:8.1%}", flush=True)


if __name__ == "__main__":
    main()
