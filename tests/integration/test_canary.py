"""A released model is taken up where it answers, and not where it does not: the one before goes on."""

import json
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from onnx import load_from_string, numpy_helper

from curation.catalog.scorer import Scorer
from curation.catalog.sidecar import ONNX_SUFFIX, SIDECAR_SUFFIX
from curation.errors import IntegrityError, ProbabilityError
from curation.release import promotion, registry
from curation.store.workspace import Workspace
from tests import api_world, commands
from tests.conftest import NOW
from tests.unit.test_scorer import poisoned
from webhooks import model as serving
from webhooks import service
from webhooks.model import Model

NAN, NONSENSE = float("nan"), 1e4


def add(workspace: Workspace, change: Callable[[bytes], bytes] = lambda graph: graph, *, bias: float = 1.0) -> str:
    """Register a model whose file was changed, sidecar and names made to fit; its name."""
    files, (graph, sidecar) = workspace.files, api_world.artifact(bias)
    onnx = files.put(change(graph), ONNX_SUFFIX)
    told = files.put(json.dumps({**json.loads(sidecar), "onnx_sha256": onnx}).encode(), SIDECAR_SUFFIX)
    with workspace.db.write() as session:
        shas = {"onnx_sha256": onnx, "sidecar_sha256": told, "weights_sha256": "0" * 64}
        return registry.add_model(session, run_id=None, report={}, now=NOW, **shas).name


def force(workspace: Workspace, name: str) -> None:
    """Live whatever it answers, as by a process that cannot load models."""
    with workspace.db.write() as session:
        registry.promote(session, name, by="test", reason="test", now=NOW, files=workspace.files)


@pytest.mark.parametrize("value", [NAN, NONSENSE])
def test_a_model_that_fails_its_canary_cannot_be_promoted(workspace: Workspace, value: float) -> None:
    """Neither by a person nor by the command line, and neither by a rollback: the log stays as it is (faults 55, 56)."""
    first = api_world.promote(workspace)
    sick = add(workspace, lambda graph: poisoned(graph, value))
    with pytest.raises(IntegrityError, match=f"{sick} cannot go live: model file .* answers"):
        promotion.promote(workspace, sick, seen=first, by="ada", reason="new")
    found = commands.run(workspace, "promote", sick, "--reason", "new")
    assert found.exit_code == 1 and "cannot go live" in found.stderr
    force(workspace, sick)
    force(workspace, first)
    with pytest.raises(IntegrityError, match="cannot go live"):
        promotion.rollback(workspace, seen=first, by="ada", reason="back")
    with workspace.db.read() as session:
        assert registry.live_name(session) == first and len(registry.releases(session)) == 3


@pytest.mark.parametrize("value", [NAN, NONSENSE])
def test_the_model_before_goes_on_where_the_new_one_answers_nonsense(
    workspace: Workspace, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that is told of such a release keeps what it holds, says so, and takes the next good one (fault 56)."""
    first = api_world.promote(workspace)
    held = Model(workspace, check_s=0.0)
    before = held.current()
    assert before is not None and before.name == first
    sick = add(workspace, lambda graph: poisoned(graph, value))
    force(workspace, sick)
    assert held.current() is before and held.current() is before
    assert held.refused is not None and held.refused.name == sick
    assert capsys.readouterr().err.count("live model not loaded") == 1
    third = api_world.promote(workspace, 1.0)
    after = held.current()
    assert after is not None and after.name == third and held.refused is None


def test_the_model_before_goes_on_where_the_new_one_cannot_be_run(workspace: Workspace) -> None:
    """A file that loads, and whose every run the runtime ends, is refused as one that answers nonsense is (fault 56)."""
    first = api_world.promote(workspace)
    held = Model(workspace, check_s=0.0)
    assert held.live() is not None
    force(workspace, add(workspace, cut))
    assert (found := held.current()) is not None and found.name == first
    assert held.refused is not None and "stops at made-up listings" in held.refused.words


def cut(graph: bytes) -> bytes:
    """The same graph with one row of its n-gram table: what it looks up is not there."""
    model = load_from_string(graph)
    table = next(one for one in model.graph.initializer if one.name == "detector.text.table")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:1].copy(), table.name))
    return bytes(model.SerializeToString())


def test_a_process_that_starts_answers_by_the_newest_good_release(workspace: Workspace) -> None:
    """Behind two that cannot be used; and says that it does not answer by the newest (fault 56)."""
    first = api_world.promote(workspace)
    for value in (NAN, NONSENSE):
        force(workspace, add(workspace, lambda graph, value=value: poisoned(graph, value)))  # type: ignore[misc]
    held = Model(workspace)
    found = held.current()
    assert found is not None and found.name == first and held.refused is not None


def test_a_slow_model_is_not_taken_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where made-up listings take longer than the limit (fault 56)."""
    first = api_world.promote(workspace)
    held = Model(workspace, check_s=0.0, retry_s=0.0)
    assert held.live() is not None
    second = api_world.promote(workspace, 1.0)
    monkeypatch.setattr(serving, "CANARY_S", 0.0)
    assert (found := held.current()) is not None and found.name == first
    assert held.refused is not None and "took" in held.refused.words
    monkeypatch.undo()
    assert (found := held.current()) is not None and found.name == second


def test_too_many_failed_answers_bring_the_model_before_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the switch: the third failed answer of few takes it back, for as long as no other release is made (fault 56)."""
    first = api_world.promote(workspace)
    held = Model(workspace, check_s=0.0, retry_s=0.0)
    assert held.live() is not None
    api_world.promote(workspace, 1.0)
    second = held.live()
    assert second is not None
    empty = second.featurizer.transform([], workspace.media)
    second.predict(empty)
    monkeypatch.setattr(Scorer, "predict", _failing)
    for _ in range(3):
        assert (found := held.current()) is not None and found.scorer is second
        with pytest.raises(ProbabilityError):
            second.predict(empty)
    monkeypatch.undo()
    assert (found := held.current()) is not None and found.name == first
    assert "live model taken back" in capsys.readouterr().err
    third = api_world.promote(workspace, 2.0)
    assert (found := held.current()) is not None and found.name == third and held.refused is None


def test_a_model_that_was_taken_back_is_not_fallen_back_to(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rollback the model before is one that somebody had a reason to take back (fault 57)."""
    first = api_world.promote(workspace)
    held = Model(workspace, check_s=0.0)
    assert held.live() is not None
    second = api_world.promote(workspace, 1.0)
    assert (found := held.current()) is not None and found.name == second
    with workspace.db.write() as session:
        registry.rollback(session, by="ada", reason="wrong answers", now=NOW, files=workspace.files)
    found = held.current()
    assert found is not None and found.name == first
    scorer, empty = found.scorer, found.scorer.featurizer.transform([], workspace.media)
    monkeypatch.setattr(Scorer, "predict", _failing)
    for _ in range(5):
        with pytest.raises(ProbabilityError):
            scorer.predict(empty)
    found = held.current()
    assert found is not None and found.name == first and held.refused is None


def _failing(*_: object) -> None:
    raise ProbabilityError("the model gave NaN")


def test_a_refused_model_is_seen(client: FlaskClient, workspace: Workspace) -> None:
    """`/readyz` stays ready and says so, so do `/metrics` and `refurbish doctor` (fault 56)."""
    api_world.promote(workspace)
    force(workspace, add(workspace, lambda graph: poisoned(graph, NAN)))
    service.of(client.application).model.current()
    ready = client.get("/readyz")
    assert ready.status_code == 200 and ready.json is not None and ready.json["checks"]["model"] == "warning"
    assert "refurbish_model_refused 1.0" in client.get("/metrics").text.splitlines()
    found = commands.run(workspace, "doctor")
    assert found.exit_code == 1 and "det-0002 cannot go live" in found.stdout


@pytest.fixture
def client(app: object) -> FlaskClient:
    """Nobody's."""
    found: FlaskClient = app.test_client()  # type: ignore[attr-defined]
    return found
