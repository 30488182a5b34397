"""One more violation on the live detector: data set → features → fit → certify → evaluate → gate → release.

Nothing but the new head is fitted. The run holds no transaction; what it found is stored in a short one at the end.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy.orm import Session

from curation.catalog import reports, sidecar
from curation.catalog.photos import PhotoCache
from curation.errors import InputError
from curation.release import policy, registry, snapshot
from curation.release.labels import pages
from curation.release.registry import Model
from curation.release.snapshot import Snapshot
from curation.review import candidates
from curation.store import violations
from curation.store.files import FileStore
from curation.store.workspace import Workspace
from trainer import data, retrain, runs
from trainer.addition import skeleton
from trainer.addition.judgement import Case, Judged, judge
from trainer.addition.known import Known, known
from trainer.addition.skeleton import Frozen
from trainer.asked import decided_since
from trainer.detect import device_words
from trainer.evaluate import plain
from trainer.given import Stages
from trainer.judgement import SKELETON_RUN
from trainer.rows import SnapshotRows, load
from trainer.runs import Begun

KIND = "category"
BY = "category add"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    name: str
    title: str
    reports: Mapping[str, str] = field(default_factory=dict)  #: ref → reason, of listings that users reported
    min_positive: int = 30  #: positive listings below which nothing is fitted; near-duplicates count once
    n_asked: int = 0  #: likely listings to ask moderators about
    dry_run: bool = False  #: fit and judge, and change nothing


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run works on."""

    live: Model
    snapshot: Snapshot | None  #: None in a dry run
    rows: SnapshotRows
    known: Known


def run(workspace: Workspace, plan: Plan, *, now: datetime) -> dict[str, Any]:
    """Add the violation to the policy, fit its head, judge it, and release if the gate passes; the report.

    With too few positives nothing is fitted: state ``waiting``, and in words what is missing. The policy knows the violation
    from then on, so that moderators can be asked. Raises InputError on a name that cannot be added, on reports of unknown
    listings, and without a live model; nothing was changed then.
    """
    stages, started_s = Stages(lambda: False), time.monotonic()
    with stages.stage("data"):
        made = _prepare(workspace, plan, now)
    about = {"violation": plan.name, "dry_run": plan.dry_run, "data": made.known.counts(), "live": made.live.name}
    missing = made.known.missing(plan.min_positive)
    if missing and not plan.n_asked:
        return _report(about, {"state": "waiting", "words": missing}, stages, started_s)
    with stages.stage("features"):
        case = _see(workspace, plan, made)
    if missing:
        asked = _ask(workspace, plan, made, case, now)
        return _report(about, {"state": "waiting", "words": missing, "asked": asked}, stages, started_s)
    found = _released(workspace, plan, made, case, stages, now, started_s)
    asked = _ask(workspace, plan, made, case, now) if plan.n_asked else None
    return _report(about, {**found, "asked": asked}, stages, started_s)


def _report(about: Mapping[str, Any], found: Mapping[str, Any], stages: Stages, started_s: float) -> dict[str, Any]:
    seconds = {**stages.seconds, "total": round(time.monotonic() - started_s, 2)}
    report: dict[str, Any] = plain({**about, **found, "seconds": seconds})
    return report


def _prepare(workspace: Workspace, plan: Plan, now: datetime) -> Prepared:
    with workspace.db.read() as session:
        live = _live(session, workspace, plan)
        reports.require_known(session, plan.reports)
    if not plan.dry_run:
        with workspace.db.write() as session:
            violations.add(session, workspace.settings, plan.name, plan.title, now=now)
            reports.note(session, plan.name, plan.reports, now=now)
    frozen = None if plan.dry_run else snapshot.create(workspace, now=now)
    rows = load(workspace, _frame(workspace) if frozen is None else snapshot.load(workspace, frozen.sha256))
    with workspace.db.read() as session:
        added = violations.find(session, plan.name)
        decided = set() if added is None else decided_since(session, added.at)
    config = retrain.train_config(workspace.settings)
    about = known(rows, plan.name, config, decided=decided, reported=plan.reports)
    return Prepared(live, frozen, rows, about)


def _live(session: Session, workspace: Workspace, plan: Plan) -> Model:
    """The model to add a head to, where the name is free."""
    violations.check(workspace.settings, plan.name, plan.title)
    live = registry.live(session)
    if live is None:
        raise InputError("there is no live model to add a violation to; run `refurbish retrain` first")
    if plan.name in sidecar.load(workspace.files, live.onnx_sha256, live.sidecar_sha256)["violations"]:
        raise InputError(f"{live.name} has violation {plan.name!r} already; `refurbish retrain` brings it up to date")
    return live


def _frame(workspace: Workspace) -> Any:
    """The labels as they are, as a snapshot has them, without keeping one."""
    import pandas as pd

    with workspace.db.read() as session:
        states = [state for page in pages(session) for state in page]
    if not states:
        raise InputError("there are no listings to learn from; run `refurbish ingest` first")
    return pd.DataFrame({name: [getattr(state, name) for state in states] for name in snapshot.COLUMNS})


def _see(workspace: Workspace, plan: Plan, made: Prepared) -> Case:
    base = skeleton.load(workspace, made.live)
    torch.set_num_threads(base.config.n_threads)
    rows, cache = made.rows, PhotoCache(workspace.settings.home / "cache", base.shape.photo_px)
    features = base.scorer.featurizer.transform(rows.listings, workspace.media, cache)
    heads = (*base.scorer.violations, plan.name)
    wanted = data.targets(rows.category, rows.violation, heads, base.config, data.Origins.of(rows.listings, rows.groups))
    wanted.violation[:, -1], wanted.violation_weight[:, -1] = made.known.present, made.known.weight
    wanted.is_asked[:, -1] = made.known.asked
    table = data.Table(features, base.shape, wanted, base.detector.stem, torch.device("cpu"))
    return Case(plan.name, rows, made.known, base, table, Frozen.of(base, table))


def _ask(workspace: Workspace, plan: Plan, made: Prepared, case: Case, now: datetime) -> dict[str, Any] | None:
    """Questions for moderators: what the head finds likely, or without an example what its title is like."""
    if plan.dry_run:
        return None
    about, every = made.known, np.arange(len(made.rows))
    if about.present.any() and not about.present.all():
        head = case.frozen.fit(every, about.present, about.weight)
        scores = 1 / (1 + np.exp(-case.frozen.logits(head, every)))
    else:
        scores = case.frozen.likeness(skeleton.called(case.base, workspace, plan.title))
    by_id = {one.id: float(score) for one, score in zip(made.rows.listings, scores, strict=True)}
    rng = np.random.default_rng(workspace.settings.seed)
    return asdict(candidates.ask(workspace, plan.title, by_id, n=plan.n_asked, rng=rng, now=now))


def _released(
    workspace: Workspace, plan: Plan, made: Prepared, case: Case, stages: Stages, now: datetime, started_s: float
) -> dict[str, Any]:
    """Fit to release; the run is noted from here on."""
    if plan.dry_run:
        with tempfile.TemporaryDirectory() as folder:
            elsewhere = replace(workspace, files=FileStore(Path(folder)))
            judged = judge(elsewhere, case, stages)
        return {"state": "passed" if judged.verdict.passed else "refused", "words": judged.verdict.words, **judged.report}
    begun = _begin(workspace, plan, made, now, started_s)
    try:
        judged = judge(workspace, case, stages)
        with stages.stage("release"), workspace.db.write() as session:
            return _conclude(session, workspace, begun, judged, stages, now=workspace.db.now(session))
    except BaseException as error:  # Ctrl-C too: no run stays as running
        runs.note_failure(workspace, begun, error)
        raise


def _begin(workspace: Workspace, plan: Plan, made: Prepared, now: datetime, started_s: float) -> Begun:
    config, device = retrain.train_config(workspace.settings), torch.device("cpu")
    about = {"violation": plan.name, "title": plan.title, "min_positive": plan.min_positive, SKELETON_RUN: made.live.run_id}
    with workspace.db.write() as session:
        run_id = registry.start_run(
            session,
            kind=KIND,
            snapshot_id=None if made.snapshot is None else made.snapshot.id,
            trigger=f"violation {plan.name} added",
            config=about,
            device=device_words(device, config),
            n_corrections=policy.corrections(session).n_listings,
            now=now,
        )
    return Begun(run_id, made.snapshot.sha256 if made.snapshot else "", made.live, config, device, started_s)


def _conclude(
    session: Session, workspace: Workspace, begun: Begun, judged: Judged, stages: Stages, *, now: datetime
) -> dict[str, Any]:
    """Model, verdict and run in the caller's transaction; what the report says of them."""
    verdict = runs.against_the_live_model(session, begun, judged.verdict)
    found = plain({**judged.report, "gate": verdict.report()})
    kept = _model_report(begun, found)
    about = runs.released(session, workspace, begun, judged.artifact, verdict, kept, by=BY, now=now)
    about |= {"words": verdict.words, **found}
    runs.ended(session, begun, about, stages, now=now)
    return about


def _model_report(begun: Begun, found: Mapping[str, Any]) -> dict[str, Any]:
    """The live model's report with one violation more: nothing else of the model is another."""
    before: Mapping[str, Any] = begun.champion.report if begun.champion else {}
    challenger = before.get("challenger", {})
    heads = {**challenger.get("violations", {}), found["violation"]: {**found["test"], "threshold": found["threshold"]}}
    addition = {name: value for name, value in found.items() if name != "gate"}
    return {**before, "challenger": {**challenger, "violations": heads}, "gate": found["gate"], "addition": addition}
