"""The detector beside TF-IDF with logistic regression, on the same rows.

    python -m tests.benchmarks.detector --data ../shared/data/gumtree
    python -m tests.benchmarks.detector --sample 3000

Rows are split by near-duplicate group (65 % to fit, 10 % to stop early and to set the temperature,
25 % to judge). Both see title and description; the detector also photos and price. The seller's
word is not the truth: on real ads the figures are agreement with it, on the generated catalog the
truth is known. Violations of the real ads are proxies that derive from the seller's category.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from curation import settings
from curation.catalog import sample_truth
from curation.catalog.features import FeatureConfig, Featurizer
from curation.console import table
from curation.quality.metrics import accuracy, average_precision, paired_difference
from curation.release.splits import split_of
from curation.store import listings
from curation.store.workspace import Workspace
from curation.types import PATH_SEPARATOR, LabelSource, Listing, Split, join_violations
from trainer import data, loop
from trainer.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
PROXIES = ("medical_health", "cosmetics_fragrance", "phones_wearables", "recorded_media", "gas_heating_cooking", "child_safety")
STRENGTHS = (10.0, 30.0)
"""C of the baseline; the one better on the validation rows is judged. The default, 1, is 6-20 points worse."""


@dataclass(frozen=True)
class Catalog:
    """N listings with what is learnt from and what is judged against."""

    listings: list[Listing]
    given: list[str]
    judged: list[str]
    violations: list[str]
    names: tuple[str, ...]
    rows: Mapping[Split, NDArray[np.int64]]


@dataclass(frozen=True)
class Answers:
    """One method's predictions of the test rows."""

    category: NDArray[np.str_]
    violation: NDArray[np.floating]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/gumtree")
    parser.add_argument("--sample", type=int, help="listings of a generated catalog, instead of --data")
    parser.add_argument("--noise", type=float, default=0.15, help="share of wrong labels in the generated catalog")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        if options.sample:
            workspace, catalog = generated(Path(folder), options)
            compare("generated catalog, against the truth", workspace, catalog, options.seed)
        else:
            workspace, catalog = real(Path(folder), options.data)
            level1 = replace(
                catalog, given=[_root(path) for path in catalog.given], judged=[_root(path) for path in catalog.judged]
            )
            compare("real ads, level 1, agreement with the seller", workspace, level1, options.seed)
            compare("real ads, level 2, agreement with the seller", workspace, catalog, options.seed)
        workspace.close()


def compare(title: str, workspace: Workspace, catalog: Catalog, seed: int) -> None:
    """Fit both, print both."""
    test = catalog.rows[Split.TEST]
    truth = np.array(catalog.judged)[test]
    present = np.array([[name in value.split("|") for name in catalog.names] for value in catalog.violations])[test]
    ours, theirs = detector(workspace, catalog, seed), baseline(catalog)
    right, wrong = ours.category == truth, theirs.category == truth
    groups = np.array([catalog.listings[row].group_key for row in test])
    difference = paired_difference(right, wrong, groups, rng=np.random.default_rng(seed))
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
    flags = [(value, LabelSource.MODERATORS) for value in catalog.violations]
    wanted = data.targets([(path, LabelSource.SELLER) for path in catalog.given], flags, catalog.names, config)
    train = catalog.rows[Split.TRAIN]
    made = data.Table(features, shape, wanted, loop.stem_of(features, train, config), torch.device("cpu"))
    fitted = loop.fit(made, train, catalog.rows[Split.VALIDATION], config=config)
    category, violation = loop.predict(fitted.detector, made, catalog.rows[Split.TEST])
    return Answers(np.array(wanted.classes)[category.argmax(1)], violation, time.monotonic() - started_s)


def baseline(catalog: Catalog) -> Answers:
    """Words and word pairs, sublinear tf-idf; one model for the category, one per violation."""
    started_s = time.monotonic()
    texts = [f"{listing.title} {listing.description}" for listing in catalog.listings]
    given = np.array(catalog.given)
    train, validation, test = (catalog.rows[split] for split in Split)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    seen = words.fit_transform([texts[row] for row in train])
    held, judged = (words.transform([texts[row] for row in rows]) for rows in (validation, test))
    models = [LogisticRegression(C=strength, max_iter=1000).fit(seen, given[train]) for strength in STRENGTHS]
    best = max(models, key=lambda model: model.score(held, given[validation]))
    violation = np.zeros((len(test), len(catalog.names)))
    for column, name in enumerate(catalog.names):
        present = np.array([name in value.split("|") for value in catalog.violations])[train]
        if present.any() and not present.all():
            violation[:, column] = (
                LogisticRegression(C=STRENGTHS[0], max_iter=1000).fit(seen, present).predict_proba(judged)[:, 1]
            )
    return Answers(best.predict(judged), violation, time.monotonic() - started_s)


def real(folder: Path, source: Path) -> tuple[Workspace, Catalog]:
    """The real ads, read by `refurbish ingest`."""
    home = folder / "home"
    environment = {"REFURBISH_VIOLATIONS": str(list(PROXIES)).replace("'", '"')}
    mapping = ROOT / "docs/mappings/gumtree.toml"
    _ingest(home, source / "listings.csv", environment, "--images", str(source / "images"), "--map", str(mapping))
    workspace, found = _read(home, violations=PROXIES)
    given = [str(listing.category) for listing in found]
    return workspace, _catalog(found, given, given, [join_violations(listing.flags) for listing in found], PROXIES)


def ingested(folder: Path, file: Path, mapping: str, leave_out: tuple[str, ...] = ()) -> tuple[Workspace, Catalog]:
    """A real table with its photos, by one of the documented mappings; some categories are no categories."""
    home = folder / "home"
    options = ("--images", str(file.parent / "images"), "--map", str(ROOT / f"docs/mappings/{mapping}.toml"))
    _ingest(home, file, {}, *options)
    workspace, found = _read(home)
    found = [listing for listing in found if listing.category not in leave_out]
    given = [str(listing.category) for listing in found]
    return workspace, _catalog(found, given, given, ["none"] * len(found), ())


def generated(folder: Path, options: argparse.Namespace) -> tuple[Workspace, Catalog]:
    """The sample catalog: learn from the sellers, judge by the truth; violations from the truth for both."""
    out, home = folder / "catalog", folder / "home"
    _refurbish(
        home, "sample", "--n", str(options.sample), "--seed", str(options.seed), "--noise", str(options.noise), "--out", str(out)
    )
    _ingest(home, out / "listings.csv", {})
    workspace, found = _read(home)
    truth = sample_truth.load(out / "truth.csv")
    judged = [truth.category[listing.ref] for listing in found]
    violations = [truth.violation[listing.ref] for listing in found]
    given = [str(listing.category) for listing in found]
    return workspace, _catalog(found, given, judged, violations, workspace.settings.violations)


def _catalog(found: list[Listing], given: list[str], judged: list[str], violations: list[str], names: tuple[str, ...]) -> Catalog:
    splits = np.array([split_of(listing.group_key) for listing in found])
    return Catalog(found, given, judged, violations, names, {split: np.flatnonzero(splits == split) for split in Split})


def _ingest(home: Path, file: Path, environment: Mapping[str, str], *options: str) -> None:
    _refurbish(home, "db", "upgrade", environment=environment)
    _refurbish(home, "ingest", str(file), *options, environment=environment)


def _refurbish(home: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "curation.cli", "--home", str(home), *words]
    subprocess.run(command, check=True, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, cwd=ROOT)


def _read(home: Path, **flags: object) -> tuple[Workspace, list[Listing]]:
    workspace = Workspace.open(settings.load(home=home, **flags))
    with workspace.db.read() as session:
        return workspace, [listing for page in listings.pages(session) for listing in page if listing.category]


def _root(path: str) -> str:
    return path.split(PATH_SEPARATOR)[0]


def _roots(answers: Answers, truth: NDArray[np.str_]) -> str:
    return _estimate(np.array([_root(path) for path in answers.category]) == np.array([_root(path) for path in truth]))


def _estimate(correct: NDArray[np.bool_]) -> str:
    found = accuracy(correct)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
