"""The token branch of the detector: what it is built of, what it is shown, and that it is served as it was trained."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from curation.catalog.features import Featurizer
from curation.catalog.scorer import TOKEN_INPUTS, Scorer
from curation.catalog.sidecar import ONNX_SUFFIX, SIDECAR_SUFFIX, TOKENIZER
from curation.catalog.tokens import Tokenizer
from curation.errors import ConfigError, IntegrityError, NotFoundError
from curation.store.files import FileStore
from curation.types import LabelSource, Listing
from tests.unit.test_scorer import listings as odd_listings
from tests.unit.test_trainer import CONFIG, POLICY, SHAPE, WORDS, listing, rows
from trainer import data, loop, onnx, sequence
from trainer.config import TEXT_CNN, TrainConfig
from trainer.model import Detector
from trainer.search import architecture
from trainer.search.cells import pool_and_skip, random_genotype
from trainer.sequence import DESCRIPTION, TITLE, TokenBranch

CELLS = random_genotype(np.random.default_rng(2), 2).to_json()
SMALL = replace(CONFIG, tokens="hashed", token_dim=8, token_width=2, token_cells=3, token_filters=4, token_rate=0.02)
ARCHITECTURES = {"textcnn": TEXT_CNN, "cells": CELLS, "pool and skip": pool_and_skip().to_json()}
CLASSES = tuple(WORDS)


def config(architecture: str, **changes: object) -> TrainConfig:
    """A small detector with this token branch."""
    return replace(SMALL, architecture=ARCHITECTURES[architecture], **changes)  # type: ignore[arg-type]


def tokenizer(chosen: TrainConfig, found: list[Listing]) -> Tokenizer:
    """Fitted on these listings."""
    made = sequence.tokenizer_of(found, range(len(found)), chosen)
    assert made is not None
    return made


def table(media: FileStore, chosen: TrainConfig, found: list[Listing]) -> data.Table:
    """A table of these listings with their tokens."""
    features = Featurizer(SHAPE, tokenizer(chosen, found)).transform(found, media)
    wanted = data.targets([(one.category or "", LabelSource.SELLER) for one in found], [None] * len(found), POLICY, chosen)
    return data.Table(features, SHAPE, wanted, loop.stem_of(features, rows(len(found)), chosen), torch.device("cpu"))


def listings(n: int) -> list[Listing]:
    """n listings whose words tell their category."""
    return [listing(at, CLASSES[at % 3]) for at in range(n)]


Served = tuple[FileStore, onnx.Artifact, data.Table, Detector, list[Listing]]


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "sentencepiece"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A fitted and exported detector of each kind, with the listings it learnt from and one that has nothing."""
    files = FileStore(tmp_path_factory.mktemp("files"))
    is_pieces = request.param == "sentencepiece"
    chosen = config("cells", tokens="sentencepiece") if is_pieces else config(request.param)
    found = [*listings(40), *odd_listings(files)]
    made = table(files, chosen, found)
    fitted = loop.fit(made, rows(40), np.arange(40, 48), config=chosen)
    artifact = onnx.export(
        fitted.detector,
        files,
        shape=SHAPE,
        classes=made.targets.classes,
        violations=POLICY,
        report={},
        tokenizer=tokenizer(chosen, found),
    )
    return files, artifact, made, fitted.detector, found


def test_onnx_reads_texts_as_torch(served: Served) -> None:
    """Probabilities agree within 1e-5 for any batch, with features at hand and from listings through the file store."""
    files, artifact, made, detector, found = served
    scorer = Scorer.load(files, artifact.onnx_sha256, artifact.sidecar_sha256)
    for chosen in (np.arange(48), np.array([47]), np.array([5, 0, 41])):
        assert onnx.difference(scorer, detector, made.features, chosen) < 1e-5
    expected, _ = loop.predict(detector, made, np.arange(48))
    assert np.abs(scorer.score(found, files).category_probs - expected).max() < 1e-5


def test_padding_to_any_length_has_no_effect(served: Served) -> None:
    """Positions that hold nothing, behind the last one, change no probability of the exported model."""
    files, artifact, made, *_ = served
    session = Scorer.load(files, artifact.onnx_sha256, artifact.sidecar_sha256)._session
    inputs = made.features.inputs(np.arange(36, 48))
    expected = session.run(["category"], inputs)[0]
    for n in (1, 7, 64):
        longer = {name: np.pad(inputs[name], [(0, 0), (0, n), (0, 0)][: inputs[name].ndim]) for name in TOKEN_INPUTS}
        assert np.abs(session.run(["category"], {**inputs, **longer})[0] - expected).max() < 1e-6


def test_the_branch_sees_the_order_of_words(served: Served) -> None:
    """Two tokens that change places change the branch's vector; the bag cannot see that."""
    _, _, made, detector, _ = served
    batch = made.batch(rows(8))
    assert batch.tokens is not None
    turned = batch.tokens.clone()
    turned[:, [0, 1]] = turned[:, [1, 0]]
    with torch.no_grad():
        first, second = (detector.eval().read(tokens, batch.token_fields) for tokens in (batch.tokens, turned))
    assert first is not None and second is not None and (first - second).abs().max() > 1e-6


def test_weights_are_read_again_on_a_processor(served: Served) -> None:
    """A new detector with the stored weights, running statistics among them, answers the same."""
    files, artifact, made, detector, _ = served
    fresh = Detector(detector.config, SHAPE, made.targets.classes, len(POLICY), made.n_ids)
    fresh.load_state_dict(load(files.get(artifact.weights_sha256, onnx.WEIGHTS_SUFFIX)))
    expected, found = (loop.predict(one, made, rows(48))[0] for one in (detector, fresh))
    assert np.array_equal(expected, found) and all(value.device.type == "cpu" for value in fresh.state_dict().values())


def test_tokenizer_and_inputs_belong_to_the_branch(served: Served) -> None:
    """A sidecar that does not name the tokenizer, or names one that is gone, is refused."""
    files, artifact, *_ = served
    sidecar = json.loads(files.get(artifact.sidecar_sha256, SIDECAR_SUFFIX))
    gone = files.put(json.dumps({**sidecar, TOKENIZER: "0" * 64}).encode(), SIDECAR_SUFFIX)
    with pytest.raises(NotFoundError):
        Scorer.load(files, artifact.onnx_sha256, gone)
    del sidecar[TOKENIZER]
    with pytest.raises(IntegrityError, match="disagree"):
        Scorer.load(files, artifact.onnx_sha256, files.put(json.dumps(sidecar).encode(), SIDECAR_SUFFIX))


def test_the_bag_alone_is_served_as_ever(tmp_path: Path) -> None:
    """Neither weights nor inputs nor sidecar of a detector without the branch know of tokens."""
    files = FileStore(tmp_path)
    made = Detector(CONFIG, SHAPE, CLASSES, len(POLICY))
    artifact = onnx.export(made, files, shape=SHAPE, classes=CLASSES, violations=POLICY, report={})
    assert not [name for name in made.state_dict() if name.startswith(("sequence", "fusion"))]
    assert TOKENIZER not in json.loads(files.get(artifact.sidecar_sha256, SIDECAR_SUFFIX))
    assert b"token_fields" not in files.get(artifact.onnx_sha256, ONNX_SUFFIX)


def test_order_that_matters_is_learnt(tmp_path: Path) -> None:
    """Where only the order of words tells the category the branch learns to tell them apart."""
    found = [
        replace(listing(at, CLASSES[at % 2]), title=("dog bites man", "man bites dog")[at % 2], description="", price=None)
        for at in range(60)
    ]
    made = table(FileStore(tmp_path), config("textcnn"), found)
    fitted = loop.fit(made, rows(40), np.arange(40, 60), config=config("textcnn", epochs=12, hide_title=0.0))
    with torch.no_grad():
        read = fitted.detector.eval().read(made.batch(rows(2)).tokens, made.batch(rows(2)).token_fields)
    assert read is not None and (read[0] - read[1]).abs().max() > 0.1


@pytest.mark.parametrize(("hidden", "field"), [("hide_title", TITLE), ("hide_description", DESCRIPTION)])
def test_a_hidden_field_hides_its_tokens(tmp_path: Path, hidden: str, field: int) -> None:
    """In training only: what the bag does not see the token branch does not see either."""
    chosen = config("textcnn", **{"hide_title": 0.0, "hide_description": 0.0, hidden: 0.999999})
    made = table(FileStore(tmp_path), chosen, listings(12))
    detector, batch = loop.start(made, rows(12), chosen), made.batch(rows(12))
    shown = detector.train().shown(batch)
    assert shown.tokens is not None and shown.token_fields is not None and batch.token_fields is not None
    assert set(shown.token_fields.unique().tolist()) == set(batch.token_fields.unique().tolist()) - {field}
    assert torch.equal(shown.tokens.any(2), shown.token_fields > 0)
    assert detector.eval().shown(batch) is batch


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_missing_text_is_the_absent_vector(architecture: str) -> None:
    """With a price alone or with nothing the learnt vector stands in, in any company."""
    branch = TokenBranch(config(architecture), 50).eval()
    torch.nn.init.normal_(branch.absent)
    fields = torch.tensor([[1, 1, 2, 0], [0, 0, 0, 4], [0, 0, 0, 0], [0, 0, 3, 0]])
    found = branch(fields[:, :, None] * torch.tensor([1, 7]), fields.to(torch.uint8))
    assert torch.equal(found[1], branch.absent) and torch.equal(found[2], branch.absent)
    assert not torch.equal(found[0], branch.absent) and not torch.equal(found[3], branch.absent)


def test_only_training_texts_make_the_vocabulary() -> None:
    """What is said in other rows alone leaves no piece."""
    found = [replace(one, description=f"zyzzyva {one.id}") if one.id >= 30 else one for one in listings(60)]
    chosen = config("cells", tokens="sentencepiece")
    made = [sequence.tokenizer_of(found, range(n), chosen) for n in (30, 60)]
    assert made[0] and made[1] and b"zyzzyva" not in made[0].model and b"zyzzyva" in made[1].model
    assert sequence.tokenizer_of(found, range(30), CONFIG) is None


def test_sequences_are_those_of_the_search() -> None:
    """Cells are trained on texts cut as they were when these cells were found."""
    chosen = config("cells")
    shape = sequence.tokens_of(chosen)
    assert architecture.Plan(mode=chosen.tokens).tokens == shape and shape.width == 64


def changed(**values: object) -> str:
    """The cells with other values."""
    return json.dumps({**json.loads(CELLS), **values})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"architecture": "lstm"}, "architecture='lstm'.*textcnn.*@FILE"),
        ({"architecture": changed(version=0)}, "version 0 is older"),
        ({"architecture": changed(normal=[{"from": 3, "to": 2, "op": "conv3"}])}, "cycle"),
        ({"architecture": changed(read_out="sum")}, "read-out 'sum'"),
        ({"architecture": "{"}, "cannot be read"),
        ({"architecture": CELLS, "token_width": 3}, "width=3"),
        ({"architecture": CELLS, "token_cells": 2}, "n_cells=2"),
        ({"fusion": "sum"}, "fusion='sum'.*concat, gated, max"),
        ({"tokens": "bytes"}, "tokens='bytes'"),
        ({"token_dropout": 1.0}, "token_dropout=1.0"),
        ({"token_rate": 0.0}, "token_rate=0.0"),
        ({"fusion_dim": 0}, "fusion_dim=0"),
    ],
)
def test_an_unusable_architecture_is_refused(values: dict[str, object], words: str) -> None:
    """Before anything runs, with what is wrong; cells as strictly as where they are drawn."""
    with pytest.raises(ConfigError, match=words):
        TrainConfig.from_json(values)


def test_a_branch_without_tokens_is_refused() -> None:
    """A table that was made without a tokenizer cannot feed it."""
    with pytest.raises(ConfigError, match="there are 0 ids"):
        Detector(config("cells"), SHAPE, CLASSES, len(POLICY))
