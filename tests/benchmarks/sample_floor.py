"""What a plain text model makes of the sample catalog: the floor that the product has to beat.

    python -m tests.benchmarks.sample_floor --n 3000 --seed 1 --noise 0.15

TF-IDF of words and word pairs and a logistic regression, split by repost group. It sees titles and
descriptions; with `--attributes` also brand, condition, colour and the price band, as words.
"""

import argparse
import csv
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GroupKFold, GroupShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline

from curation.catalog import sample, sample_truth

N_FOLDS = 5
SHOWN = (0.05, 0.10)
"""Shares of the listings whose most doubtful labels are looked at."""


@dataclass(frozen=True)
class Catalog:
    """N listings; `given` is what the seller picked, `true` what is right."""

    texts: list[str]
    given: NDArray[np.str_]
    true: NDArray[np.str_]
    groups: NDArray[np.str_]


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        sample.generate(Path(folder), n=options.n, seed=options.seed, noise=options.noise, photos=False)
        catalog = read(Path(folder), with_attributes=options.attributes)
    wrong = catalog.given != catalog.true
    print(f"{options.n:,} listings, seed {options.seed}: {wrong.mean():.1%} of the sellers' categories are wrong")
    for name, accuracy in accuracies(catalog).items():
        print(f"{name:<52} {accuracy:.3f}")
    confidence = self_confidence(catalog)
    print(f"{'wrong labels by self-confidence: AUC':<52} {roc_auc_score(wrong, -confidence):.3f}")
    print(f"{'wrong labels by self-confidence: average precision':<52} {average_precision_score(wrong, -confidence):.3f}")
    for share in SHOWN:
        n_shown = round(share * len(wrong))
        worst = np.argsort(confidence, kind="stable")[:n_shown]
        found = f"{wrong[worst].mean():.3f} ({wrong[worst].sum() / wrong.sum():.0%} of all wrong labels)"
        print(f"{f'  precision of the {n_shown} most doubtful':<52} {found}")


def read(folder: Path, *, with_attributes: bool) -> Catalog:
    """A generated catalog with its truth."""
    truth = sample_truth.load(folder / "truth.csv")
    with (folder / "listings.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return Catalog(
        texts=[_text(row, with_attributes=with_attributes) for row in rows],
        given=np.array([row["category"] for row in rows]),
        true=np.array([truth.category[row["id"]] for row in rows]),
        groups=np.array([truth.group_of(row["id"]) for row in rows]),
    )


def accuracies(catalog: Catalog) -> dict[str, float]:
    """Accuracy on a third that shares no repost group with the training rows."""
    split = GroupShuffleSplit(1, test_size=0.33, random_state=0)
    fit, held_out = next(split.split(catalog.texts, groups=catalog.groups))
    found = {}
    for name, labels in (("sellers'", catalog.given), ("true", catalog.true)):
        predicted = _fitted(catalog, fit, labels).predict([catalog.texts[at] for at in held_out])
        found[f"trained on {name} labels: agrees with the truth"] = float((predicted == catalog.true[held_out]).mean())
        found[f"trained on {name} labels: agrees with the sellers"] = float((predicted == catalog.given[held_out]).mean())
    return found


def self_confidence(catalog: Catalog) -> NDArray[np.float64]:
    """(N,) out-of-fold probability of the label that the seller gave."""
    confidence = np.zeros(len(catalog.texts))
    for fit, held_out in GroupKFold(N_FOLDS).split(catalog.texts, groups=catalog.groups):
        model = _fitted(catalog, fit, catalog.given)
        column = {name: at for at, name in enumerate(model.classes_)}
        probabilities = model.predict_proba([catalog.texts[at] for at in held_out])
        confidence[held_out] = [row[column[catalog.given[at]]] for row, at in zip(probabilities, held_out, strict=True)]
    return confidence


def _fitted(catalog: Catalog, rows: NDArray[np.int64], labels: NDArray[np.str_]) -> Pipeline:
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10.0, max_iter=300)
    )
    return model.fit([catalog.texts[at] for at in rows], labels[rows])


def _text(row: dict[str, str], *, with_attributes: bool) -> str:
    words = [row["title"], row["description"]]
    if with_attributes:
        words += [f"{name}_{row[name]}".replace(" ", "_") for name in ("brand", "condition", "colour") if row[name]]
        words += [f"price_{math.log2(float(row['price'])):.0f}"] if row["price"] else []
    return " ".join(words)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sample_floor", description=__doc__)
    parser.add_argument("--n", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.15)
    parser.add_argument("--attributes", action="store_true", help="also brand, condition, colour and price band")
    return parser.parse_args()


if __name__ == "__main__":
    main()
