"""Which filter and which score find wrong categories best: real ads, TF-IDF + logistic regression, injected noise.

The noise is that of sellers: mostly between siblings, half of it always the same confusion. Sellers' own
errors (about 6 % of these ads) stay in and count as right here, so true precision is higher than shown.

    python -m tests.benchmarks.label_issues --data ../shared/data/gumtree --noise 0.15
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold

from curation.quality.issues import find_category_issues
from curation.quality.validate import OutOfSample

FILTERS = ("prune_by_noise_rate", "both", "confident_learning", "low_normalized_margin", "predicted_neq_given")
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
MIN_PER_CLASS = 8
REVIEWED = 0.08  #: share of the listings that a batch spends on doubted categories


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gumtree"))
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=4)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    ads = _ads(args.data)
    classes, true = np.unique(ads["path"], return_inverse=True)
    given = inject(true, [path.split(" / ")[0] for path in classes], args.noise, np.random.default_rng(args.seed))
    probs = out_of_sample(ads, given, len(classes), args.folds)
    oos = OutOfSample(probs, tuple(classes), tuple(ads["id"]), np.zeros(len(ads), dtype=int))
    print(json.dumps(figures(given, true, oos), indent=1))


def _ads(folder: Path) -> pd.DataFrame:
    """Ads by the first two levels of their category, thin categories left out."""
    ads = pd.read_csv(folder / "listings.csv").fillna({"title": "", "description": ""})
    ads["path"] = [" / ".join(path.split(" / ")[:2]) for path in ads["category_path"]]
    return ads[ads.groupby("path")["id"].transform("count") >= MIN_PER_CLASS].reset_index(drop=True)


def inject(true: NDArray[np.int64], roots: list[str], noise: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Wrong labels for a share of the rows: 85 % within the root, half of these the category's favourite confusion."""
    groups = np.array(roots)
    siblings = [np.flatnonzero((groups == root) & (np.arange(len(groups)) != k)) for k, root in enumerate(groups)]
    favourite = [int(rng.choice(near)) if len(near) else k for k, near in enumerate(siblings)]
    given = true.copy()
    for row in np.flatnonzero(rng.random(len(true)) < noise):
        near = siblings[true[row]]
        if len(near) and rng.random() < 0.85:
            given[row] = favourite[true[row]] if rng.random() < 0.5 else rng.choice(near)
        else:
            given[row] = rng.integers(len(groups))
    return given


def out_of_sample(ads: pd.DataFrame, given: NDArray[np.int64], k: int, n_folds: int) -> NDArray[np.float64]:
    """Probabilities from folds that keep near-duplicates together."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=12_000, sublinear_tf=True)
    features = vectorizer.fit_transform(ads["title"] + " " + ads["description"])
    probs = np.zeros((len(ads), k))
    for train, test in GroupKFold(n_folds).split(features, given, ads["cluster"].astype(str)):
        model = LogisticRegression(C=10, max_iter=60, tol=1e-3).fit(features[train], given[train])
        probs[np.ix_(test, model.classes_)] = model.predict_proba(features[test])
    return probs / probs.sum(axis=1, keepdims=True)


def figures(given: NDArray[np.int64], true: NDArray[np.int64], oos: OutOfSample) -> dict[str, Any]:
    """Precision, recall and F1 of each filter; average precision of each score, and precision where it is reviewed."""
    wrong = given != true
    ours = find_category_issues(given, oos)
    flags = {name: find_label_issues(given, oos.pred_probs, filter_by=name, n_jobs=1) for name in FILTERS}
    scores = {name: get_label_quality_scores(given, oos.pred_probs, method=name) for name in SCORES}
    top = round(REVIEWED * len(given))
    return {
        "n_ads": len(given),
        "n_classes": len(oos.classes),
        "noise": float(wrong.mean()),
        "accuracy": float((oos.pred_probs.argmax(axis=1) == true).mean()),
        "flags": {name: _flagged(found, wrong) for name, found in {**flags, "refurbish": ours.is_issue}.items()},
        "scores": {name: _ranked(np.argsort(score), score, wrong, top) for name, score in scores.items()},
        "refurbish ranking": _ranked(ours.order, ours.score, wrong, top),
    }


def _flagged(found: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> dict[str, float]:
    precision, recall = wrong[found].mean(), found[wrong].mean()
    f1 = 2 * precision * recall / (precision + recall)
    return {"n": int(found.sum()), "precision": round(precision, 3), "recall": round(recall, 3), "f1": round(f1, 3)}


def _ranked(order: NDArray[np.int64], score: NDArray[np.float64], wrong: NDArray[np.bool_], top: int) -> dict[str, float]:
    return {
        "average_precision": round(float(average_precision_score(wrong, -score)), 3),
        f"precision_of_first_{REVIEWED:.0%}": round(float(wrong[order[:top]].mean()), 3),
    }


if __name__ == "__main__":
    main()
