"""Consensus of paid panels, and what to ask next: ours beside majority, Dawid-Skene and cleanlab, in one run.

Panels: d_jn-product (is this the same product? 8,315 pairs × 3 workers, all with gold) and AdultContent2 (four ratings of
web sites, gold for a few hundred). Nothing is fitted to gold; F1 is that of "same" in the first, the mean over classes in the
second. The text model is cross-fitted on the posterior of Dawid-Skene, which then takes it as one more source, and so on.
ActiveLab: 20,000 simulated items × 10 classes × 5 annotators, two qualities of people × two of the model × two seeds.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.crowd --data ../shared/data/moderation_panels
"""

import argparse
import csv
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.multiannotator import get_active_learning_scores, get_label_quality_multiannotator
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from curation.quality.activelab import activelab
from curation.quality.crowd import crowdlab, plurality
from curation.quality.dawidskene import Prior, dawid_skene
from curation.quality.votes import Belief, Votes, believe, believe_top, gather, gather_table, newest

PLAIN = Prior(strength=1e-9)
FOLDS, ROUNDS, ASKED = 5, 5, 0.05
CODE = re.compile(r"(?=[A-Za-z0-9\-/]*\d)[A-Za-z0-9\-/]{3,}")


@dataclass(frozen=True, slots=True)
class Panel:
    """Votes with some gold, and what there is to read about each item."""

    name: str
    votes: Votes
    gold: NDArray[np.int64]  #: (N,) -1 = none
    features: Any  #: (N, D) array or sparse matrix
    group: NDArray[np.int64]  #: (N,) items of one group are in one fold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/moderation_panels"))
    parser.add_argument("--sharpness", type=float, default=0.75, help="of the simulated model; 1 = as sure as it should be")
    parser.add_argument("--only", choices=["panels", "scores", "speed"], help="one part of it")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.only in (None, "panels"):
        for load in (products, sites):
            compare_panel(load(args.data))
    if args.only in (None, "scores"):
        compare_scores(args.sharpness)
    if args.only in (None, "speed"):
        compare_speed()
        sellers()


def products(folder: Path) -> Panel:
    """Pairs of two shops' products."""
    answers = _rows(folder / "d_jn-product/answers.csv", ",")[1:]
    gold = dict(_rows(folder / "d_jn-product/truth.csv", ",")[1:])
    refs, item = np.unique([row[0] for row in answers], return_inverse=True)
    people, annotator = np.unique([row[1] for row in answers], return_inverse=True)
    votes = gather(item, annotator, [int(row[2]) for row in answers], (len(refs), len(people), 2))
    goods = {row[0]: row[1:] for row in _rows(folder / "d_jn-product/products.csv", ",")[1:]}
    place = {ref: i for i, ref in enumerate(goods)}
    left, right = (np.array([place[ref.split("_")[side]] for ref in refs]) for side in (0, 1))
    features = StandardScaler().fit_transform(_alike(list(goods.values()), left, right))
    return Panel("d_jn-product", votes, np.array([int(gold[ref]) for ref in refs]), features, left)


def _alike(goods: Sequence[Sequence[str]], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N, 10) how alike two products are in words, letters, model numbers and price."""
    names, full = [row[0] for row in goods], [f"{row[0]} {row[1]}" for row in goods]

    def cosine(texts: list[str], **settings: Any) -> NDArray[np.float64]:
        found = TfidfVectorizer(sublinear_tf=True, **settings).fit_transform(texts)
        return np.asarray(found[left].multiply(found[right]).sum(axis=1)).ravel()

    in_name, in_full = _codes(names), _codes(full)
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    price = np.array([float(re.sub(r"[^0-9.]", "", row[2]) or "nan") for row in goods])
    columns = [
        cosine(names),
        cosine(names, analyzer="char_wb", ngram_range=(3, 5)),
        cosine(full),
        cosine(full, token_pattern=f"(?i){CODE.pattern}"),
        [bool(in_name[a] & in_name[b]) for a, b in pairs],
        [len(in_name[a] & in_full[b]) + len(in_full[a] & in_name[b]) for a, b in pairs],
        [bool(in_name[a] and in_name[b] and not in_name[a] & in_name[b]) for a, b in pairs],
        [any(x in y or y in x for x in in_name[a] for y in in_name[b] if min(len(x), len(y)) > 3) for a, b in pairs],
        np.nan_to_num(np.abs(np.log(price[left] / price[right])), nan=-1.0),
        np.isnan(price[left] * price[right]),
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def _codes(texts: Sequence[str]) -> list[set[str]]:
    return [{re.sub(r"[^a-z0-9]", "", code.lower()) for code in CODE.findall(text)} for text in texts]


def sites(folder: Path) -> Panel:
    """Web sites, of which the address is all there is to read."""
    rows = _rows(folder / "AdultContent2/labels.txt", "\t")
    gold = dict(row[:2] for row in _rows(folder / "AdultContent2/gold.txt", "\t"))
    urls, item = np.unique([row[1] for row in rows], return_inverse=True)
    people, annotator = np.unique([row[0] for row in rows], return_inverse=True)
    classes, label = np.unique([row[2] for row in rows], return_inverse=True)
    keep = newest(item, annotator)
    votes = gather(item[keep], annotator[keep], label[keep], (len(urls), len(people), len(classes)))
    number = {name: k for k, name in enumerate(classes)}
    letters = TfidfVectorizer(analyzer="char", ngram_range=(3, 5), min_df=5, max_features=20_000, sublinear_tf=True)
    features = csr_matrix(letters.fit_transform(urls))
    known = np.array([number.get(gold.get(url, ""), -1) for url in urls])
    return Panel("AdultContent2", votes, known, features, np.arange(len(urls)))


def _rows(path: Path, delimiter: str) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return [row for row in csv.reader(file, delimiter=delimiter) if row]


def compare_panel(panel: Panel) -> None:
    """Accuracy and F1 of each method where there is gold."""
    known = panel.gold >= 0
    print(
        f"\n{panel.name}: {panel.votes.n_items} items, {len(panel.votes)} votes of {panel.votes.n_annotators}, {known.sum()} gold"
    )
    print(f"  {'':44} accuracy     F1   CPU s")
    _line(panel, "majority vote", lambda: plurality(panel.votes))
    _line(panel, "Dawid-Skene, plain", lambda: dawid_skene(panel.votes, prior=PLAIN).consensus)
    _line(panel, "Dawid-Skene with our prior", lambda: dawid_skene(panel.votes).consensus)
    text: list[Belief] = []
    _line(panel, "text alone, cross-fitted on the posterior", lambda: _read(panel, text))
    _line(panel, "Dawid-Skene + text (ours)", lambda: dawid_skene(panel.votes, text[0]).consensus)
    _line(panel, "CROWDLAB + text", lambda: crowdlab(panel.votes, text[0]).consensus)


def _line(panel: Panel, name: str, method: Callable[[], NDArray[np.int64]]) -> None:
    began = time.process_time()
    found, known = method(), panel.gold >= 0
    took = time.process_time() - began
    average = "binary" if panel.votes.n_classes == 2 else "macro"
    f1 = f1_score(panel.gold[known], found[known], average=average)
    print(f"  {name:44} {(found == panel.gold)[known].mean():8.4f} {f1:6.4f} {took:7.2f}")


def _read(panel: Panel, text: list[Belief]) -> NDArray[np.int64]:
    """What a model says that has read the items and learnt from the votes, by turns with Dawid-Skene."""
    found = dawid_skene(panel.votes)
    for _ in range(ROUNDS):
        belief = believe(cross_fit(panel, found.dense()))
        found = dawid_skene(panel.votes, belief)
    text.append(belief)
    return belief.top


def cross_fit(panel: Panel, target: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) probabilities from models that had not seen the item's group."""
    fold = np.random.default_rng(0).permutation(panel.group.max() + 1)[panel.group] % FOLDS
    found = np.zeros(target.shape)
    for held in range(FOLDS):
        train = np.flatnonzero(fold != held)
        row, label = np.nonzero(target[train] > 1e-3)
        model = LogisticRegression(max_iter=100, tol=1e-3)
        model.fit(panel.features[train[row]], label, sample_weight=target[train[row], label])
        test = np.flatnonzero(fold == held)
        found[np.ix_(test, model.classes_)] = model.predict_proba(panel.features[test])
    return found


def simulate(
    n: int, skills: Sequence[float], strength: float, seed: int, sharpness: float = 0.75
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """(truth, table of votes with 40 % missing, probabilities of a model): 10 classes."""
    rng, k = np.random.default_rng(seed), 10
    truth, shape = rng.integers(k, size=n), (n, len(skills))
    wrong = rng.random(shape) >= np.array(skills)
    said = ((truth[:, None] + wrong * rng.integers(1, k, shape)) % k).astype(np.float64)
    asked = rng.random(shape) < 0.6
    asked[np.flatnonzero(~asked.any(axis=1)), 0] = True
    logits = rng.normal(size=(n, k)) + strength * (np.arange(k) == truth[:, None])
    odds = np.exp(logits * strength * sharpness)
    return truth, np.where(asked, said, np.nan), odds / odds.sum(axis=1, keepdims=True)


def compare_scores(sharpness: float) -> None:
    """How many of the first 5 % by each score have a wrong label, when both judge the same labels."""
    print("\nActiveLab, 20,000 × 10 × 5: share of wrong labels in the first 5 %, ours / cleanlab")
    print("  labels judged: our consensus | the majority | each its own (cleanlab's has more errors to find)")
    ratios = []
    for skills in ((0.9, 0.8, 0.7, 0.6, 0.5), (0.95, 0.9, 0.85, 0.8, 0.75)):
        for strength in (1.5, 2.0):
            ratios += [_scores(skills, strength, seed, sharpness) for seed in (0, 1)]
    mean = np.mean(ratios, axis=0)
    print(f"  mean ratio ours / cleanlab: {mean[0]:.2f} | {mean[1]:.2f} | {mean[2]:.2f}; least {np.min(ratios, axis=0).round(2)}")


def _scores(skills: Sequence[float], strength: float, seed: int, sharpness: float) -> list[float]:
    truth, said, probs = simulate(20_000, skills, strength, seed, sharpness)
    theirs, _ = get_active_learning_scores(said, probs)
    their_info = get_label_quality_multiannotator(said, probs, calibrate_probs=True, verbose=False)
    their_label = their_info["label_quality"]["consensus_label"].to_numpy()
    votes, belief = gather_table(said, 10), believe(probs)
    ours = activelab(votes, belief)
    wrong, by_vote = ours.consensus != truth, plurality(votes, belief) != truth
    judged = [(wrong, wrong), (by_vote, by_vote), (wrong, their_label != truth)]
    pairs = [(_first(ours.score, mine), _first(theirs, his)) for mine, his in judged]
    shown = " | ".join(f"{mine:.3f} / {his:.3f}" for mine, his in pairs)
    auroc = f"AUROC {roc_auc_score(wrong, -ours.score):.3f} / {roc_auc_score(wrong, -theirs):.3f}"
    errors = f"wrong labels {wrong.mean():.3f} / {(their_label != truth).mean():.3f}"
    setting = f"people {skills[0]}-{skills[-1]}, model {strength}, seed {seed}"
    print(f"  {setting}: {shown}; {auroc}; {errors}; temperature {ours.temperature}")
    return [mine / his for mine, his in pairs]


def _first(score: NDArray[np.float64], wrong: NDArray[np.bool_]) -> float:
    return float(wrong[np.argsort(score, kind="stable")[: round(ASKED * len(score))]].mean())


def compare_speed() -> None:
    """CPU seconds at 100,000 × 10 × 5."""
    _, said, probs = simulate(100_000, (0.9, 0.8, 0.7, 0.6, 0.5), 1.5, 0)
    theirs = _cpu_s(lambda: get_active_learning_scores(said, probs))
    ours = _cpu_s(lambda: activelab(gather_table(said, 10), believe(probs)))
    print(f"\nActiveLab at 100,000 × 10 × 5: cleanlab {theirs:.1f} CPU s, ours {ours:.2f} CPU s, {theirs / ours:.0f} times less")


def sellers(n_items: int = 1_000_000, n_sellers: int = 300_000, n_classes: int = 2_000) -> None:
    """Every seller a source of labels: their own category for all, three moderators for one in fifty."""
    rng = np.random.default_rng(0)
    truth, own = rng.integers(n_classes, size=n_items), rng.integers(n_sellers, size=n_items)
    asked = np.repeat(rng.choice(n_items, n_items // 50, replace=False), 3)
    item = np.concatenate([np.arange(n_items), asked])
    annotator = np.concatenate([own, n_sellers + np.tile(np.arange(3), len(asked) // 3)])
    wrong = rng.random(len(item)) < np.where(annotator < n_sellers, 0.15, 0.05)
    label = (truth[item] + wrong * rng.integers(1, n_classes, len(item))) % n_classes
    probs = rng.dirichlet(np.full(n_classes // 200, 0.3), n_items).astype(np.float32)
    probs = np.sort(probs, axis=1)[:, ::-1] * 0.98
    classes = (truth[:, None] + np.arange(probs.shape[1])) % n_classes
    votes = gather(item, annotator, label, (n_items, n_sellers + 3, n_classes))
    belief = believe_top(classes, probs, n_classes)
    print(f"\n{n_sellers:,} sellers, {n_items:,} items, {n_classes:,} classes, {len(votes):,} votes:")
    print(f"  CROWDLAB {_cpu_s(lambda: crowdlab(votes, belief, shrink=4)):.1f} CPU s")
    print(f"  ActiveLab {_cpu_s(lambda: activelab(votes, belief, shrink=4)):.1f} CPU s")
    print(f"  Dawid-Skene {_cpu_s(lambda: dawid_skene(votes, belief)):.1f} CPU s")


def _cpu_s(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


if __name__ == "__main__":
    main()
