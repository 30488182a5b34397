"""The release log: append-only, ordered, and always pointing at a model that can be loaded."""

import json
import threading
from datetime import datetime, timedelta

import pytest
import torch

from curation.errors import InputError, IntegrityError, NotFoundError
from curation.release import registry
from curation.release.gates import Verdict
from curation.store.tables import Release
from curation.store.workspace import Workspace
from trainer.config import TrainConfig
from trainer.runs import Begun, against_the_live_model

NAMED = (("floats", ".onnx"), ("whole numbers", ".onnx"), ("words", ".tokens"))


def add(workspace: Workspace, n: int, now: datetime) -> list[str]:
    """`n` models whose artifacts are in the store; their names."""
    names = []
    with workspace.db.write() as session:
        for i in range(n):
            sha256s = [
                workspace.files.put(json.dumps({"i": i}).encode(), suffix) for suffix in (".onnx", ".json", ".safetensors")
            ]
            keys = ("onnx_sha256", "sidecar_sha256", "weights_sha256")
            made = registry.add_model(session, run_id=None, report={"i": i}, now=now, **dict(zip(keys, sha256s, strict=True)))
            names.append(made.name)
    return names


def promote(workspace: Workspace, name: str, now: datetime) -> None:
    """Promote in a transaction of its own."""
    with workspace.db.write() as session:
        registry.promote(session, name, by="anna", reason="better", now=now, files=workspace.files)


def rollback(workspace: Workspace, now: datetime) -> str:
    """Roll back in a transaction of its own; which model is live then."""
    with workspace.db.write() as session:
        return registry.rollback(session, by="bert", reason="alarms", now=now, files=workspace.files).name


def live(workspace: Workspace) -> str | None:
    """Name of the live model."""
    with workspace.db.read() as session:
        found = registry.live(session)
    return found and found.name


def test_nothing_is_live_before_the_first_promotion(workspace: Workspace, now: datetime) -> None:
    """A registered model waits for its release; there is nothing to roll back to."""
    assert add(workspace, 2, now) == ["det-0001", "det-0002"]
    assert live(workspace) is None
    with pytest.raises(InputError, match="no model was ever live"):
        rollback(workspace, now)
    promote(workspace, "det-0002", now)
    with pytest.raises(InputError, match="only one model was ever live"):
        rollback(workspace, now)
    assert live(workspace) == "det-0002"


def test_rolling_back_twice_goes_back_two(workspace: Workspace, now: datetime) -> None:
    """Down to the first ever, each step one more row, and on again from there (fault 57)."""
    names = add(workspace, 4, now)
    for name in names[:3]:
        promote(workspace, name, now)
    assert [rollback(workspace, now), rollback(workspace, now)] == ["det-0002", "det-0001"]
    with pytest.raises(InputError, match="nothing to roll back to"):
        rollback(workspace, now)
    promote(workspace, names[3], now)
    assert rollback(workspace, now) == "det-0001" == live(workspace)
    with workspace.db.read() as session:
        log = [(row.action, row.model, row.by) for row in registry.releases(session)]
    assert log[:3] == [("rollback", "det-0001", "bert"), ("promote", "det-0004", "anna"), ("rollback", "det-0001", "bert")]
    assert len(log) == 7


def test_promoting_what_is_live_leaves_the_way_back(workspace: Workspace, now: datetime) -> None:
    """Promoting the live model again is logged; a rollback still goes to another model (fault 57)."""
    for name in [*add(workspace, 2, now), "det-0002"]:
        promote(workspace, name, now)
    assert rollback(workspace, now) == "det-0001"


def test_unknown_and_missing_models_never_go_live(workspace: Workspace, now: datetime) -> None:
    """The log only ever names models that can be loaded, also when rolling back (fault 55)."""
    for name in add(workspace, 2, now):
        promote(workspace, name, now)
    with pytest.raises(NotFoundError, match="'det-0009' is not known"):
        promote(workspace, "det-0009", now)
    with workspace.db.read() as session:
        first = registry.by_name(session, "det-0001")
    workspace.files.path(first.onnx_sha256, ".onnx").unlink()
    with pytest.raises(NotFoundError, match=rf"det-0001 cannot go live: {first.onnx_sha256}\.onnx not in"):
        rollback(workspace, now)
    with pytest.raises(NotFoundError, match="cannot go live"):
        promote(workspace, "det-0001", now)
    assert live(workspace) == "det-0002"


def test_a_model_whose_tokenizer_or_small_file_is_gone_never_goes_live(workspace: Workspace, now: datetime) -> None:
    """All that its sidecar names must be there, not only the model in floats (fault 55)."""
    onnx, small, tokens = (workspace.files.put(name.encode(), suffix) for name, suffix in NAMED)
    about = {"tokenizer_sha256": tokens, "int8": {"sha256": small, "approved": True}}
    sidecar = workspace.files.put(json.dumps(about).encode(), ".json")
    with workspace.db.write() as session:
        made = registry.add_model(
            session, run_id=None, onnx_sha256=onnx, sidecar_sha256=sidecar, weights_sha256=onnx, report={}, now=now
        )
    promote(workspace, made.name, now)
    for sha256, suffix in ((small, ".onnx"), (tokens, ".tokens")):
        workspace.files.path(sha256, suffix).unlink()
        with pytest.raises(NotFoundError, match=rf"{sha256}\{suffix}"):
            promote(workspace, made.name, now)


def test_a_release_needs_a_name_and_a_reason(workspace: Workspace, now: datetime) -> None:
    """Nobody releases without saying who and why."""
    add(workspace, 1, now)
    with workspace.db.write() as session, pytest.raises(InputError, match="needs who does it and why"):
        registry.promote(session, "det-0001", by="anna", reason=" ", now=now)
    assert live(workspace) is None


def test_concurrent_promotions_keep_order(workspace: Workspace, now: datetime) -> None:
    """Eight people promote and register at once: every row is there, names are unique, the last row is live (fault 55)."""
    names = add(workspace, 4, now)
    threads = [threading.Thread(target=promote, args=(workspace, names[i % 4], now)) for i in range(6)]
    threads += [threading.Thread(target=add, args=(workspace, 1, now)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with workspace.db.read() as session:
        log = registry.releases(session)
        assert len({model.name for model in registry.models(session)}) == 8
        assert session.query(Release).count() == len(log) == 6
    assert live(workspace) == log[0].model


def test_runs_are_kept_with_their_end(workspace: Workspace, now: datetime) -> None:
    """A run begins, ends once in a known state, and lists newest first."""
    with workspace.db.write() as session:
        begin = {
            "kind": "retrain",
            "snapshot_id": None,
            "trigger": "test",
            "config": {"lr": 0.1},
            "device": "cpu",
            "n_corrections": 3,
        }
        ids = [registry.start_run(session, **begin, now=now + timedelta(hours=i)) for i in range(2)]
        registry.finish_run(session, ids[0], state="refused", report={"gate": {"words": "no"}}, n_seconds=1.5, now=now)
        with pytest.raises(InputError, match="'done' is not an end"):
            registry.finish_run(session, ids[1], state="done", report={}, n_seconds=1, now=now)
        with pytest.raises(NotFoundError, match="run 99 is not known"):
            registry.finish_run(session, 99, state="failed", report={}, n_seconds=1, now=now)
    with workspace.db.read() as session:
        newest, first = registry.runs(session)
        assert registry.run(session, ids[0]) == first
    assert (newest.state, first.state, first.report, first.n_seconds) == ("running", "refused", {"gate": {"words": "no"}}, 1.5)


def test_a_deploy_that_dies_half_way_changes_nothing(workspace: Workspace, now: datetime) -> None:
    """The log's row and what goes with it are one transaction: what was live is live, and can be loaded (fault 55)."""
    first, second = add(workspace, 2, now)
    promote(workspace, first, now)
    with pytest.raises(KeyboardInterrupt), workspace.db.write() as session:
        registry.promote(session, second, by="test", reason="dies", now=now, files=workspace.files)
        raise KeyboardInterrupt
    assert live(workspace) == first
    with workspace.db.read() as session:
        assert len(registry.releases(session)) == 1


def test_a_model_whose_file_was_changed_never_goes_live(workspace: Workspace, now: datetime) -> None:
    """Swapped for another model's or cut off: refused by the bytes, not by the name (faults 48, 55)."""
    first, second = add(workspace, 2, now)
    promote(workspace, first, now)
    with workspace.db.read() as session:
        ours, other = (registry.by_name(session, name).onnx_sha256 for name in (second, first))
    workspace.files.path(ours, ".onnx").write_bytes(workspace.files.get(other, ".onnx"))
    with pytest.raises(IntegrityError, match=f"holds sha256 {other}"):
        promote(workspace, second, now)
    assert live(workspace) == first


@pytest.mark.parametrize("change", ["rollback", "promotion"])
def test_what_is_rolled_back_during_a_run_is_not_replaced_by_it(workspace: Workspace, now: datetime, change: str) -> None:
    """The run was compared with a model that is live no more: refused, with both names (faults 54, 57)."""
    first, second, third = add(workspace, 3, now)
    for name in (first, second):
        promote(workspace, name, now)
    with workspace.db.read() as session:
        begun = Begun(1, "0" * 64, registry.live(session), TrainConfig(), torch.device("cpu"), 0.0)
    after = rollback(workspace, now) if change == "rollback" else third
    promote(workspace, after, now)
    with workspace.db.write() as session:
        found = against_the_live_model(session, begun, Verdict(True, ()))
    assert not found.passed and f"changed from {second} to {after}" in found.words
