"""Which reported listings are looked at first: how many of them break the rules, by how the order is made.

    python -m tests.benchmarks.reports

Simulated, so that the truth is known: 20,000 listings of which 2 % have one of six violations, a calibrated model, and 80
reporters from careful to malicious, whose reports others repeat. Some of the reported listings have been decided, at random; of
the others the 200 first are counted. Means of ten seeds with the standard error.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from curation.console import table
from curation.quality.metrics import average_precision
from curation.quality.report_evidence import Claim
from curation.quality.track_record import TrackRecord, learn

N, N_REPORTERS, N_REASONS = 20_000, 80, 6
SHARE = 0.02
APART = 1.5
"""Standard deviations between violating and other listings on the model's scale: its area under the curve is 0.86."""

REPEATS = 0.4
"""Chance that somebody repeats a report."""

Reports = Mapping[tuple[int, int], list[str]]
Score = Callable[[int, list[str], float], float]


def world(rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float64], Reports]:
    """Violation of each listing (N,), -1 = none; the model's probabilities (N, 6); who reported (listing, reason)."""
    truth = np.where(rng.random(N) < SHARE, rng.integers(N_REASONS, size=N), -1)
    base = SHARE / N_REASONS
    is_there = truth[:, None] == np.arange(N_REASONS)
    seen = rng.normal(is_there * APART, 1.0)
    model = expit(logit(base) + APART * (seen - APART / 2))
    sees = rng.uniform(0.002, 0.03, N_REPORTERS)
    errs = 10 ** rng.uniform(-4.5, -2.5, N_REPORTERS)
    said: dict[tuple[int, int], list[str]] = defaultdict(list)
    for who in range(N_REPORTERS):
        p = np.where(is_there, sees[who], errs[who] / 2)
        for listing, reason in zip(*np.nonzero(rng.random(p.shape) < p), strict=True):
            said[int(listing), int(reason)].append(f"u{who}")
            while rng.random() < REPEATS:
                said[int(listing), int(reason)].append(f"u{rng.integers(N_REPORTERS)}")
    return truth, model, said


def orders(record: TrackRecord, base: float) -> dict[str, Score]:
    """Each way to score a claim: reason, reporters, the model's probability."""
    even = learn([], {str(k): base for k in range(N_REASONS)})
    return {
        "the model alone": lambda reason, who, p: p,
        "half a point for a report": lambda reason, who, p: ((p if p >= 0.5 else 0.0) + 0.5) / 1.5,
        "log-odds, every report even": lambda reason, who, p: even.probability(str(reason), who, p),
        "reasons only": lambda reason, who, p: record.probability(str(reason), [None] * len(who), p),
        "track record": lambda reason, who, p: record.probability(str(reason), who, p),
    }


def run(n_decided: int, seed: int) -> dict[str, tuple[float, float]]:
    """By order: share of the 200 first that is right, and average precision."""
    rng = np.random.default_rng(seed)
    truth, model, said = world(rng)
    claims = list(said)
    rng.shuffle(claims)
    old, new = claims[:n_decided], claims[n_decided:]
    base = SHARE / N_REASONS
    decided = [Claim(str(k), tuple(said[i, k]), bool(truth[i] == k), float(model[i, k])) for i, k in old]
    record = learn(decided, {str(k): base for k in range(N_REASONS)})
    is_right = np.array([truth[i] == k for i, k in new])
    found = {}
    for name, score in orders(record, base).items():
        scores = np.array([score(k, said[i, k], float(model[i, k])) for i, k in new])
        first = np.argsort(-scores, kind="stable")[:200]
        found[name] = float(is_right[first].mean()), float(average_precision(is_right, scores))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--decided", type=int, nargs="*", default=[0, 50, 200, 800])
    options = parser.parse_args()
    rows = []
    for n_decided in options.decided:
        runs = [run(n_decided, seed) for seed in range(options.seeds)]
        for name in runs[0]:
            values = np.array([one[name] for one in runs])
            means, errors = values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))
            rows.append((n_decided, name, *(f"{m:.3f} ± {e:.3f}" for m, e in zip(means, errors, strict=True))))
    print(table(rows, ("decided", "order", "right of the first 200", "average precision")))


if __name__ == "__main__":
    main()
