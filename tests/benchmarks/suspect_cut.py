"""How many rows to call suspects, decided without the truth: real ads, TF-IDF + logistic regression, injected noise.

`product` is what `refurbish suspects` shows (`find_category_issues`): it ranks by the middle of the log odds of two
scorers of `find_suspects` and cuts as that does. Every rule ranks and cuts by itself; beside it stands the best cut of the
same ranking and of any ranking, chosen knowing the truth, and cleanlab's filters. The ads, the noise and the model are those
of `label_issues`; sellers' own errors (about 6 %) count as right here, so true F1 is higher than shown, most of all where
little noise is added.

    python -m tests.benchmarks.suspect_cut --data ../shared/data/gumtree
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from curation.quality.confident import confident_learning, estimate, lowest
from curation.quality.issues import find_category_issues
from curation.quality.posterior import fit
from curation.quality.scorers import Scorer, all_scores, cut_by_counts, find_suspects
from curation.quality.sparse import TopK
from curation.quality.validate import OutOfSample
from tests.benchmarks.label_issues import _ads, inject, out_of_sample

Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gumtree"))
    parser.add_argument("--noise", type=float, nargs="+", default=[0.08, 0.16, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=4)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    ads = _ads(args.data)
    classes, true = np.unique(ads["path"], return_inverse=True)
    roots = [path.split(" / ")[0] for path in classes]
    for noise in args.noise:
        runs = []
        for seed in range(args.seeds):
            given = inject(true, roots, noise, np.random.default_rng(seed))
            runs.append(figures(given, true, out_of_sample(ads, given, len(classes), args.folds)))
        print(json.dumps({"noise": noise, "n_ads": len(ads), "n_classes": len(classes), **summary(runs)}, indent=1), flush=True)


def figures(given: NDArray[np.int64], true: NDArray[np.int64], probs: NDArray[np.float64]) -> Figures:
    """F1 of each rule, of the best cuts, and average precision of each scorer, on one injection."""
    wrong, store = given != true, TopK.of(probs, given)
    state = estimate(store)
    found = find_suspects(store, state)
    names, refs = tuple(map(str, range(probs.shape[1]))), tuple(map(str, range(len(given))))
    product = find_category_issues(given, OutOfSample(probs, names, refs, np.zeros(len(given), dtype=int)))
    scores, n_mean, n_ours = all_scores(store, found.wrong), cut_by_counts(store, state), int(found.flagged.sum())
    best = {name.value: _best(score, wrong) for name, score in scores.items()} | {"product": _best(product.score, wrong)}
    return {
        "added": float(wrong.mean()),
        "rate estimated": fit(store, state).rate,
        "F1 cleanlab default": f1(find_label_issues(given, probs, n_jobs=1), wrong),
        "F1 confident learning": f1(confident_learning(store, state), wrong),
        "F1 mean of counts, log ratio": f1(_lowest(scores[Scorer.LOG_RATIO], n_mean), wrong),
        "F1 mean of counts, posterior": f1(_lowest(scores[Scorer.POSTERIOR], n_mean), wrong),
        "F1 expected F1, log ratio": f1(_lowest(scores[Scorer.LOG_RATIO], n_ours), wrong),
        "F1 find_suspects": f1(found.flagged, wrong),
        "F1 product": f1(product.is_issue, wrong),
        "F1 best cut of the product's ranking": best["product"],
        "F1 best cut of any ranking": max(best.values()),
        **{f"AP {name}": float(average_precision_score(wrong, -score)) for name, score in scores.items()},
        "AP product": float(average_precision_score(wrong, -product.score)),
        "find_suspects below best of any": max(best.values()) - f1(found.flagged, wrong),
        "product below best of any": max(best.values()) - f1(product.is_issue, wrong),
    }


def summary(runs: list[Figures]) -> dict[str, str]:
    """Mean and spread (half of max - min) over the seeds."""
    table = {name: np.array([run[name] for run in runs]) for name in runs[0]}
    return {name: f"{values.mean():.3f} ± {np.ptp(values) / 2:.3f}" for name, values in table.items()}


def f1(flagged: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> float:
    return float(2 * (flagged & wrong).sum() / (flagged.sum() + wrong.sum()))


def _lowest(score: NDArray[np.floating], n: int) -> NDArray[np.bool_]:
    flagged = np.zeros(len(score), dtype=bool)
    flagged[lowest(score, n)] = True
    return flagged


def _best(score: NDArray[np.floating], wrong: NDArray[np.bool_]) -> float:
    hits = np.cumsum(wrong[np.argsort(score, kind="stable")])
    return float((2 * hits / (np.arange(1, len(wrong) + 1) + wrong.sum())).max())


if __name__ == "__main__":
    main()
