"""Heads over single views, class balance, and what a batch looks like without a modality."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from curation.catalog.features import NUMERIC, Featurizer
from curation.errors import InputError
from curation.store.files import FileStore
from curation.types import LabelSource, Listing, Photo
from tests.builders import encoded, picture
from tests.unit.test_trainer import CONFIG, POLICY, SHAPE, WORDS, listing, rows, table
from trainer import balance, data, loop, onnx, views
from trainer.batch import ATTRIBUTES, MODALITIES, hide, without
from trainer.config import TEXT_CNN, TrainConfig
from trainer.model import Detector
from trainer.sequence import tokenizer_of

AIDED = replace(CONFIG, aux_weight=0.5)
FEW = replace(CONFIG, epochs=2)


def full(tmp_path: Path, config: TrainConfig = CONFIG, **changes: object) -> data.Table:
    """A table of listings that have all there is, or all but what is changed."""
    media = FileStore(tmp_path / "media")
    photo = Photo(media.put(encoded(picture(1)), ".jpg"), 96, 64, "0" * 16)
    made = [
        replace(listing(at, list(WORDS)[at % 3]), photos=(photo,), attributes={"brand": f"acme {at % 3}"}) for at in range(12)
    ]
    found: list[Listing] = [replace(one, **changes) for one in made]  # type: ignore[arg-type]
    features = Featurizer(SHAPE, tokenizer_of(made, range(12), config)).transform(found, media)
    wanted = data.targets([(str(one.category), LabelSource.SELLER) for one in found], [None] * 12, POLICY, config)
    return data.Table(features, SHAPE, wanted, loop.stem_of(features, rows(12), config), torch.device("cpu"))


@pytest.mark.parametrize("recipe", ["refurbish", "cross_entropy", "selfie"])
def test_heads_over_views_learn_beside_the_joint_one(tmp_path: Path, recipe: str) -> None:
    """Titles that tell the category are learnt by their own head, and the report says how well each view does."""
    made = table(tmp_path)
    fitted = loop.fit(made, rows(36), np.arange(36, 48), config=replace(AIDED, recipe=recipe))
    found = views.report(fitted.detector, made, np.arange(36, 48))
    assert set(found) == {"joint", "title", "attributes", "photos"}
    assert found["title"]["accuracy"] > 0.9 and found["title"]["n"] == 12 and found["joint"]["agreement"] == 1
    assert 0 < found["photos"]["n"] < 12


def test_without_heads_nothing_is_reported(tmp_path: Path) -> None:
    """Nor without validation rows."""
    made = table(tmp_path, 12)
    plain, aided = (loop.start(made, rows(12), config) for config in (CONFIG, AIDED))
    assert views.report(plain, made, rows(12)) == {} and views.report(aided, made, rows(0)) == {}


def test_heads_over_views_are_not_served(tmp_path: Path) -> None:
    """The exported model is as large and answers the same as without them."""
    made, sizes = table(tmp_path, 12), []
    for config in (CONFIG, AIDED):
        detector, files = Detector(config, SHAPE, tuple(WORDS), 2, stem=made.stem), FileStore(tmp_path / "files")
        kept = onnx.export(detector, files, shape=SHAPE, classes=tuple(WORDS), violations=POLICY, report={})
        sizes.append(kept.n_bytes)
    assert sizes[0] == sizes[1]


def test_a_bag_apart_adds_up_to_the_whole(tmp_path: Path) -> None:
    """The joint embedding is the same whether or not the parts of the text are looked at apart."""
    made = table(tmp_path, 12)
    detector = loop.start(made, rows(12), AIDED).eval()
    batch = made.batch(rows(12))
    assert torch.allclose(detector.embed(batch), detector.look(batch).joint, atol=1e-5)


def test_small_classes_count_more() -> None:
    """Over the class size all classes weigh the same; the total stays, and no class is raised beyond the limit."""
    classes, weight = np.array([0] * 80 + [1] * 20 + [-1] * 5), np.ones(105)
    by_class = {kind: balance.class_weights(classes, weight, 3, kind) for kind in balance.POWERS}
    assert np.allclose(by_class["none"], 1) and np.allclose(by_class["inverse"][:2] * [80, 20], 50)
    assert np.allclose(by_class["sqrt"][1] / by_class["sqrt"][0], 2)
    steep = balance.class_weights(np.array([0] * 9999 + [1]), np.ones(10_000), 2, "inverse")
    assert steep[1] / steep[0] <= balance.LARGEST * 9999 / 5000 + 1e-9


def test_balance_is_shown_by_root() -> None:
    """What each root counts for before and after adds up to the labelled rows."""
    classes, names = np.array([0] * 60 + [1] * 20 + [2] * 20), ("a / x", "a / y", "b / z")
    found = balance.report(classes, np.ones(100), names, "inverse")
    assert found["roots"]["a"] == {"rows": 80, "before": 80.0, "after": 66.7}
    assert found["even"]["after"] == 3.0 > found["even"]["before"]


def test_balance_reaches_the_loss_and_not_the_next_fit(tmp_path: Path) -> None:
    """Rows of small classes weigh more while a fit asks for it, and as before in a fit that does not."""
    made = table(tmp_path, 24)
    made.targets.category[:12] = 0
    loop.fit(made, rows(24), rows(0), config=replace(FEW, balance="inverse"))
    weight = made.wanted(rows(24)).weight.numpy()
    assert weight[:12].max() < weight[12:].max() and np.isclose(weight.sum(), 24)
    loop.fit(made, rows(24), rows(0), config=FEW)
    assert np.allclose(made.wanted(rows(24)).weight, 1)


MISSING: dict[str, dict[str, object]] = {
    "text": {"title": "", "description": ""},
    "title": {"title": ""},
    "photos": {"photos": ()},
    "price": {"price": None, "currency": None},
    "attributes": {"attributes": {}, "currency": None},
}


@pytest.mark.parametrize("modality", MISSING)
@pytest.mark.parametrize("architecture", ["", TEXT_CNN])
def test_a_hidden_modality_is_a_missing_one(tmp_path: Path, modality: str, architecture: str) -> None:
    """A listing whose modality is hidden is masked as one that never had it."""
    config = replace(CONFIG, architecture=architecture, tokens="hashed", token_dim=8, token_filters=4)
    complete, lacking = full(tmp_path, config), full(tmp_path, config, **MISSING[modality])
    loop.start(complete, rows(12), config)
    hidden, missing = without(complete.batch(rows(12)), modality), lacking.batch(rows(12))
    assert torch.equal(hidden.has_text, missing.has_text) and torch.equal(hidden.mask, missing.mask)
    if modality not in ("attributes", "price"):  # the band of the price is an n-gram of its own
        assert torch.equal(hidden.has_attributes, missing.has_attributes)
    assert torch.allclose(hidden.numeric, missing.numeric)
    if architecture and modality != "attributes":
        assert torch.equal(hidden.token_fields > 0, missing.token_fields > 0)  # type: ignore[operator]


@pytest.mark.parametrize("modality", MISSING)
def test_a_missing_modality_has_a_vector_that_is_learnt(tmp_path: Path, modality: str) -> None:
    """What stands in for text, photos, attributes and price gets a gradient where they are missing, and answers are finite."""
    made = full(tmp_path)
    detector = loop.start(made, rows(12), CONFIG).eval()
    batch = without(made.batch(rows(12)), modality)
    torch.nn.init.normal_(detector.category.leaf.weight)
    detector(batch)[0][:, 0].sum().backward()
    stands_in = {
        "text": detector.text.absent,
        "photos": detector.photo.absent,
        "attributes": detector.text.absent_attributes,
    }.get(modality, detector.numbers[0].bias)
    assert stands_in.grad is not None and stands_in.grad.abs().sum() > 0
    assert np.isfinite(detector(batch)[0].detach().numpy()).all()


def test_the_price_takes_its_band_and_currency_along(tmp_path: Path) -> None:
    """Attributes stay, in rows that are not hidden everything stays."""
    made = full(tmp_path)
    loop.start(made, rows(12), CONFIG)
    batch = made.batch(rows(12))
    shown = hide(batch, "price", torch.arange(12) < 6)
    gone = (shown.weights == 0) & (batch.weights > 0)
    assert gone.sum() == 12 and (batch.blocks[gone] == ATTRIBUTES).all() and (batch.rows[gone] < 6).all()
    assert shown.has_attributes.all() and not shown.numeric[:6, NUMERIC.index("has_price")].any()


def test_what_cannot_be_hidden_is_named(tmp_path: Path) -> None:
    """With what can."""
    with pytest.raises(InputError, match=MODALITIES[-1]):
        without(full(tmp_path).batch(rows(1)), "sound")


def test_all_may_be_hidden_in_training(tmp_path: Path) -> None:
    """Every share of modality dropout at once trains to finite answers."""
    shares = dict.fromkeys(("hide_title", "hide_description", "hide_photos", "hide_attributes", "hide_price"), 0.4)
    made = full(tmp_path)
    fitted = loop.fit(made, rows(12), rows(0), config=replace(FEW, **shares))  # type: ignore[arg-type]
    assert np.isfinite(loop.predict(fitted.detector, made, rows(12))[0]).all()


def test_a_missing_price_is_no_outlier(tmp_path: Path) -> None:
    """Where all training rows have a price, one without is an average price and a flag, not a hundred deviations away."""
    made = full(tmp_path)
    detector = loop.start(made, rows(12), CONFIG)
    scaled = detector.scaled(without(made.batch(rows(12)), "price").numeric)
    assert scaled.abs().max() < 4 and not scaled[:, NUMERIC.index("log_price")].any()
