"""A head more on a released detector: everything else keeps its bits."""

from dataclasses import replace

import numpy as np
import torch

from curation.catalog.features import FeatureConfig
from curation.catalog.scorer import Scorer
from curation.catalog.tokens import Tokenizer
from curation.release.registry import Model
from tests.conftest import NOW
from trainer.addition.skeleton import Skeleton, is_kept, widened
from trainer.config import TrainConfig
from trainer.model import Detector
from trainer.sequence import tokens_of
from trainer.violations import Linear

CONFIG = TrainConfig(text_dim=4, photo_filters=2, photo_dim=2, numeric_dim=2)
SHAPE = FeatureConfig(n_buckets=64)
CLASSES = ("a / b", "a / c", "d")


def skeleton(config: TrainConfig = CONFIG) -> Skeleton:
    """A detector of two violations with weights that are not all zero, as if it had been released."""
    torch.manual_seed(1)
    tokenizer = Tokenizer.fit([], tokens_of(config)) if config.violation_architecture else None
    detector = Detector(config, SHAPE, CLASSES, 2, tokenizer.n_ids if tokenizer else 0)
    for name in ("direct", "idf"):
        getattr(detector.text, name).normal_()
    sidecar = {"classes": CLASSES, "violations": ("x", "y"), "features": SHAPE.to_json(), "train": config.to_json()}
    model = Model(1, "det-0001", None, "", "", "", {}, NOW)
    return Skeleton(model, Scorer(None, sidecar, tokenizer), detector.eval())


def head(base: Skeleton) -> Linear:
    rng = np.random.default_rng(1)
    shapes = ((64, 1), (base.detector.violation.in_features, 1), (1,))
    return Linear(*(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def test_all_other_weights_are_bit_equal() -> None:
    """One column more, and a change of the last bit anywhere else is noticed."""
    base = skeleton()
    made = widened(base, head(base))
    assert made.violation.weight.shape[0] == 3 and is_kept(base.detector, made)
    with torch.no_grad():
        made.text.direct[5, 1] = torch.nextafter(made.text.direct[5, 1], torch.tensor(torch.inf))
    assert not is_kept(base.detector, made)


def test_a_network_of_the_violations_adds_nothing_to_a_further_head() -> None:
    """And what it adds to the others stays."""
    base = skeleton(replace(CONFIG, violation_architecture="textcnn", tokens="hashed", token_dim=4, token_filters=2))
    network = base.detector.residual
    assert network is not None
    torch.nn.init.normal_(network.head.weight)
    made = widened(base, head(base))
    assert is_kept(base.detector, made) and made.residual is not None and not made.residual.head.weight[2].any()


def test_a_changed_trunk_is_noticed() -> None:
    """The category's own weights count too."""
    base = skeleton()
    made = widened(base, head(base))
    with torch.no_grad():
        made.category.leaf.bias[0] += 1e-6
    assert not is_kept(base.detector, made)


def test_a_temperature_divides_logits() -> None:
    """Built into the weights: at 2 every logit is half as large."""
    found = head(skeleton())
    half = found.scaled(np.array([0.5], np.float32))
    for whole, part in zip((found.text, found.photos, found.bias), (half.text, half.photos, half.bias), strict=True):
        np.testing.assert_allclose(part, whole / 2)
