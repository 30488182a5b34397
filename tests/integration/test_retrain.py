"""A training run end to end on a small catalog: suspects, model, gate, release, and what stops it."""

import threading
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import func, select, update

from curation.catalog import erasure
from curation.catalog.scorer import FP32, Scorer
from curation.catalog.sidecar import INT8, TOKENIZER
from curation.errors import ConfigError, InputError, StaleLease
from curation.release import registry, snapshot
from curation.release.splits import split_of
from curation.review import probabilities, repair, repair_commands
from curation.store import jobs, labels
from curation.store.jobrun import JobRun
from curation.store.labels import Resolved
from curation.store.listings import Record
from curation.store.tables import JobRow, ListingRow, Release, SuspectRow
from curation.store.workspace import Workspace
from curation.types import NO_VIOLATION, LabelSource, Question, Split
from tests import commands, review_world
from tests.builders import add, all_listings, photo, record
from trainer import given, retrain, runs
from trainer.commands import shown as training_shown
from trainer.config import TrainConfig
from trainer.processes import ALONE
from trainer.search.cells import random_genotype

WORDS = {"Home / Garden": "rake spade hedge", "Home / Kitchen": "kettle pan knife", "Toys / Dolls": "doll dress pram"}
TINY = TrainConfig(n_folds=2, epochs=3, batch=64, text_dim=8, photo_filters=4, photo_dim=4, embedding_rate=0.05)


def catalog(workspace: Workspace, n: int = 120, n_wrong: int = 6) -> None:
    """n listings whose words tell the category; the first few are filed wrongly, some have no photo, price or category."""
    paths = list(WORDS)
    found: list[Record] = []
    for at in range(n):
        true = paths[at % 3]
        given = paths[(at + 1) % 3] if at < n_wrong else true
        changes: dict[str, Any] = {"category": given, "title": f"{WORDS[true]} {at}", "description": f"{WORDS[true]} used"}
        changes |= {"photos": (photo(workspace, at % 4),)} if at % 2 else {"price": None}
        changes |= {"flags": ("counterfeit",)} if at % 10 == 0 else {}
        found.append(record(f"r{at}", **changes | ({"category": None} if at == n - 1 else {})))
    add(workspace, *found)


def verify(workspace: Workspace, *, now: datetime, n: int | None = None) -> int:
    """Moderators decide listings of the test split truly, on both questions; how many."""
    chosen = [listing for listing in all_listings(workspace) if split_of(listing.group_key) is Split.TEST][:n]
    with workspace.db.write() as session:
        for listing in chosen:
            true = list(WORDS)[int(listing.ref[1:]) % 3]
            decided = {Question.CATEGORY: true, Question.VIOLATION: NO_VIOLATION}
            for question, value in decided.items():
                label = Resolved(value, LabelSource.MODERATORS, 1.0, {})
                labels.set_label(session, listing.id, question, label, now=now)
    return len(chosen)


@pytest.mark.slow
def test_first_model_is_released_provisionally(workspace: Workspace, now: datetime) -> None:
    """Without a verified listing the first model goes live, says so, and leaves suspects for every listing."""
    catalog(workspace)
    report = retrain.run(workspace, trigger="test", now=now, config=TINY)
    with workspace.db.read() as session:
        live, noted = registry.live(session), registry.run(session, report["run_id"])
        counts = dict(session.execute(select(SuspectRow.question, func.count()).group_by(SuspectRow.question)).all())
    assert report["state"] == "promoted" and "provisional" in report["gate"]["words"]
    assert live is not None and live.name == report["model"] and noted.report == report
    assert counts == {"category": 120, "violation": 120}
    assert Scorer.load(workspace.files, live.onnx_sha256, live.sidecar_sha256).classes == tuple(sorted(WORDS))


@pytest.mark.slow
def test_a_model_of_cells_is_released(sqlite_workspace: Workspace, now: datetime) -> None:
    """Searched cells go the whole way, and the live model scores listings with the tokenizer that its sidecar names."""
    catalog(sqlite_workspace)
    cells = random_genotype(np.random.default_rng(1), 2).to_json()
    config = replace(TINY, architecture=cells, token_dim=8, token_width=2, token_cells=3, fusion="gated", fusion_dim=16)
    report = retrain.run(sqlite_workspace, trigger="test", now=now, config=config)
    with sqlite_workspace.db.read() as session:
        live = registry.live(session)
    assert live is not None and report["state"] == "promoted"
    scorer = Scorer.load(sqlite_workspace.files, live.onnx_sha256, live.sidecar_sha256)
    scores = scorer.score(all_listings(sqlite_workspace), sqlite_workspace.media)
    assert scorer.sidecar["train"]["architecture"] == cells and scores.category_probs.shape == (120, 3)
    again = retrain.run(sqlite_workspace, trigger="again", now=now, config=TINY)
    assert "error" not in again["champion"] and TOKENIZER in scorer.sidecar


@pytest.mark.slow
def test_whole_numbers_are_served_where_the_gate_approves(sqlite_workspace: Workspace, now: datetime) -> None:
    """The run says what they lose; refused, or not wanted, floats are served; rolling back to another precision works."""
    catalog(sqlite_workspace)
    for at, (changes, expected) in enumerate(
        [({"gate_max_accuracy_loss": 1.0, "gate_max_ap_loss": 1.0}, INT8), ({"precision": FP32}, FP32)]
    ):
        wanted = replace(sqlite_workspace, settings=sqlite_workspace.settings.model_copy(update=changes))
        report = retrain.run(wanted, trigger="test", now=now, config=replace(TINY, seed=at + 1))
        check = next(one for one in report["gate"]["checks"] if one["name"] == "int8")
        assert check["passed"] and check["numbers"]["accuracy"]["n"] > 0 and "error" not in (report["champion"] or {})
        with wanted.db.write() as session:
            live = registry.promote(session, report["model"], by="test", reason="test", now=now, files=wanted.files)
        shas = live.onnx_sha256, live.sidecar_sha256
        assert Scorer.load(wanted.files, *shas, wanted.settings.precision).precision == expected
    with sqlite_workspace.db.write() as session:
        back = registry.rollback(session, by="test", reason="test", now=now, files=sqlite_workspace.files)
    assert Scorer.load(sqlite_workspace.files, back.onnx_sha256, back.sidecar_sha256).precision == INT8


@pytest.mark.slow
def test_suspects_are_the_wrong_labels(sqlite_workspace: Workspace, now: datetime) -> None:
    """Wrongly filed listings lead the ranking, and the stored probabilities say which fold held each row out."""
    catalog(sqlite_workspace)
    retrain.run(sqlite_workspace, trigger="test", now=now, config=replace(TINY, epochs=12))
    with sqlite_workspace.db.read() as session:
        ranking = (
            select(SuspectRow.suggested, SuspectRow.given).where(SuspectRow.question == "category").order_by(SuspectRow.rank)
        )
        top = session.execute(ranking.limit(6)).all()
    assert sum(row.given != row.suggested for row in top) >= 5
    found = probabilities.newest(sqlite_workspace)
    assert found is not None
    oos = found[1]
    assert len(oos.refs) == 120 and set(oos.folds) == {0, 1} and oos.pred_probs.dtype == np.float32


@pytest.mark.slow
def test_repairing_after_a_run_changes_nothing(workspace: Workspace, now: datetime) -> None:
    """`refurbish repair` goes by the opinion of the run, to the last digit."""
    catalog(workspace, n_wrong=40)
    decided = [listing for listing in all_listings(workspace) if int(listing.ref[1:]) < 20]
    review_world.draw(workspace, [listing.ref for listing in decided])
    with workspace.db.write() as session:
        for listing in decided:
            label = Resolved(list(WORDS)[int(listing.ref[1:]) % 3], LabelSource.MODERATORS, 1.0, {})
            labels.set_label(session, listing.id, Question.CATEGORY, label, now=now)
    lenient = replace(workspace, settings=workspace.settings.model_copy(update={"repair_precision": 0.5}))
    made = retrain.run(lenient, trigger="test", now=now, config=replace(TINY, epochs=12))["repair"]
    planned = repair_commands._plan(lenient)
    with workspace.db.write() as session:
        found = repair.apply(session, planned, now=now)
    assert made["n_changed"] > 0 and asdict(found) == {"n_changed": 0, "n_upheld": made["n_changed"], "n_taken_back": 0}
    assert {key: value for key, value in made.items() if key in repair.report(planned)} == repair.report(planned)


@pytest.mark.slow
def test_the_next_run_goes_on_with_what_the_last_one_remembers(sqlite_workspace: Workspace, now: datetime) -> None:
    """By the state named in the last run's report; with carry off it starts afresh."""
    catalog(sqlite_workspace, 60)
    config = replace(TINY, recipe="selfie", selfie_warmup=1, selfie_noise=0.1)
    first, second = (retrain.run(sqlite_workspace, trigger="test", now=now, config=config) for _ in range(2))
    afresh = retrain.run(sqlite_workspace, trigger="test", now=now, config=replace(config, carry=False))
    assert first["carried"] is None
    assert second["carried"]["sha256"] == first["state_sha256"] and second["carried"]["n_listings"] == first["fit"]["n_train"]
    assert afresh["carried"] is None and afresh["state_sha256"] == first["state_sha256"]


def test_champion_and_challenger_meet_on_verified_rows(workspace: Workspace, now: datetime) -> None:
    """Both are judged on the same moderator-verified test listings, through their exported files (fault 54)."""
    catalog(workspace)
    retrain.run(workspace, trigger="first", now=now, config=replace(TINY, epochs=1))
    n_verified = verify(workspace, now=now + timedelta(hours=1))
    report = retrain.run(workspace, trigger="second", now=now + timedelta(hours=2), config=replace(TINY, epochs=12))
    assert report["champion"]["name"] == "det-0001" and report["challenger"]["name"] == "det-0002"
    assert report["challenger"]["accuracy"]["n"] == report["champion"]["accuracy"]["n"] == n_verified > 20
    assert report["challenger"]["reproduces"] and {check["name"] for check in report["gate"]["checks"]} >= {"no leak", "better"}
    with workspace.db.read() as session:
        verified = session.execute(select(SuspectRow).where(SuspectRow.is_issue, SuspectRow.score == 1.0)).all()
    assert not verified


def test_a_violation_is_flagged_as_certified(sqlite_workspace: Workspace, now: datetime) -> None:
    """Where decided listings suffice the threshold is in sidecar, report and the commands' words; else what is missing."""
    add(sqlite_workspace, *map(_maybe_fake, range(240)))
    with sqlite_workspace.db.write() as session:
        for listing in all_listings(sqlite_workspace):
            value = "counterfeit" if "replica" in listing.title else NO_VIOLATION
            labels.set_label(session, listing.id, Question.VIOLATION, Resolved(value, LabelSource.MODERATORS, 1.0, {}), now=now)
    lenient = replace(sqlite_workspace, settings=sqlite_workspace.settings.model_copy(update={"flag_precision": 0.6}))
    report = retrain.run(lenient, trigger="test", now=now, config=TINY)
    found = {name: one["threshold"] for name, one in report["challenger"]["violations"].items()}
    with lenient.db.read() as session:
        live = registry.live(session)
    assert live is not None
    scorer = Scorer.load(lenient.files, live.onnx_sha256, live.sidecar_sha256)
    at = scorer.violations.index("counterfeit")
    assert scorer.thresholds[at] == found["counterfeit"]["value"] and np.isinf(np.delete(scorer.thresholds, at)).all()
    assert found["counterfeit"]["target"] == 0.6 and found["counterfeit"]["precision"]["value"] >= 0.6
    assert report["challenger"]["violations"]["counterfeit"]["certified_recall"]["value"] > 0.5
    shown = commands.run(lenient, "models").stdout
    assert "flagged by det-0001" in shown and "at least 60% right, at a risk of 5%" in shown
    assert "verify listings that were reported" in shown and "flagging counterfeit" in training_shown(report)


def _maybe_fake(at: int) -> Record:
    path = list(WORDS)[at % 3]
    title = f"{WORDS[path]} {at}" + (" replica copy" if at % 4 == 0 else "")
    return record(f"r{at}", category=path, title=title, description=f"{title} used", photos=())


@pytest.mark.slow
def test_a_champion_that_is_gone_does_not_stop_retraining(sqlite_workspace: Workspace, now: datetime) -> None:
    """A live model whose file was lost has nothing to defend; the report says so."""
    catalog(sqlite_workspace)
    retrain.run(sqlite_workspace, trigger="first", now=now, config=TINY)
    with sqlite_workspace.db.read() as session:
        live = registry.live(session)
    assert live is not None
    sqlite_workspace.files.path(live.onnx_sha256, ".onnx").unlink()
    report = retrain.run(sqlite_workspace, trigger="second", now=now, config=replace(TINY, seed=2))
    assert "is not in" in report["champion"]["error"] and report["state"] == "promoted"


def test_an_interrupted_run_does_not_look_alive(
    sqlite_workspace: Workspace, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C during training is noted with the run."""
    catalog(sqlite_workspace, 30)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(retrain, "detect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        retrain.run(sqlite_workspace, trigger="test", now=now, config=TINY)
    with sqlite_workspace.db.read() as session:
        assert [run.state for run in registry.runs(session)] == ["failed"]


def test_rows_a_champion_saw_are_not_judged_on(workspace: Workspace, now: datetime) -> None:
    """The whole present group of a listing that a model was trained on is left out (faults 38, 53)."""
    from trainer.evaluate import untouched

    found = untouched(["a", "b", "c", "d"], ["g1", "g1", "g2", "g3"], {"a"}, {"g3"})
    assert found.tolist() == [False, False, True, False]


def test_nothing_to_train_on(sqlite_workspace: Workspace, now: datetime) -> None:
    """An empty catalog, and one without categories: a clear message, and no run that looks alive."""
    with pytest.raises(InputError, match="no listings"):
        retrain.run(sqlite_workspace, trigger="test", now=now, config=TINY)
    add(sqlite_workspace, record("r1", category=None))
    with pytest.raises(InputError, match="no listing has a category"):
        retrain.run(sqlite_workspace, trigger="test", now=now, config=TINY)
    with sqlite_workspace.db.read() as session:
        assert [run.state for run in registry.runs(session)] == ["failed"]


def test_a_gpu_that_is_not_there(sqlite_workspace: Workspace, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for cuda by name, a machine without it says so instead of training slowly (fault 46)."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cpu"):
        retrain.run(sqlite_workspace, trigger="test", now=now, config=TINY, device="cuda")


def claimed(workspace: Workspace, now: datetime, **payload: Any) -> JobRun:
    """A claimed retrain job."""
    with workspace.db.write() as session:
        jobs.enqueue(session, "retrain", {"trigger": "test", **payload}, key="retrain", now=now)
        job = jobs.claim(session, worker="w", now=now, lease_s=60)
    assert job is not None
    return JobRun(workspace, job)


def released(workspace: Workspace) -> tuple[int, list[str], str]:
    """Releases, states of runs, state of the job."""
    with workspace.db.read() as session:
        n_releases = session.execute(select(func.count(Release.id))).scalar_one()
        return n_releases, [run.state for run in registry.runs(session)], session.execute(select(JobRow.state)).scalars().one()


@pytest.mark.slow
def test_worker_trains_and_finishes_at_once(workspace: Workspace, now: datetime) -> None:
    """The release and the end of the job are one transaction."""
    catalog(workspace)
    with workspace.db.read() as session:
        now = workspace.db.now(session)
    job = claimed(workspace, now, folds=2, epochs=1)
    retrain.handle(job)
    assert job.is_finished and released(workspace) == (1, ["promoted"], "done")


def lose_when_begun(job: JobRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is lost right after the run was noted."""
    begin = retrain._begin

    def begun(*args: Any, **kwargs: Any) -> Any:
        noted = begin(*args, **kwargs)
        job.lost.set()
        return noted

    monkeypatch.setattr(retrain, "_begin", begun)


def test_a_lost_lease_leaves_nothing_behind(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that lost its job begins nothing, or stops before the next stage: no model, no release, the job for another."""
    catalog(workspace, 30)
    with workspace.db.read() as session:
        now = workspace.db.now(session)
    job = claimed(workspace, now, folds=2, epochs=1)
    job.lost.set()
    with pytest.raises(StaleLease):
        retrain.handle(job)
    assert released(workspace) == (0, [], "doing")
    job.lost.clear()
    lose_when_begun(job, monkeypatch)
    with pytest.raises(StaleLease):
        retrain.handle(job)
    assert released(workspace) == (0, ["failed"], "doing")


@pytest.mark.slow
def test_a_lease_lost_during_training_is_fenced(sqlite_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a worker that never notices cannot release: the last transaction is refused as a whole."""
    catalog(sqlite_workspace, 60)
    with sqlite_workspace.db.read() as session:
        now = sqlite_workspace.db.now(session)
    job = claimed(sqlite_workspace, now, folds=2, epochs=1)
    job.lost = threading.Event()
    trained = retrain.detect

    def stolen(*args: Any) -> Any:
        outcome = trained(*args)
        with sqlite_workspace.db.write() as session:
            assert jobs.claim(session, worker="other", now=now + timedelta(hours=2), lease_s=60) is not None
        return outcome

    monkeypatch.setattr(retrain, "detect", stolen)
    with pytest.raises(StaleLease):
        retrain.handle(job)
    assert released(sqlite_workspace) == (0, ["failed"], "doing")


def test_a_killed_run_is_noted_by_the_next_attempt(sqlite_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that died leaves a run that looks alive; the job's next attempt ends it (fault 23)."""
    catalog(sqlite_workspace, 30)
    with sqlite_workspace.db.read() as session:
        now = sqlite_workspace.db.now(session)
    job = claimed(sqlite_workspace, now)
    retrain._begin(sqlite_workspace, "killed", now, TINY, None, job_id=job.job.id)
    lose_when_begun(job, monkeypatch)
    with pytest.raises(StaleLease):
        retrain.handle(job)
    with sqlite_workspace.db.read() as session:
        errors = [run.report["error"] for run in registry.runs(session)]
    assert "worker was lost" in errors[1] and "lease" in errors[0]


def test_checkpoints_are_of_the_listings_as_they_were(workspace: Workspace, now: datetime) -> None:
    """On the same snapshot a fit is gone on from, unless a listing changed since (fault 50)."""
    catalog(workspace, 60)
    found = snapshot.create(workspace, now=now)

    def folder() -> Path:
        return given.read(workspace, found.sha256, TINY, torch.device("cpu"), given.Stages(lambda: False), ALONE).saved.folder

    before = folder()
    assert folder() == before
    with workspace.db.write() as session:
        session.execute(update(ListingRow).where(ListingRow.ref == "r7").values(seller_ref="somebody else"))
    assert folder() != before


def test_a_killed_run_is_buried_though_caches_were_cleared(workspace: Workspace, now: datetime) -> None:
    """As erasing does; a run that somebody works on stays as it is (fault 77)."""
    catalog(workspace, 12)
    begun = [retrain._begin(workspace, "test", now, TINY, "cpu", job_id=None) for _ in range(2)]
    with runs.alive(workspace, begun[0].run_id):
        with pytest.raises(KeyboardInterrupt), runs.alive(workspace, begun[1].run_id):
            raise KeyboardInterrupt
        erasure.clear_cache(workspace)
        runs.bury_killed(workspace)
        with workspace.db.read() as session:
            assert [registry.run(session, one.run_id).state for one in begun] == ["running", "failed"]
