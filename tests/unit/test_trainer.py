"""Training: masks, weights, determinism, the tree head, folds and what stops a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from curation.catalog.features import FeatureConfig, Featurizer
from curation.errors import ConfigError, InputError, ProbabilityError, StaleLease
from curation.quality import validate
from curation.store.files import FileStore
from curation.types import LabelSource, Listing, Photo
from tests.builders import encoded, picture
from trainer import data, folds, loop
from trainer.config import TrainConfig
from trainer.course import Kept
from trainer.model import TreeHead
from trainer.step import NotFiniteError

SHAPE = FeatureConfig(n_buckets=1 << 10, photo_px=24, n_views=2, description_chars=64)
CONFIG = TrainConfig(epochs=8, batch=16, text_dim=8, photo_filters=4, photo_dim=4, embedding_rate=0.05, n_folds=3)
WORDS = {"Home / Garden": "rake spade", "Home / Kitchen": "kettle pan", "Toys / Dolls": "doll dress"}
POLICY = ("counterfeit", "unsafe")


def listing(at: int, path: str) -> Listing:
    """A listing whose words tell its category."""
    title = f"{WORDS[path].split()[at % 2]} number {at}"
    return Listing(at, f"r{at}", None, title, f"A good {title}", 5.0 + at, "GBP", {}, (), path, (), f"g{at // 2}", None)


def table(tmp_path: Path, n: int = 48, found: list[Listing] | None = None, **weights: float) -> data.Table:
    """A table of n such listings; every fifth one has a photo."""
    media = FileStore(tmp_path / "media")
    photo = Photo(media.put(encoded(picture(1)), ".jpg"), 96, 64, "0" * 16)
    found = found or [listing(at, list(WORDS)[at % 3]) for at in range(n)]
    found = [replace(one, photos=(photo,)) if at % 5 == 0 and one.price else one for at, one in enumerate(found)]
    features = Featurizer(SHAPE).transform(found, media)
    categories = [(one.category, LabelSource.SELLER) if one.category else None for one in found]
    config = replace(CONFIG, **weights)
    wanted = data.targets(categories, [None] * len(found), POLICY, config)
    stem = loop.stem_of(features, np.arange(len(found)), config)
    return data.Table(features, SHAPE, wanted, stem, torch.device("cpu"))


def rows(n: int) -> data.Rows:
    """The rows 0 … n-1."""
    return np.arange(n)


def test_fit_learns_and_repeats_itself(tmp_path: Path) -> None:
    """Words that tell the category are learnt, and the same seed gives the same weights."""
    made = table(tmp_path)
    first, second = (loop.fit(made, rows(36), np.arange(36, 48), config=CONFIG) for _ in range(2))
    category, _ = loop.predict(first.detector, made, np.arange(36, 48))
    assert (category.argmax(1) == made.targets.category[36:]).mean() > 0.9
    weights = first.detector.state_dict(), second.detector.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_nan_loss_stops_with_the_refs(tmp_path: Path) -> None:
    """A NaN ends the run and names the listings of the batch (fault 45)."""
    made = table(tmp_path, 12)
    made.targets.category_weight[5] = np.nan
    with pytest.raises(NotFiniteError, match="'r5'"):
        loop.fit(made, rows(12), rows(0), config=replace(CONFIG, batch=4))


def test_a_validation_row_that_is_not_finite_is_named(tmp_path: Path) -> None:
    """Before an epoch is kept or written down by it (fault 45)."""
    made = table(tmp_path, 16)
    made.features.numeric[13] = np.nan
    with pytest.raises(NotFiniteError, match="answer became nan on a batch of 1 listings, \\['r13'\\]"):
        loop.fit(made, rows(12), np.arange(12, 16), config=CONFIG)


def test_lost_lease_stops_between_epochs(tmp_path: Path) -> None:
    """A worker that lost its job trains no further epoch."""
    asked = iter([False, True])
    with pytest.raises(StaleLease):
        loop.fit(table(tmp_path, 12), rows(12), rows(0), config=CONFIG, lost=lambda: next(asked))


def test_early_stop_keeps_the_best_epoch(tmp_path: Path) -> None:
    """Validation labels that contradict the training stop the fit, and the best epoch's weights stay."""
    made = table(tmp_path, 48)
    made.targets.category[36:] = (made.targets.category[36:] + 1) % 3
    fitted = loop.fit(made, rows(36), np.arange(36, 48), config=replace(CONFIG, epochs=12, patience=2))
    assert fitted.n_epochs == fitted.best_epoch + 2 < 12
    assert min(fitted.losses) == fitted.losses[fitted.best_epoch - 1]


NOTHING: dict[str, object] = {"title": "", "description": "", "price": None, "photos": ()}


@pytest.mark.parametrize("missing", [{"title": "", "description": ""}, {"price": None}, NOTHING])
def test_missing_modalities_are_masked(tmp_path: Path, missing: dict[str, object]) -> None:
    """Text, photos and price may all be missing: probabilities stay finite and sum to one."""
    found = [replace(listing(at, list(WORDS)[at % 3]), **missing) for at in range(12)]
    made = table(tmp_path, found=found)
    fitted = loop.fit(made, rows(12), rows(0), config=CONFIG)
    category, violation = loop.predict(fitted.detector, made, rows(12))
    assert np.allclose(category.sum(1), 1, atol=1e-5) and np.isfinite(violation).all()


def test_company_does_not_change_a_prediction(tmp_path: Path) -> None:
    """A listing scores the same alone and in a batch with longer ones."""
    made = table(tmp_path)
    fitted = loop.fit(made, rows(48), rows(0), config=CONFIG)
    alone, together = (loop.predict(fitted.detector, made, chosen)[0] for chosen in (np.array([7]), rows(48)))
    assert np.allclose(alone[0], together[7], atol=1e-6)


def test_tree_head_is_a_distribution() -> None:
    """Leaf probabilities sum to one, and those under a root to the root's, even at extreme logits."""
    head = TreeHead(2, ["a / x", "a / y", "b / z"])
    with torch.no_grad():
        head.leaf.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [5, 5]]) * 100)
        found = head(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        root = torch.softmax(head.root(torch.tensor([[1.0, -1.0], [0.0, 0.0]])), 1)
    assert torch.allclose(found.exp().sum(1), torch.ones(2)) and torch.allclose(found[:, :2].exp().sum(1), root[:, 0], atol=1e-4)


def test_verified_labels_weigh_more() -> None:
    """Moderators count most, a report is a weak yes, silence a weaker no, an unknown category nothing."""
    categories = [("a / x", LabelSource.SELLER), ("a / x", LabelSource.MODERATORS), None]
    flags = [("counterfeit", LabelSource.REPORT), ("none", LabelSource.MODERATORS), None]
    found = data.targets(categories, flags, POLICY, CONFIG)
    assert found.category_weight.tolist() == [1.0, 3.0, 0.0] and found.category.tolist() == [0, 0, -1]
    assert found.violation.tolist() == [[1, 0], [0, 0], [0, 0]]
    assert np.allclose(found.violation_weight, [[0.5, 0.2], [3, 3], [0.2, 0.2]])


def test_nothing_labelled_is_refused() -> None:
    """Without any category there is nothing to learn."""
    with pytest.raises(InputError, match="ingest"):
        data.targets([None], [None], POLICY, CONFIG)


def test_folds_share_no_group() -> None:
    """Near-duplicates are held out together, every row once, the same way each time (fault 38)."""
    labels, groups = np.arange(60) % 7 - 1, [f"g{at // 3}" for at in range(60)]
    found = folds.assign(labels, groups, 4, seed=1)
    assert set(found) == {0, 1, 2, 3} and np.array_equal(found, folds.assign(labels, groups, 4, seed=1))
    assert all(len(set(found[np.array(groups) == group])) == 1 for group in set(groups))


def test_more_folds_than_groups_are_refused() -> None:
    """Two groups cannot make three folds."""
    with pytest.raises(InputError, match="2 groups"):
        folds.assign(np.zeros(4, np.int64), ["a", "a", "b", "b"], 3, seed=1)


def test_out_of_sample_names_its_folds(tmp_path: Path) -> None:
    """Every listing, labelled or not, has valid probabilities and the fold that held it out (fault 37)."""
    found = [replace(listing(at, list(WORDS)[at % 3]), category=None if at == 4 else list(WORDS)[at % 3]) for at in range(36)]
    made = table(tmp_path, found=found)
    assigned = folds.assign(made.targets.category, [one.group_key for one in found], 3, seed=1)
    held_out = folds.held_out(made, assigned, CONFIG)
    assert np.array_equal(held_out.category.folds, assigned) and held_out.violation.shape == (36, 2)
    in_sample = replace(held_out.category, folds=np.where(rows(36) == 3, -1, assigned))
    with pytest.raises(ProbabilityError, match="in-sample"):
        validate.check(in_sample, made.targets.category)


def test_temperature_softens_overconfidence() -> None:
    """Log-probabilities that are wrong half of the time are cooled down; right ones are sharpened."""
    sure = np.log(np.array([[0.999, 0.001]] * 10, np.float32))
    assert loop.fit_temperature(sure, np.array([0, 1] * 5)) > 4
    easy = np.log(np.array([[0.6, 0.4]] * 10, np.float32))
    assert loop.fit_temperature(easy, np.zeros(10, np.int64)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"text_dropout": 1.0}, {"hide_photos": -0.1}, {"batch": 0}, {"mixup": float("nan")}]
)
def test_bad_config_is_refused(bad: dict[str, float]) -> None:
    """A rate or a count that no fit can use is named."""
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainConfig(**bad)


def test_config_round_trip() -> None:
    """A stored run's config is read back; unknown keys are refused."""
    assert TrainConfig.from_json(CONFIG.to_json()) == CONFIG
    with pytest.raises(ConfigError, match="momentum"):
        TrainConfig.from_json({"momentum": 0.9})
    with pytest.raises(ConfigError, match="epochs='many'; it must be int"):
        TrainConfig.from_json({"epochs": "many"})


def test_a_fit_stops_only_where_rows_clearly_object() -> None:
    """An epoch worse by less than a standard error takes the best one's place; one that is worse on every row does not."""
    kept, weight = Kept(), np.ones(4)
    assert kept.gives_way(np.array([1.0, 2.0, 3.0, 4.0]), weight)
    assert kept.gives_way(np.array([3.0, 1.5, 2.5, 3.5]), weight)
    assert not kept.gives_way(np.array([1.1, 2.1, 3.2, 4.1]), weight)
    assert kept.gives_way(np.array([0.9, 1.9, 2.9, 3.9]), weight)
