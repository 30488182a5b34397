"""The detector beside TF-IDF with logistic regression, on the same rows.

    python -m tests.benchmarks.detector --data ../shared/data/gumtree
    python -m tests.benchmarks.detector --sample 3000

Rows are split by near-duplicate group (65 % to fit, 10 % to stop early and to set the temperature,
25 % to judge). Both see title and description; the detector also photos and price. The seller's
word is not the truth: on real ads the figures are agreement with it, on the generated catalog the
truth is known. Violations of the real ads are proxies that derive from the seller's category.
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from curation.catalog.features import FeatureConfig, Featurizer
from curation.console import table
from curation.quality.metrics import accuracy, average_precision, paired_difference
from curation.store.workspace import Workspace
from curation.types import Split
from tests.benchmarks import tfidf
from tests.benchmarks.catalog import Catalog, fit, groups_of, of_level_1, opened, parser_of, present_in, root_of, table_of
from trainer import loop
from trainer.config import TrainConfig


@dataclass(frozen=True)
class Answers:
    """One method's predictions of the test rows."""

    category: NDArray[np.str_]
    violation: NDArray[np.floating]
    seconds: float


def main() -> None:
    options = parser_of(__doc__).parse_args()
    torch.set_num_threads(2)
    with opened(options) as (workspace, catalog):
        if options.sample:
            compare("generated catalog, against the truth", workspace, catalog, options.seed)
        else:
            compare("real ads, level 1, agreement with the seller", workspace, of_level_1(catalog), options.seed)
            compare("real ads, level 2, agreement with the seller", workspace, catalog, options.seed)


def compare(title: str, workspace: Workspace, catalog: Catalog, seed: int) -> None:
    """Fit both, print both."""
    test = catalog.rows[Split.TEST]
    truth = np.array(catalog.judged)[test]
    present = present_in(catalog)[test]
    ours, theirs = detector(workspace, catalog, seed), baseline(catalog)
    right, wrong = ours.category == truth, theirs.category == truth
    difference = paired_difference(right, wrong, groups_of(catalog), rng=np.random.default_rng(seed))
    found = [
        ("category accuracy", _estimate(right), _estimate(wrong)),
        ("root accuracy", *(_roots(one, truth) for one in (ours, theirs))),
    ]
    for column, name in enumerate(catalog.names):
        both = [average_precision(present[:, column], one.violation[:, column]) for one in (ours, theirs)]
        found.append((f"average precision, {name} ({present[:, column].sum()})", *(f"{value:.3f}" for value in both)))
    found.append(("seconds", f"{ours.seconds:.1f}", f"{theirs.seconds:.1f}"))
    fit, judged = len(catalog.rows[Split.TRAIN]), len(test)
    print(f"\n{title}: {fit:,} rows to fit, {judged:,} to judge, {len(set(catalog.given))} categories")
    print(table(found, ("", "detector", "TF-IDF + logistic regression")))
    print(f"difference in category accuracy {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]", flush=True)


def detector(workspace: Workspace, catalog: Catalog, seed: int) -> Answers:
    """Features, stem, fit and predictions of the test rows."""
    started_s = time.monotonic()
    config, shape = TrainConfig(seed=seed), FeatureConfig()
    features = Featurizer(shape).transform(catalog.listings, workspace.media)
    made = table_of(catalog, features, shape, config)
    fitted = fit(made, catalog, config)
    category, violation = loop.predict(fitted.detector, made, catalog.rows[Split.TEST])
    return Answers(np.array(made.targets.classes)[category.argmax(1)], violation, time.monotonic() - started_s)


def baseline(catalog: Catalog) -> Answers:
    """One model for the category, one per violation."""
    started_s = time.monotonic()
    train, test = catalog.rows[Split.TRAIN], catalog.rows[Split.TEST]
    words = tfidf.Words(catalog.listings, train)
    best, judged = tfidf.of_categories(words, catalog), words.of(test)
    violation = np.zeros((len(test), len(catalog.names)))
    for column, present in enumerate(present_in(catalog)[train].T):
        if present.any() and not present.all():
            violation[:, column] = tfidf.fitted(words.seen, present).predict_proba(judged)[:, 1]
    return Answers(best.predict(judged), violation, time.monotonic() - started_s)


def _roots(answers: Answers, truth: NDArray[np.str_]) -> str:
    return _estimate(np.array([root_of(path) for path in answers.category]) == np.array([root_of(path) for path in truth]))


def _estimate(correct: NDArray[np.bool_]) -> str:
    found = accuracy(correct)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
