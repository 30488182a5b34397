"""The violations' own network: what it may add, what it is fitted upon, and that it is served as it was fitted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from curation.catalog.features import Featurizer
from curation.catalog.scorer import Scorer
from curation.errors import ConfigError
from curation.store.files import FileStore
from curation.types import LabelSource
from tests.unit.test_sequence import CELLS, SMALL, listings
from tests.unit.test_trainer import POLICY, SHAPE, rows
from trainer import certify, data, loop, onnx, residual, violations
from trainer.config import TEXT_CNN, TrainConfig
from trainer.scale import MAX_ERROR, scale_of
from trainer.sequence import tokenizer_of
from trainer.step import NotFiniteError
from trainer.violations import How

ALONE = replace(SMALL, violation_architecture=TEXT_CNN, violation_linear=False, violation_epochs=20)
ON_TOP = replace(SMALL, violation_architecture=CELLS, violation_epochs=2)


def table(tmp_path: Path, config: TrainConfig, n: int = 48) -> data.Table:
    """n listings; every third one, told by its words, is counterfeit."""
    found, flagged = listings(n), ["counterfeit" if at % 3 == 0 else "none" for at in range(n)]
    features = Featurizer(SHAPE, tokenizer_of(found, range(n), config)).transform(found, FileStore(tmp_path / "media"))
    given = [(one.category or "", LabelSource.SELLER) for one in found]
    wanted = data.targets(given, [(value, LabelSource.MODERATORS) for value in flagged], POLICY, config)
    return data.Table(features, SHAPE, wanted, loop.stem_of(features, rows(n), config), torch.device("cpu"))


def test_the_network_learns_by_itself(tmp_path: Path) -> None:
    """Without the linear head under it, it tells listings with the violation from those without."""
    made = table(tmp_path, ALONE)
    fitted = loop.fit(made, rows(36), np.arange(36, 48), config=ALONE)
    found = loop.predict(fitted.detector, made, np.arange(36, 48))[1][:, 0]
    present = made.targets.violation[36:48, 0] > 0
    assert found[present].min() > found[~present].max() and not fitted.detector.text.direct.any()


def test_categories_are_the_same_with_and_without_it(tmp_path: Path) -> None:
    """The network shares nothing with the category's branches, not even chance."""
    answers = []
    for config in (SMALL, ON_TOP):
        made = table(tmp_path, config)
        answers.append(loop.predict(loop.fit(made, rows(36), rows(0), config=config).detector, made, rows(48))[0])
    assert (answers[0] == answers[1]).all()


def test_a_network_that_does_harm_does_not_count() -> None:
    """Its share is the one at which answers are likeliest: none of it where it errs, all of it where it is right."""
    present = np.array([[1.0], [0.0], [0.0], [1.0]])
    offset, ones = np.where(present > 0, 2.0, -2.0), np.ones_like(present)
    assert residual.share_of(offset, -offset, present, ones) == 0
    assert residual.share_of(offset, offset, present, ones) == 1
    assert residual.share_of(offset, -offset, present, 0 * ones) == 1


def test_logits_of_a_fold_do_not_know_its_answers(tmp_path: Path) -> None:
    """What the network is fitted upon does not change in a fold when all of the fold's answers do."""
    made = table(tmp_path, ON_TOP)
    seen = violations.Seen(made.sparse(rows(48), torch.ones(6)), made.photos(rows(48)))
    folds, weight, present = rows(48) % 4, made.targets.violation_weight, made.targets.violation
    turned = np.where(folds[:, None] == 1, 1 - present, present)
    before, after = (violations.held_out(seen, answers, weight, How(strength=1.0), folds) for answers in (present, turned))
    assert (before[folds == 1] == after[folds == 1]).all() and (before[folds == 0] != after[folds == 0]).any()


def test_held_out_logits_are_brought_to_scale() -> None:
    """Logits four times too small and shifted come back, with their error; heads with nine positives, or upside down, stay."""
    rng = np.random.default_rng(1)
    true = rng.normal(0, 3, (4000, 3))
    present = (rng.random(true.shape) < 1 / (1 + np.exp(-true))).astype(np.float32)
    present[:, 1] = np.arange(4000) < 9
    seen = ((true / 4 - 1) * [1, 1, -1]).astype(np.float32)
    scale, shift, error = scale_of(seen, present, np.ones_like(present))
    assert scale == pytest.approx([4, 1, 1], rel=0.1) and shift == pytest.approx([4, 0, 0], rel=0.1)
    draws = [rng.integers(0, 4000, 4000) for _ in range(40)]
    lines = [scale_of(seen[rows, :1], present[rows, :1], np.ones((4000, 1), np.float32)) for rows in draws]
    place = (np.log(9) - shift[0]) / scale[0]
    assert error == pytest.approx([np.std([a[0] * place + b[0] for a, b, _ in lines]), 0, 0], rel=0.3)


def test_a_scale_that_is_hardly_known_is_not_used() -> None:
    """Ten positives that logits barely tell leave them as they are, those that tell nothing too; no error is past its limit."""
    rng = np.random.default_rng(1)
    present = np.zeros((2000, 3), np.float32)
    present[:12] = 1
    logits = rng.normal(0, 1, present.shape).astype(np.float32) + present * [0.2, 1.5, 0]
    logits[:, 2] = 0.25
    scale, shift, error = scale_of(logits.astype(np.float32), present, np.ones_like(present))
    assert scale[[0, 2]].tolist() == [1, 1] and shift[[0, 2]].tolist() == error[[0, 2]].tolist() == [0, 0]
    assert scale[1] != 1 and 0.5 < error[1] <= MAX_ERROR


def test_one_decision_hardly_moves_the_scale() -> None:
    """Beside thousands of listings that nobody checked, a verified one weighs no more than its weight."""
    rng = np.random.default_rng(1)
    logits = rng.normal(-3, 1.5, (3000, 1)).astype(np.float32)
    present = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    weight = np.where(present > 0, 0.5, 0.2).astype(np.float32)
    before = scale_of(logits, present, weight)
    weight[0] = 3.0
    after = scale_of(logits, present, weight)
    assert np.concatenate(after) == pytest.approx(np.concatenate(before), rel=0.1, abs=0.1)


def test_scaling_keeps_the_order(tmp_path: Path) -> None:
    """The linear head alone can be scaled too, and with more caution is less sure; what ranked first still does."""
    found = []
    plain = replace(SMALL, violation_loss="logistic")
    scaled = replace(plain, violation_scaled=True)
    for config in (plain, scaled, replace(scaled, violation_caution=5.0)):
        made = table(tmp_path, config)
        found.append(loop.predict(loop.fit(made, rows(36), rows(0), config=config).detector, made, rows(48))[1][:, 0])
    assert (np.diff(found[1][np.argsort(found[0])]) > -1e-6).all() and np.abs(found[0] - found[1]).max() > 0.01
    assert (found[2] < found[1]).all() and found[1].max() > 0.5, "little is known, and something all the same"


@pytest.mark.parametrize("config", [ALONE, ON_TOP], ids=["alone", "on top"])
def test_it_is_served_and_cooled_as_it_was_fitted(tmp_path: Path, config: TrainConfig) -> None:
    """Temperatures divide its logits too, and the exported file answers as torch does."""
    made, files = table(tmp_path, config), FileStore(tmp_path / "files")
    detector = loop.fit(made, rows(36), rows(0), config=config).detector
    before = detector(made.batch(rows(8)))[1]
    detector.cool(torch.tensor([2.0, 4.0]))
    assert torch.allclose(detector(made.batch(rows(8)))[1] * torch.tensor([2.0, 4.0]), before, atol=1e-4)
    artifact = onnx.export(
        detector,
        files,
        shape=SHAPE,
        classes=made.targets.classes,
        violations=POLICY,
        report={},
        tokenizer=tokenizer_of(listings(48), range(48), config),
    )
    scorer = Scorer.load(files, artifact.onnx_sha256, artifact.sidecar_sha256)
    assert onnx.difference(scorer, detector, made.features, rows(48)) < onnx.TOLERANCE


def test_the_same_seed_gives_the_same_violations(tmp_path: Path) -> None:
    """Fit and cooling repeat themselves to the bit."""
    found = []
    for _ in range(2):
        made = table(tmp_path, ON_TOP)
        detector = loop.fit(made, rows(36), np.arange(36, 48), config=ON_TOP).detector
        certify.cool(detector, made, np.arange(36, 48))
        found.append(loop.predict(detector, made, rows(48))[1])
    assert (found[0] == found[1]).all()


def test_a_rate_that_is_far_too_high_names_the_listings(tmp_path: Path) -> None:
    """A loss that is not finite ends the fit with the listings of its batch."""
    config = replace(ALONE, token_rate=1e30)
    with pytest.raises(NotFiniteError, match=r"violations' loss became .* listings, \['r"):
        loop.fit(table(tmp_path, config), rows(36), rows(0), config=config)


@pytest.mark.parametrize(
    ("name", "value"), [("violation_architecture", "lstm"), ("violation_epochs", 0), ("violation_linear", 1)]
)
def test_what_makes_no_network_is_refused(name: str, value: object) -> None:
    """The message names the option and its value."""
    with pytest.raises(ConfigError, match=f"{name}="):
        replace(SMALL, **{name: value})  # type: ignore[arg-type]
