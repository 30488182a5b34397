"""Violations asked with the category: the seller's word, the category head's answer, what is missing, and how it is served."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from curation.catalog.features import Features, Featurizer
from curation.catalog.kinds import Kinds
from curation.catalog.scorer import FP32, Scorer
from curation.catalog.sidecar import INT8, SAID
from curation.errors import ConfigError, IntegrityError
from curation.release.gates import Check
from curation.store.files import FileStore
from curation.types import LabelSource, Listing
from tests.unit.test_scorer import changed
from tests.unit.test_sequence import SMALL
from tests.unit.test_skeleton import CONFIG as BARE
from tests.unit.test_skeleton import head, skeleton
from tests.unit.test_trainer import CONFIG, POLICY, SHAPE, WORDS, listing, rows
from trainer import data, kind, loop, onnx, quantize, violation_fit, violations
from trainer.addition.skeleton import is_kept, widened
from trainer.batch import without
from trainer.config import TEXT_CNN, TrainConfig
from trainer.model import Detector
from trainer.sequence import tokenizer_of
from trainer.violations import How, Seen

CLASSES = tuple(sorted(WORDS))
STRONG = replace(CONFIG, violation_strength=300.0, violation_caution=0.0)  # a few listings must do
SAW = {name: replace(STRONG, violations_see_category=name) for name in ("none", "said", "predicted", "both")}
TOKENS = replace(SMALL, architecture=TEXT_CNN, violations_see_category="both")


def told_by_kind(n: int = 48) -> list[Listing]:
    """Every third is a doll, which is what is wrong with it; half of the texts say nothing, every sixth names no category."""
    found = [listing(at, CLASSES[at % 3]) for at in range(n)]
    found = [one if at % 2 else replace(one, title="thing", description="thing") for at, one in enumerate(found)]
    return [one if at % 12 < 10 else replace(one, category=None) for at, one in enumerate(found)]


def table(tmp_path: Path, config: TrainConfig, found: list[Listing] | None = None) -> data.Table:
    """With their sellers' categories; the dolls are counterfeit."""
    found = found or told_by_kind()
    given = [(one.category, LabelSource.SELLER) if one.category else None for one in found]
    answers = [("counterfeit" if at % 3 == 2 else "none", LabelSource.MODERATORS) for at in range(len(found))]
    wanted = data.targets(given, answers, POLICY, config, data.Origins.of(found, [one.group_key for one in found]))
    tokenizer = tokenizer_of(found, range(len(found)), config) if config.reads_tokens else None
    kinds = Kinds(CLASSES) if config.reads_said else None
    features = Featurizer(SHAPE, tokenizer, kinds).transform(found, FileStore(tmp_path / "media"))
    return data.Table(features, SHAPE, wanted, loop.stem_of(features, rows(len(found)), config), torch.device("cpu"))


def asked(made: data.Table, config: TrainConfig) -> Detector:
    """A detector whose violations are fitted, and nothing else."""
    detector = loop.start(made, rows(48), config)
    violation_fit.finish(detector, made, rows(48), rows(0), config)
    return detector.eval()


def test_a_category_is_a_number_of_the_model() -> None:
    """A class, the root of one that the model has not, or nothing."""
    kinds = Kinds(CLASSES)
    assert [kinds.of(path) for path in (*CLASSES, "Home", "Home / Attic", "Cars / Vans", "", None)] == [1, 2, 3, 4, 4, 0, 0, 0]
    assert len(kinds) == 6 and kinds.root_of == [4, 4, 5]
    assert [Kinds(("Home", "Toys")).of(path) for path in ("Toys", "Toys / Dolls")] == [2, 2 + 2]


def test_the_sellers_word_tells_what_text_does_not(tmp_path: Path) -> None:
    """Where the text says nothing the category does, and heads that never saw it cannot."""
    silent, gaps = np.arange(0, 48, 2), {}
    told = np.array([one.category is not None for one in told_by_kind()])[silent]
    for name in ("none", "said"):
        made = table(tmp_path, SAW[name])
        found = loop.predict(asked(made, SAW[name]), made, silent)[1][told, 0]
        present = made.targets.violation[silent, 0][told] > 0
        gaps[name] = found[present].min() - found[~present].max()
    assert gaps["said"] > 0.2 > gaps["none"] + 0.2


def test_a_seller_who_names_none_does_no_harm(tmp_path: Path) -> None:
    """Withheld from all listings the heads are about as sure of what is right as heads that never saw a category."""
    loss = {}
    for name in ("none", "said"):
        made = table(tmp_path, SAW[name])
        detector, batch = asked(made, SAW[name]), without(made.batch(rows(48)), "category")
        logits = detector(batch)[1][:, 0]
        present = torch.from_numpy(made.targets.violation[:, 0])
        loss[name] = float(torch.nn.functional.binary_cross_entropy_with_logits(logits, present))
    assert loss["said"] < loss["none"] + 0.1


def test_hidden_is_missing(tmp_path: Path) -> None:
    """A batch without the modality is that of listings without a category; heads that do not read it do not care."""
    config, found = SAW["said"], told_by_kind()
    detector = asked(table(tmp_path, config), config)
    bare = table(tmp_path, config, [replace(one, category=None) if at else one for at, one in enumerate(found)])
    bare.weigh(detector.text)
    full = table(tmp_path, config)
    full.weigh(detector.text)
    hidden = detector(without(full.batch(rows(48)), "category"))[1]
    assert torch.equal(hidden[1:], detector(bare.batch(rows(48)))[1][1:]) and not torch.equal(
        hidden, detector(full.batch(rows(48)))[1]
    )
    assert without(table(tmp_path, SAW["none"]).batch(rows(4)), "category").said is None


def test_hiding_counts_each_row_twice() -> None:
    """The fit is that of told and untold rows with the shares as weights, and never of the untold ones alone."""
    rng = np.random.default_rng(1)
    said = kind.told(rng.integers(0, 4, 60), CLASSES)
    seen = Seen(said[:, :3], rng.normal(size=(60, 4)).astype(np.float32), said)
    present, weight = (rng.random((60, 1)) < 0.4).astype(np.float32), np.ones((60, 1), np.float32)
    told, usual = (violations.fit(seen, present, weight, How(strength=1.0, hide_said=share)).said for share in (0.5, 0.0))
    assert told is not None and usual is not None and told[0] != 0 and told[0] != usual[0]
    assert (seen.untold().said.sum(0)[0, 1:] == 0).all() and seen.untold().said[5, 0] == pytest.approx(kind.SCALE)  # type: ignore[union-attr]


def test_the_tables_answer_as_the_fit(tmp_path: Path) -> None:
    """What is folded into the detector gives the logits that were fitted, told by seller and by network."""
    config = replace(SAW["both"], violation_strength=10.0, violation_loss="logistic")
    made = table(tmp_path, config)
    detector = loop.fit(made, rows(36), rows(0), config=config).detector.eval()
    seen = violation_fit.seen(detector, made, rows(48), CLASSES)
    answers = made.targets.violation[:36], made.targets.violation_weight[:36]
    linear = violations.fit(seen.of(rows(36)), *answers, violation_fit.way(config))
    found = detector(made.batch(rows(48)))[1].numpy()
    assert found == pytest.approx(linear.logits(seen), abs=5e-3) and np.abs(linear.predicted).max() > 0.01  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["said", "predicted", "both"])
def test_categories_are_the_same_with_and_without_it(tmp_path: Path, name: str) -> None:
    """The category head sees no seller's word, and learns nothing from violations."""
    answers = []
    for config in (SAW["none"], SAW[name]):
        made = table(tmp_path, config)
        answers.append(loop.predict(loop.fit(made, rows(36), np.arange(36, 48), config=config).detector, made, rows(48))[0])
    assert np.array_equal(*answers)


def exported(tmp_path: Path, config: TrainConfig) -> tuple[FileStore, onnx.Artifact, Detector, Features]:
    """A fitted detector in both precisions."""
    made, files = table(tmp_path, config), FileStore(tmp_path / "files")
    detector = loop.fit(made, rows(48), rows(0), config=config).detector
    detector.cool(torch.tensor([2.0, 4.0]))
    artifact = onnx.export(
        detector,
        files,
        shape=SHAPE,
        classes=CLASSES,
        violations=POLICY,
        report={},
        tokenizer=tokenizer_of(told_by_kind(), range(48), config) if config.reads_tokens else None,
        rounding=onnx.Rounding(quantize.calibration(made.features, rows(8)), lambda *_: Check("int8", True, "", {})),
    )
    return files, artifact, detector, made.features


@pytest.mark.parametrize("config", [SAW["said"], SAW["predicted"], TOKENS], ids=["said", "predicted", "both, with tokens"])
def test_it_is_served_as_it_was_fitted(tmp_path: Path, config: TrainConfig) -> None:
    """By both files, without torch: the listing's category is read, and one that is missing or unknown is none."""
    files, made, detector, features = exported(tmp_path, config)
    full, small = (Scorer.load(files, made.onnx_sha256, made.sidecar_sha256, one) for one in (FP32, INT8))
    assert onnx.difference(full, detector, features, rows(48)) < onnx.TOLERANCE
    gaps = np.abs(full.predict(features).violation_probs - small.predict(features).violation_probs)
    assert gaps.max() < (0.02 if config.reads_predicted else 1e-5)
    one = told_by_kind()[2]
    paths = (one.category, "Home / Garden", None, "Cars / Vans")
    told, other, missing, unknown = small.score([replace(one, category=path) for path in paths], files).violation_probs[:, 0]
    assert missing == unknown and bool(told > missing > other) is config.reads_said
    assert (SAID in full.sidecar) is config.reads_said


def test_file_and_sidecar_must_agree_about_it(tmp_path: Path) -> None:
    """A sidecar that says nothing of the seller's category does not fit a file that asks for it, and the other way round."""
    files, made, *_ = exported(tmp_path, SAW["said"])
    with pytest.raises(IntegrityError, match="disagree"):
        Scorer.load(files, made.onnx_sha256, changed(files, made, **{SAID: False}))


def test_models_of_before_are_skeletons_still() -> None:
    """A sidecar that was written before the option was there is one of a model that reads no category, whatever the default."""
    base = skeleton()
    train = {key: value for key, value in BARE.to_json().items() if key not in ("violations_see_category", "hide_category")}
    old = replace(base, scorer=Scorer(None, {**base.scorer.sidecar, "train": train}))
    assert widened(old, head(base)).kind is None


def test_a_further_head_reads_it_too() -> None:
    """A column more in each table; the others keep their bits, and a change in one is noticed."""
    base = skeleton(replace(BARE, violations_see_category="both"))
    assert base.detector.kind is not None
    for one in base.detector.kind.tables:
        one.normal_()
    n = len(Kinds(base.scorer.classes))
    rng = np.random.default_rng(2)
    kinds = {name: rng.normal(size=(n, 1)).astype(np.float32) for name in ("said", "predicted")}
    more = replace(head(base), **kinds).scaled(np.array([0.5], np.float32))
    made = widened(base, more)
    assert is_kept(base.detector, made) and made.kind is not None
    spread = kind.spread(base.scorer.classes)
    assert made.kind.said[:, 2].numpy() == pytest.approx((spread @ kinds["said"])[:, 0] / 2)  # type: ignore[index]
    made.kind.predicted[0, 1] += 1e-3  # type: ignore[index]
    assert not is_kept(base.detector, made)


@pytest.mark.parametrize(("name", "value"), [("violations_see_category", "leaf"), ("hide_category", 1.0)])
def test_what_cannot_be_seen_is_refused(name: str, value: object) -> None:
    """The message names the option and its value."""
    with pytest.raises(ConfigError, match=f"{name}="):
        replace(CONFIG, **{name: value})  # type: ignore[arg-type]
