"""What a detector learns from wrong labels: targets, memory, histories, probes and the switches of the recipe."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.naive_bayes import ComplementNB

from curation.errors import ConfigError, InputError
from curation.quality.channel import Posterior
from tests.unit.test_trainer import CONFIG, table
from trainer import evidence, loop, probe
from trainer.config import TrainConfig
from trainer.data import Table
from trainer.refurbish import Largest, Memory, Refurbish, Targets
from trainer.selfie import History, Selfie

CPU = torch.device("cpu")
WRONG = 2  #: a row that `noisy` gives a wrong label
ONCE = (np.arange(120) == 7).astype(np.int64)  #: class 1 has one example


def noisy(tmp_path: Path, n: int = 120) -> tuple[Table, np.ndarray]:
    """A table of which about every sixth label is wrong, and the true classes."""
    rng = np.random.default_rng(0)
    made = table(tmp_path, n)
    true = made.targets.category.copy()
    said = np.where(rng.random(n) < 0.17, (true + rng.integers(1, 3, n)) % 3, true)
    wanted = replace(made.targets, category=said, said=said)
    return Table(made.features, made.shape, wanted, made.stem, CPU), true


def test_wrong_labels_are_refurbished_before_training(tmp_path: Path) -> None:
    """Most targets are right though every sixth label is wrong, and so are the predictions."""
    made, true = noisy(tmp_path)
    train = np.arange(100)
    loop.start(made, train, CONFIG)
    objective = Refurbish(made, train, CONFIG)
    best = objective.targets.classes[train].gather(1, objective.targets.p[train].argmax(1, keepdim=True))[:, 0]
    assert (best.numpy() == true[train]).mean() > 0.95
    fitted = loop.fit(made, train, np.zeros(0, np.int64), config=CONFIG)
    assert (loop.predict(fitted.detector, made, np.arange(100, 120))[0].argmax(1) == true[100:]).mean() > 0.9


def test_moderators_words_and_certified_repairs_are_targets_as_they_are(tmp_path: Path) -> None:
    """Whatever the evidence says."""
    made, _ = noisy(tmp_path)
    verified, repaired = made.targets.is_verified.copy(), made.targets.is_repaired.copy()
    verified[0, 0] = repaired[WRONG] = True
    fixed = Table(made.features, made.shape, replace(made.targets, is_verified=verified, is_repaired=repaired), made.stem, CPU)
    train = np.arange(120)
    loop.start(fixed, train, CONFIG)
    targets = Refurbish(fixed, train, CONFIG).targets
    assert targets.classes[[0, WRONG], 0].tolist() == fixed.targets.category[[0, WRONG]].tolist()
    assert targets.p[[0, WRONG], 0].tolist() == [1.0, 1.0]


def test_repairs_that_moderators_contradict_are_not_made(tmp_path: Path) -> None:
    """Verified listings whose sellers were right make the evidence blunt, however odd the other labels look."""
    made, _ = noisy(tmp_path)
    rows = np.arange(120)
    loop.start(made, rows, CONFIG)
    before = evidence.posterior(made, rows)
    trusted = made.targets.is_verified.copy()
    trusted[:100, 0] = True
    telling = Table(made.features, made.shape, replace(made.targets, is_verified=trusted), made.stem, CPU)
    loop.start(telling, rows, CONFIG)
    after = evidence.posterior(telling, rows)
    assert (before.wrong[100:] > 0.5).sum() > 0
    assert after.wrong[100:].max() < 0.5


def test_before_anything_is_decided_only_the_surest_are_refurbished(tmp_path: Path) -> None:
    """All others keep what was said; with decisions everybody's target is the posterior."""
    made, _ = noisy(tmp_path)
    rows = np.arange(120)
    loop.start(made, rows, CONFIG)
    found = evidence.posterior(made, rows)
    first = Refurbish(made, rows, CONFIG).targets
    sure = found.wrong > evidence.UNTOLD_DOUBT
    kept = (first.classes[:, 0].numpy() == made.targets.category) & (first.p[:, 0].numpy() == 1)
    assert sure.sum() > 10
    assert kept.tolist() == (~sure).tolist()


@pytest.mark.parametrize("recipe", ["refurbish", "selfie", "cross_entropy"])
def test_every_recipe_trains_and_repeats_itself(tmp_path: Path, recipe: str) -> None:
    """The same seed gives the same weights."""
    made, _ = noisy(tmp_path)
    config = replace(CONFIG, recipe=recipe, early_learning=1.0, mixup=0.5, selfie_noise=0.25)
    first, second = (loop.fit(made, np.arange(100), np.arange(100, 120), config=config) for _ in range(2))
    weights = first.detector.state_dict(), second.detector.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_memory_is_the_running_mean_of_its_largest_classes() -> None:
    """With few classes it equals the dense target of the paper."""
    rng = torch.Generator().manual_seed(0)
    memory, dense = Largest(4, 5, 0.7, CPU), torch.zeros(4, 5)
    for _ in range(6):
        log_probs = torch.log_softmax(torch.randn(4, 5, generator=rng), 1)
        dense = 0.7 * dense + 0.3 * log_probs.exp()
        classes, p = memory.update(torch.arange(4), log_probs)
    found = torch.zeros(4, 5).scatter_(1, classes, p)
    assert torch.allclose(found, dense, atol=2e-3)
    assert Largest(1, 14_000, 0.7, CPU).classes.element_size() * 8 + 16 <= 32


def test_the_memory_of_candidates_is_the_running_mean_of_theirs() -> None:
    """Of two classes a row it keeps what the dense target of the paper says of them."""
    rng = torch.Generator().manual_seed(0)
    candidates = torch.tensor([[0, 3], [4, 1]], dtype=torch.int16)
    memory, dense = Memory(candidates, 0.7), torch.zeros(2, 5)
    for _ in range(6):
        log_probs = torch.log_softmax(torch.randn(2, 5, generator=rng), 1)
        dense = 0.7 * dense + 0.3 * log_probs.exp()
        classes, p = memory.update(torch.arange(2), log_probs)
    assert torch.equal(classes, candidates.long())
    assert torch.allclose(p, dense.gather(1, classes), atol=2e-3)


def test_a_row_has_each_class_once_and_its_target_first(tmp_path: Path) -> None:
    """Whether it is refurbished, or taken as it was said."""
    made, _ = noisy(tmp_path)
    train = np.arange(120)
    loop.start(made, train, CONFIG)
    for doubt in (0.0, 0.8):
        targets = Refurbish(made, train, replace(CONFIG, repair_doubt=doubt)).targets
        assert (targets.classes.sort(1).values.diff(dim=1) > 0).all()
        assert (targets.p[:, :1] >= targets.p).all() and torch.allclose(targets.p.float().sum(1), torch.ones(120), atol=2e-3)


def test_a_history_is_certain_when_its_predictions_agree() -> None:
    """Not before it is full, and not any longer once they differ: nothing is frozen in."""
    history, row = History(2, 14_000, 4, CPU), torch.tensor([0])
    for predicted in (7, 7, 7):
        history.record(row, torch.tensor([predicted]))
    assert history.certainty(row)[1].item() == 1
    history.record(row, torch.tensor([7]))
    mode, entropy = history.certainty(row)
    assert (mode.item(), round(entropy.item(), 6)) == (7, 0)
    history.record(row, torch.tensor([9]))
    mode, entropy = history.certainty(row)
    assert mode.item() == 7 and entropy.item() == pytest.approx(0.5623 / np.log(4), abs=1e-3)
    assert history.ring.element_size() * 15 + 1 <= 32


def test_a_long_history_keeps_the_newest_predictions() -> None:
    """The ring goes round, also where its counter would overflow."""
    history, row = History(1, 10, 3, CPU), torch.tensor([0])
    for predicted in range(300):
        history.record(row, torch.tensor([predicted % 10]))
    assert sorted(history.ring[0].tolist()) == [7, 8, 9]


def test_selfie_leaves_out_large_losses_and_corrects_agreed_labels(tmp_path: Path) -> None:
    """After the warm-up its labels are better than the given ones."""
    made, true = noisy(tmp_path)
    config = replace(CONFIG, recipe="selfie", selfie_noise=0.25, selfie_history=3, selfie_warmup=3)
    kept: list[Selfie] = []

    def keeping(of: Table, train: np.ndarray) -> Selfie:
        kept.append(Selfie(of, train, config))
        return kept[-1]

    loop.fit(made, np.arange(120), np.zeros(0, np.int64), config=config, objective=keeping)
    assert (kept[0].corrected.numpy() == true).mean() > (made.targets.category == true).mean()


def test_an_opinion_says_where_detector_and_probes_agree(tmp_path: Path) -> None:
    """A detector that is sure of something else is not followed blindly, nor are the probes."""
    made, true = noisy(tmp_path)
    loop.start(made, np.arange(len(true)), CONFIG)
    wrong = made.targets.said != true
    mistaken = np.flatnonzero(wrong)[:5]
    taken = true.copy()
    taken[mistaken] = 3 - true[mistaken] - made.targets.said[mistaken]  # the third of three classes
    suggested, score, may, alone = evidence.opinion(made, np.eye(3)[taken] * 0.9 + 0.1 / 3)
    assert (suggested == true)[wrong].mean() > 0.7 and score[wrong].mean() > 0.5 > 0.1 > score[~wrong].mean()
    assert not may[mistaken].any() and may[np.setdiff1d(np.flatnonzero(wrong), mistaken)].mean() > 0.7
    chosen, p = alone["text"]
    assert set(alone) == {"text", "photo"} and (chosen == true)[wrong].mean() > 0.7
    assert ((p > 0) & (p <= 1))[chosen >= 0].all() and (alone["photo"][0] >= -1).all()


ODD: dict[str, dict[str, object]] = {
    "one class": {"classes": ("A",), "category": np.zeros(120, np.int64), "said": np.zeros(120, np.int64)},
    "a class of one and one of none": {"classes": ("A", "B", "C", "D"), "category": ONCE, "said": ONCE},
    "nobody said anything": {"said": np.full(120, -1)},
    "all decided": {"is_verified": np.ones((120, 2), bool)},
    "one seller": {"seller": np.zeros(120, np.int64)},
    "one group": {"group": np.zeros(120, np.int64)},
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_catalogs_are_judged_all_the_same(tmp_path: Path, odd: str) -> None:
    """Every target and every score is a probability, and the fit ends."""
    made, _ = noisy(tmp_path)
    bad = Table(made.features, made.shape, replace(made.targets, **ODD[odd]), made.stem, CPU)  # type: ignore[arg-type]
    fitted = loop.fit(bad, np.arange(100), np.arange(100, 120), config=replace(CONFIG, epochs=1))
    probs = loop.predict(fitted.detector, bad, np.arange(120))[0]
    suggested, score, *_ = evidence.opinion(bad, probs)
    assert np.isfinite(probs).all() and ((score >= 0) & (score <= 1)).all() and (suggested < len(bad.targets.classes)).all()
    assert Refurbish(bad, np.arange(100), CONFIG).targets.p.sum(1).numpy() == pytest.approx(1.0, abs=1e-4)


def test_listings_without_text_and_photos_are_no_evidence(tmp_path: Path) -> None:
    """Their labels stay what the class's record makes of them; nothing is divided by zero."""
    made, _ = noisy(tmp_path)
    empty = replace(made.features, ids=np.zeros_like(made.features.ids), photo_index=np.zeros_like(made.features.photo_index))
    blank = Table(empty, made.shape, made.targets, made.stem, CPU)
    loop.start(blank, np.arange(120), CONFIG)
    found = evidence.posterior(blank, np.arange(120))
    assert np.isfinite(found.p).all() and (found.best == blank.targets.said).mean() > 0.9


def test_a_target_is_never_empty(tmp_path: Path) -> None:
    """Where no class has two percent the most probable one is left."""
    made, _ = noisy(tmp_path)
    n = len(made)
    many = Table(made.features, made.shape, replace(made.targets, classes=tuple(map(str, range(100)))), made.stem, CPU)
    flat = np.full((n, 64), 1 / 64)
    found = Posterior(np.tile(np.arange(64), (n, 1)), flat, flat, np.ones(n), 1.0, {}, 0.0)
    assert Targets.of(many, np.arange(n), found, 0.5).p.sum(1).tolist() == [1.0] * n


def test_folds_do_not_follow_the_order_of_the_catalog() -> None:
    """Listings that come class by class in turn are spread over all folds."""
    classes = np.arange(200) % evidence.N_FOLDS
    folds = evidence._folds(np.arange(200))
    assert all(len(set(folds[classes == at])) == evidence.N_FOLDS for at in range(evidence.N_FOLDS))


def whole(parts: Iterator[probe.Part]) -> NDArray[np.float64]:
    """The scores of all rows."""
    rows, scores = (np.concatenate(found) for found in zip(*parts, strict=True))
    return np.asarray(scores[rows.argsort()])


def test_the_text_probe_is_complement_naive_bayes() -> None:
    """As scikit-learn has it, for rows that its fold left out."""
    rng = np.random.default_rng(0)
    rows = csr_matrix(rng.poisson(0.4, (60, 30)).astype(float))
    labels, folds = rng.integers(3, size=60), np.arange(60) % 2
    found = whole(probe.text_scores(rows, labels, folds, 3))
    theirs = ComplementNB(alpha=probe.SMOOTHING / 3).fit(rows[folds == 1], labels[folds == 1])
    assert (found[folds == 0].argmax(1) == theirs.predict(rows[folds == 0])).mean() > 0.9


def test_a_probe_does_not_see_the_row_it_judges() -> None:
    """Another label of one row changes nothing in its own fold."""
    rng = np.random.default_rng(0)
    rows, photos = csr_matrix(rng.random((240, 12))), rng.normal(size=(240, 300))
    labels, folds = rng.integers(3, size=240), np.arange(240) % 4
    other = np.where(np.arange(240) == 0, (labels + 1) % 3, labels)
    held = folds == 0
    both = [
        [whole(probe.text_scores(rows, said, folds, 3)), whole(probe.photo_scores(photos, said, folds, 3))]
        for said in (labels, other)
    ]
    for first, second in zip(*both, strict=True):
        np.testing.assert_allclose(first[held], second[held])
        assert not np.allclose(first[~held], second[~held])


def test_wrong_switches_are_refused() -> None:
    """With their values."""
    with pytest.raises(ConfigError, match="recipe='magic'"):
        TrainConfig(recipe="magic")
    with pytest.raises(ConfigError, match=r"memory=1\.5"):
        TrainConfig(memory=1.5)
    with pytest.raises(InputError, match="history of 16"):
        History(1, 3, 16, CPU)
