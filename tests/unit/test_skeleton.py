"""A head more on a released detector: everything else keeps its bits."""

import numpy as np
import torch

from curation.catalog.features import FeatureConfig
from curation.catalog.scorer import Scorer
from curation.release.registry import Model
from tests.conftest import NOW
from trainer.config import TrainConfig
from trainer.model import Detector
from trainer.skeleton import Skeleton, cooled, is_kept, widened
from trainer.violations import Linear

CONFIG = TrainConfig(text_dim=4, photo_filters=2, photo_dim=2, numeric_dim=2)
SHAPE = FeatureConfig(n_buckets=64)
CLASSES = ("a / b", "a / c", "d")


def skeleton() -> Skeleton:
    """A detector of two violations with weights that are not all zero, as if it had been released."""
    torch.manual_seed(1)
    detector = Detector(CONFIG, SHAPE, CLASSES, 2)
    for name in ("direct", "idf"):
        getattr(detector.text, name).normal_()
    sidecar = {"classes": CLASSES, "violations": ("x", "y"), "features": SHAPE.to_json(), "train": CONFIG.to_json()}
    model = Model(1, "det-0001", None, "", "", "", {}, NOW)
    return Skeleton(model, Scorer(None, sidecar), detector.eval())


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
    half = cooled(found, 2.0)
    for whole, part in zip((found.text, found.dense, found.bias), (half.text, half.dense, half.bias), strict=True):
        np.testing.assert_allclose(part, whole / 2)
