"""The exported model: it answers as torch does, and refuses what does not belong together."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import load_from_string, numpy_helper

from curation.catalog.features import Features, Featurizer
from curation.catalog.scorer import Scorer
from curation.catalog.sidecar import ONNX_SUFFIX, SIDECAR_SUFFIX
from curation.errors import IntegrityError, NotFoundError, ProbabilityError
from curation.store.files import FileStore
from curation.types import Listing, Photo
from tests.builders import encoded, picture
from tests.unit.test_trainer import CONFIG, SHAPE, WORDS, listing
from trainer import onnx
from trainer.model import Detector

CLASSES = tuple(sorted(WORDS))
POLICY = ("counterfeit", "unsafe")


def detector(classes: tuple[str, ...] = CLASSES) -> Detector:
    """A detector with random weights everywhere."""
    torch.manual_seed(3)
    made = Detector(CONFIG, SHAPE, classes, len(POLICY))
    for value in (*made.parameters(), *made.buffers()):
        if value.is_floating_point():
            torch.nn.init.normal_(value, 0, 0.3) if value.ndim else None
    made.stem.std.data.abs_().add_(1)
    made.numeric_std.data.abs_().add_(1)
    made.text.idf.abs_()
    made.text.idf[0] = 0
    made.log_temperature.fill_(0.3)
    return made.eval()


def listings(media: FileStore) -> list[Listing]:
    """Listings with no, one and two photos, and one that has nothing at all."""
    photos = [Photo(media.put(encoded(picture(seed)), ".jpg"), 96, 64, "0" * 16) for seed in range(3)]
    found = [replace(listing(at, CLASSES[at % 3]), photos=tuple(photos[: at % 3])) for at in range(7)]
    return [*found, replace(found[0], ref="bare", title="", description="", price=None, photos=())]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[FileStore, onnx.Artifact, Features, list[Listing]]:
    """One exported detector with features to try it on; the store is also the photo store."""
    files = FileStore(tmp_path_factory.mktemp("files"))
    found = listings(files)
    features = Featurizer(SHAPE).transform(found, files)
    made = onnx.export(detector(), files, shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    return files, made, features, found


Exported = tuple[FileStore, onnx.Artifact, Features, list[Listing]]


def test_onnx_answers_as_torch(exported: Exported) -> None:
    """Probabilities agree within 1e-4, whatever is missing, and for any batch size."""
    files, made, features, found = exported
    scorer = Scorer.load(files, made.onnx_sha256, made.sidecar_sha256)
    for chosen in (np.arange(8), np.array([7]), np.array([5, 0])):
        assert onnx.difference(scorer, detector(), features, chosen) < 1e-5
    scores = scorer.score(found, files)
    assert np.array_equal(scores.category_probs, scorer.predict(features).category_probs)
    assert np.allclose(scores.category_probs.sum(1), 1, atol=1e-5) and scores.classes == CLASSES


def test_difference_sees_another_model(exported: Exported) -> None:
    """The check behind the gate fails if the artifact is not the model that was fitted."""
    files, made, features, _ = exported
    other = detector()
    with torch.no_grad():
        other.category.leaf.bias.add_(torch.tensor([0.0, 0.1, 0.0]))
    assert (
        onnx.difference(Scorer.load(files, made.onnx_sha256, made.sidecar_sha256), other, features, np.arange(8)) > onnx.TOLERANCE
    )


def test_nothing_to_score(exported: Exported) -> None:
    """No listing gives no rows, with the right columns."""
    files, made, *_ = exported
    scores = Scorer.load(files, made.onnx_sha256, made.sidecar_sha256).score([], files)
    assert scores.category_probs.shape == (0, 3) and scores.violation_probs.shape == (0, 2)


def changed(files: FileStore, made: onnx.Artifact, **values: object) -> str:
    """A sidecar with other values, as stored."""
    sidecar = json.loads(files.get(made.sidecar_sha256, SIDECAR_SUFFIX))
    return files.put(json.dumps({**sidecar, **values}).encode(), SIDECAR_SUFFIX)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"onnx_sha256": "0" * 64}, "belongs to model file"),
        ({"format": "other"}, "is not 'refurbish-detector-1'"),
        ({"classes": ["a", "b"]}, "disagree"),
        ({"violations": []}, "disagree"),
        ({"features": {**SHAPE.to_json(), "n_views": 3}}, "disagree"),
        ({"thresholds": {"unsafe": {"value": "high"}}}, "thresholds that are no numbers"),
        ({"thresholds": {"unsafe": {"value": float("nan")}}}, "thresholds that are no numbers"),
        ({"thresholds": ["unsafe"]}, "thresholds that are no numbers"),
        ({"features": {**SHAPE.to_json(), "version": 0}}, r"bad keys|retrain"),
    ],
)
def test_a_sidecar_of_another_model_is_refused(exported: Exported, values: dict[str, object], words: str) -> None:
    """Classes, policy, featuriser and file must be those the model was exported with (fault 48)."""
    files, made, *_ = exported
    with pytest.raises(IntegrityError, match=words):
        Scorer.load(files, made.onnx_sha256, changed(files, made, **values))


def test_thresholds_flag_and_older_sidecars_flag_nothing(exported: Exported) -> None:
    """A violation without a certified threshold is never flagged, nor is any by a model older than thresholds."""
    files, made, features, _ = exported
    older = Scorer.load(files, made.onnx_sha256, made.sidecar_sha256)
    scores = older.predict(features)
    assert np.isinf(older.thresholds).all() and not older.flagged(scores).any()
    value = float(np.median(scores.violation_probs[:, 1]))
    cuts = {"counterfeit": {"value": None}, "unsafe": {"value": value}, "no longer in the policy": {"value": 0.1}}
    scorer = Scorer.load(files, made.onnx_sha256, changed(files, made, thresholds=cuts))
    flagged = scorer.flagged(scores)
    assert flagged[:, 1].sum() == (scores.violation_probs[:, 1] >= value).sum() >= 4 and not flagged[:, 0].any()


def test_the_exported_model_certifies_itself(tmp_path: Path) -> None:
    """What is found through the file goes into the sidecar."""
    files = FileStore(tmp_path)
    found = Featurizer(SHAPE).transform(listings(files), files)
    asked = {"shape": SHAPE, "classes": CLASSES, "violations": POLICY, "report": {}}
    made = onnx.export(
        detector(), files, **asked, certify=lambda one: {"unsafe": {"value": float(one.predict(found).violation_probs.max())}}
    )
    scorer = Scorer.load(files, made.onnx_sha256, made.sidecar_sha256)
    assert 0 < scorer.thresholds[1] < 1 and np.isinf(scorer.thresholds[0])


def test_bytes_that_are_no_model_are_refused(exported: Exported) -> None:
    """A cut-off file, and a sidecar that is not JSON (fault 48)."""
    files, made, *_ = exported
    broken = files.put(files.get(made.onnx_sha256, ONNX_SUFFIX)[:1000], ONNX_SUFFIX)
    with pytest.raises(IntegrityError, match="cannot be loaded"):
        Scorer.load(files, broken, changed(files, made, onnx_sha256=broken))
    with pytest.raises(IntegrityError, match="not JSON"):
        Scorer.load(files, made.onnx_sha256, files.put(b"{", SIDECAR_SUFFIX))
    with pytest.raises(NotFoundError):
        Scorer.load(files, made.onnx_sha256, "0" * 64)


def poisoned(graph: bytes, value: float) -> bytes:
    """The same graph, with this value in one weight of each of its tables."""
    model = load_from_string(graph)
    for one in model.graph.initializer:
        values = numpy_helper.to_array(one).copy()
        if values.dtype == np.float32 and values.ndim == 2:
            values.flat[-1] = value
            one.CopyFrom(numpy_helper.from_array(values, one.name))
    return bytes(model.SerializeToString())


def test_nan_answers_are_refused(exported: Exported, tmp_path: Path) -> None:
    """NaN among the weights: neither exported nor loaded; where NaN is answered later the listings are named (fault 48)."""
    files, made, _, found = exported
    sick = detector()
    with torch.no_grad():
        sick.violation.bias[0] = float("nan")
    with pytest.raises(ProbabilityError, match="NaN for 4 listings"):
        onnx.export(sick, FileStore(tmp_path), shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    graph = poisoned(files.get(made.onnx_sha256, ONNX_SUFFIX), float("nan"))
    with pytest.raises(ProbabilityError, match="NaN for 8 listings"):
        Scorer.of(graph, json.loads(files.get(made.sidecar_sha256, SIDECAR_SUFFIX))).score(found, files)
    sha256 = files.put(graph, ONNX_SUFFIX)
    with pytest.raises(IntegrityError, match="answers made-up listings with NaN"):
        Scorer.load(files, sha256, changed(files, made, onnx_sha256=sha256))


def test_a_model_that_answers_otherwise_is_refused(exported: Exported) -> None:
    """A file that loads but answers otherwise than where it was made, also without NaN, and unusable answers (faults 48, 56)."""
    files, made, *_ = exported
    sha256 = files.put(poisoned(files.get(made.onnx_sha256, ONNX_SUFFIX), 1e4), ONNX_SUFFIX)
    with pytest.raises(IntegrityError, match=r"answers \d.\d+ instead of \d.\d+ for the category of a made-up listing"):
        Scorer.load(files, sha256, changed(files, made, onnx_sha256=sha256))
    for bad in ({}, {"category": [[[0, 2.0]]] * 4, "violation": []}, {"category": "abcd"}, [1]):
        with pytest.raises(IntegrityError, match="tells unusable answers"):
            Scorer.load(files, made.onnx_sha256, changed(files, made, canary=bad))
    assert Scorer.load(files, made.onnx_sha256, changed(files, made, canary=None)).classes == CLASSES


PICKLE = b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n(S'true'\ntR."


@pytest.mark.parametrize("data", [b"", PICKLE, b"PK\x03\x04" + bytes(200), b"{}", bytes(4000)], ids=repr)
def test_what_is_no_onnx_is_refused(exported: Exported, data: bytes) -> None:
    """Nothing, a pickle, a zip of torch, JSON, zeros: each under its own sha256, and refused with what to do (fault 48)."""
    files, made, *_ = exported
    sha256 = files.put(data, ONNX_SUFFIX)
    with pytest.raises(IntegrityError, match=r"cannot be loaded: .*export it again|disagree"):
        Scorer.load(files, sha256, changed(files, made, onnx_sha256=sha256))


def test_bytes_changed_under_their_name_are_refused(exported: Exported, tmp_path: Path) -> None:
    """What is hashed is what was read: a file that was swapped or cut off since does not load (fault 48)."""
    files, made, *_ = exported
    copy = FileStore(tmp_path)
    for sha256, suffix in ((made.onnx_sha256, ONNX_SUFFIX), (made.sidecar_sha256, SIDECAR_SUFFIX)):
        copy.put(files.get(sha256, suffix), suffix)
    for sha256, suffix in ((made.onnx_sha256, ONNX_SUFFIX), (made.sidecar_sha256, SIDECAR_SUFFIX)):
        path = copy.path(sha256, suffix)
        whole = path.read_bytes()
        for data in (whole[:-1], whole + b" ", whole.replace(b"e", b"f", 1)):
            path.write_bytes(data)
            with pytest.raises(IntegrityError, match=f"not {sha256}; restore it from a backup"):
                Scorer.load(copy, made.onnx_sha256, made.sidecar_sha256)
        path.write_bytes(whole)
    assert Scorer.load(copy, made.onnx_sha256, made.sidecar_sha256).classes == CLASSES


def test_the_same_model_has_the_same_name(tmp_path: Path, exported: Exported) -> None:
    """Exporting twice gives the same bytes, and no file holds the machine's paths."""
    made = onnx.export(detector(), FileStore(tmp_path), shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    assert made == exported[1]
    assert b"/trainer/" not in FileStore(tmp_path).get(made.onnx_sha256, ONNX_SUFFIX)
