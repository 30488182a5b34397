"""Which filter and which score find wrong categories best: cleanlab's, the rule before this one, and ours, side by side.

`--on ads`: real ads, TF-IDF + logistic regression, injected noise. It is that of sellers: mostly between siblings, half of
it always the same confusion. Sellers' own errors (about 6 % of these ads) stay in and count as right here, so true
precision is higher than shown. `--on catalog`: the sample catalog with its careless sellers, all truth known; ours and the
rule before know whose labels they are. `--rows` thins both out. Every figure is the mean over the seeds.

    python -m tests.benchmarks.label_issues --data ../shared/data/gumtree --noise 0.08 0.16 0.2 0.4
    python -m tests.benchmarks.label_issues --on catalog --noise 0.12 0.25
"""

import argparse
import csv
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GroupKFold

from curation.catalog import sample
from curation.quality.confident import estimate
from curation.quality.issues import find_category_issues
from curation.quality.noise import NoiseMatrix
from curation.quality.sellers import Sellers
from curation.quality.sparse import TopK
from curation.quality.validate import OutOfSample
from tests.benchmarks import sample_floor

FILTERS = ("prune_by_noise_rate", "both", "confident_learning", "low_normalized_margin", "low_self_confidence")
SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
MIN_PER_CLASS = 8
REVIEWED = 0.08  #: share of the listings that a batch spends on doubted categories
N_SAMPLE = 3000
MIN_RATED = 20  #: labels of a category whose noise rate is compared
OLD_MAX_SCORE, OLD_PRIOR, RATE_BOUND = 0.2, 10.0, 1e-3  #: of the rule before

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Row = dict[str, float]


@dataclass(frozen=True)
class Problem:
    """N listings with given and true class indices and out-of-sample probabilities; seller -1 = unknown."""

    given: NDArray[np.int64]
    true: NDArray[np.int64]
    probs: Floats
    seller: NDArray[np.int64]


def main() -> None:
    args = _options()
    warnings.simplefilter("ignore")
    for noise in args.noise:
        found: list[dict[str, Row]] = []
        problems = ads_problems(args.data, noise, args.seeds, args.folds) if args.on == "ads" else catalogs(noise, args.seeds)
        for seed, problem in enumerate(problems):
            rows = np.random.default_rng(seed).permutation(len(problem.given))[: args.rows]
            found.append(figures(_thinned(problem, rows)))
        print(f"\n{args.on}, {noise:.0%} noise, {len(found)} seeds, {len(rows):,} rows, {problem.probs.shape[1]} classes")
        _print(found)


def ads_problems(folder: Path, noise: float, n_seeds: int, n_folds: int) -> Iterator[Problem]:
    """Real ads with injected noise."""
    ads = _ads(folder)
    classes, true = np.unique(ads["path"], return_inverse=True)
    for seed in range(n_seeds):
        given = inject(true, [path.split(" / ")[0] for path in classes], noise, np.random.default_rng(seed))
        probs = out_of_sample(ads, given, len(classes), n_folds)
        yield Problem(given, true, probs, np.full(len(given), -1, dtype=np.int64))


def catalogs(noise: float, n_seeds: int) -> Iterator[Problem]:
    """The sample catalog as its sellers labelled it, with their names."""
    for seed in range(1, n_seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            sample.generate(Path(folder), n=N_SAMPLE, seed=seed, noise=noise, photos=False)
            catalog = sample_floor.read(Path(folder), with_attributes=True)
            with (Path(folder) / "listings.csv").open(encoding="utf-8", newline="") as file:
                sellers = [row["seller"] for row in csv.DictReader(file)]
        classes = np.unique([catalog.given, catalog.true])
        given, true = np.searchsorted(classes, catalog.given), np.searchsorted(classes, catalog.true)
        texts = pd.DataFrame({"title": catalog.texts, "description": "", "cluster": catalog.groups})
        probs = out_of_sample(texts, given, len(classes), 4)
        yield Problem(given, true, probs, np.unique(sellers, return_inverse=True)[1].astype(np.int64))


def figures(problem: Problem) -> dict[str, Row]:
    """Precision, recall and F1 of each filter; average precision of each score, and precision where it is reviewed."""
    given, probs, wrong = problem.given, problem.probs, problem.given != problem.true
    names, refs = tuple(map(str, range(probs.shape[1]))), tuple(map(str, range(len(given))))
    oos = OutOfSample(probs, names, refs, np.zeros(len(given), dtype=int))
    ours = find_category_issues(given, oos, sellers=Sellers(problem.seller, np.zeros(len(given), dtype=bool)))
    before, score_before = old_rule(given, probs, problem.seller)
    table = {name: _flagged(kept_classes(given, probs, name), wrong) for name in FILTERS}
    table |= {f"score {name}": _ranked(get_label_quality_scores(given, probs, method=name), wrong) for name in SCORES}
    table["the rule before"] = _flagged(before, wrong) | _ranked(score_before, wrong)
    table["ours"] = _flagged(ours.is_issue, wrong) | _ranked(ours.score, wrong)
    table["best cut of our ranking"] = {"f1": best_f1(ours.score, wrong)}
    return table | _rates(problem, oos, ours.wrong)


def _rates(problem: Problem, oos: OutOfSample, wrong: Floats) -> dict[str, Row]:
    """Noise: truth, by the sums of `wrong`, by the confident joint; `off` is the mean error per category of 20 or more."""
    given, k = problem.given, len(oos.classes)
    n, is_wrong = np.bincount(given, minlength=k), (given != problem.true).astype(np.float64)
    joint = NoiseMatrix.of(estimate(TopK.of(oos.pred_probs, given)))
    thick = (n >= MIN_RATED) & np.isfinite(joint.rate)
    truth = np.bincount(given, weights=is_wrong, minlength=k) / np.maximum(n, 1)
    sums = np.bincount(given, weights=wrong, minlength=k) / np.maximum(n, 1)
    rates = {"noise": truth, "noise by sums of ours": sums, "noise by confident joint": np.nan_to_num(joint.rate)}
    return {
        name: {"rate": float(n @ rate / n.sum()), "off": float(np.average(np.abs(rate - truth)[thick], weights=n[thick]))}
        for name, rate in rates.items()
    }


def kept_classes(given: NDArray[np.int64], probs: Floats, name: str) -> Bools:
    """A filter of cleanlab over the classes with two examples or more; it fails on others."""
    kept = np.flatnonzero(np.bincount(given, minlength=probs.shape[1]) >= 2)
    rows, found = np.flatnonzero(np.isin(given, kept)), np.zeros(len(given), dtype=bool)
    scaled = probs[np.ix_(rows, kept)]
    scaled /= np.maximum(scaled.sum(axis=1, keepdims=True), 1e-12)
    found[rows] = find_label_issues(np.searchsorted(kept, given[rows]), scaled, filter_by=name, n_jobs=1)
    return found


def old_rule(given: NDArray[np.int64], probs: Floats, seller: NDArray[np.int64]) -> tuple[Bools, Floats]:
    """cleanlab's default and odds of four to one against the label, shifted by the seller's record at a fixed strength."""
    others = probs.copy()
    others[np.arange(len(given)), given] = 0.0
    own = probs[np.arange(len(given)), given]
    score = own / np.maximum(own + others.max(axis=1), 1e-12)
    if (seller >= 0).all():
        doubt = 1 - score
        base = (doubt.sum() - doubt) / (len(doubt) - 1)
        rate = np.bincount(seller, weights=doubt)[seller] - doubt + OLD_PRIOR * base
        rate = np.clip(rate / (np.bincount(seller)[seller] - 1 + OLD_PRIOR), RATE_BOUND, 1 - RATE_BOUND)
        odds = (1 - rate) / rate * base / (1 - base)
        score = score * odds / np.maximum(score * odds + 1 - score, 1e-12)
    flagged = kept_classes(given, probs, FILTERS[0]) & (score < OLD_MAX_SCORE) & (probs.argmax(axis=1) != given)
    return flagged, score


def best_f1(score: Floats, wrong: Bools) -> float:
    """Of the best cut of a ranking, chosen knowing the truth."""
    hits = np.cumsum(wrong[np.argsort(score, kind="stable")])
    return float((2 * hits / (np.arange(1, len(wrong) + 1) + wrong.sum())).max())


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


def out_of_sample(ads: pd.DataFrame, given: NDArray[np.int64], k: int, n_folds: int) -> Floats:
    """Probabilities from folds that keep near-duplicates together."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=12_000, sublinear_tf=True)
    features = vectorizer.fit_transform(ads["title"] + " " + ads["description"])
    probs = np.zeros((len(ads), k))
    for train, test in GroupKFold(n_folds).split(features, given, ads["cluster"].astype(str)):
        model = LogisticRegression(C=10, max_iter=60, tol=1e-3).fit(features[train], given[train])
        probs[np.ix_(test, model.classes_)] = model.predict_proba(features[test])
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _thinned(problem: Problem, rows: NDArray[np.int64]) -> Problem:
    return Problem(problem.given[rows], problem.true[rows], problem.probs[rows], problem.seller[rows])


def _flagged(found: Bools, wrong: Bools) -> Row:
    hits = float((found & wrong).sum())
    return {
        "n": float(found.sum()),
        "precision": hits / max(found.sum(), 1),
        "recall": hits / max(wrong.sum(), 1),
        "f1": 2 * hits / max(found.sum() + wrong.sum(), 1),
    }


def _ranked(score: NDArray[np.floating], wrong: Bools) -> Row:
    first = np.argsort(score, kind="stable")[: round(REVIEWED * len(score))]
    return {"AP": float(average_precision_score(wrong, -score)), "front": float(wrong[first].mean())}


def _print(found: list[dict[str, Row]]) -> None:
    """Means over the seeds; F1 also as lowest and highest."""
    columns = ("n", "precision", "recall", "f1", "AP", "front", "rate", "off")
    print(f"{'':<28}" + "".join(f"{name:>10}" for name in columns) + "   F1 by seed")
    for name in found[0]:
        runs: list[Mapping[str, float]] = [one[name] for one in found]
        cells = [
            f"{np.mean([run[c] for run in runs]):>10.{0 if c == 'n' else 3}f}" if c in runs[0] else " " * 10 for c in columns
        ]
        print(f"{name:<28}{''.join(cells)}   " + " ".join(f"{run['f1']:.3f}" for run in runs if "f1" in run))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="label_issues", description=__doc__.split("\n")[0])
    parser.add_argument("--on", choices=("ads", "catalog"), default="ads")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gumtree"))
    parser.add_argument("--noise", type=float, nargs="+", default=[0.15])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--rows", type=int, default=None, help="Only so many of the listings, drawn at random.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
