"""A run's detector and the live one on the same verified rows, both through the files that would be served."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from curation import telemetry
from curation.catalog.features import Features
from curation.catalog.photos import PhotoCache
from curation.catalog.scorer import FP32, Scorer, Scores
from curation.catalog.sidecar import ONNX_SUFFIX
from curation.errors import IntegrityError, NotFoundError
from curation.quality.deciders import outliers
from curation.quality.validate import OutOfSample
from curation.release import gates, registry, snapshot
from curation.release.gates import Candidate, Check, Verdict
from curation.release.registry import Model
from curation.store.workspace import Workspace
from curation.types import Listing, Split
from trainer import data, evaluate, loop, onnx
from trainer.evaluate import Verified
from trainer.rows import SnapshotRows, trained_on

log = telemetry.logger("gate")

SKELETON_RUN = "skeleton_run"
"""In the config of a run that only added a head: the run of the model that it was added to."""

_Answers = tuple[Candidate, Scores, Mapping[str, Any]]
"""Of one model, with its thresholds."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate says, and the figures behind it."""

    verdict: Verdict
    report: dict[str, Any]


def judge(
    workspace: Workspace,
    rows: SnapshotRows,
    wanted: data.Targets,
    features: Features,
    fitted: loop.Fitted,
    artifact: onnx.Artifact,
    champion: Model | None,
    *others: Check,
) -> Judged:
    """Challenger and champion on the same verified rows, both through the exported files; `others` must pass too."""
    seen_refs, seen_groups = _seen_by(workspace, champion)
    trained = {group for group, split in zip(rows.groups, rows.splits, strict=True) if split != Split.TEST.value}
    eligible = (rows.splits == Split.TEST.value) & evaluate.untouched(rows.refs, rows.groups, seen_refs, seen_groups | trained)
    categories, violations = ([label and label[0] for label in found] for found in (rows.category, rows.violation))
    verified = evaluate.verified_rows(
        eligible, wanted.is_verified, categories, violations, rows.groups, wanted.violations, wanted.is_asked
    )
    ours = _challenger(workspace, rows, features, fitted, artifact, verified)
    theirs, note = _champion(workspace, rows, champion, verified)
    settings = workspace.settings
    verdict = gates.judge(
        ours[0],
        theirs and theirs[0],
        roots=verified.roots,
        groups=verified.groups,
        violation_truth=verified.violation,
        violations=verified.violations,
        settings=settings,
        rng=np.random.default_rng(settings.seed),
        trained_groups=seen_groups | trained,
    )
    checks, passed = (*verdict.checks, *others), verdict.passed and all(check.passed for check in others)
    verdict = replace(verdict, passed=passed, provisional=verdict.provisional and passed, checks=checks)
    if artifact.small is not None:
        words, numbers = artifact.small["words"], {"served": artifact.small["approved"], **artifact.small["delta"]}
        verdict = replace(verdict, checks=(*verdict.checks, Check("int8", True, words, numbers)))
    report = {
        "n_verified": len(verified.category),
        "challenger": evaluate.report(*ours, verified, np.random.default_rng(settings.seed)),
        "champion": evaluate.report(*theirs, verified, np.random.default_rng(settings.seed)) if theirs else note,
        "gate": verdict.report(),
        "curves": {
            name: evaluate.violation_curves(side[0], verified)
            for name, side in (("challenger", ours), ("champion", theirs))
            if side is not None
        },
    }
    return Judged(verdict, report)


def deciders(rows: SnapshotRows, held_out: OutOfSample) -> tuple[Check, tuple[int, ...]]:
    """The gate's word on whose decisions it goes by, and the ids of listings that only those decided who were named."""
    chosen = held_out.pred_probs.argmax(1)
    agrees = np.array(
        [label is not None and held_out.classes[k] == label[0] for k, label in zip(chosen, rows.category, strict=True)], bool
    )
    found = outliers(rows.alone, agrees)
    if not found:
        return Check("deciders", True, "nobody's decisions are contradicted far more than the others'", {}), ()
    names = {one.name for one in found}
    words = "; ".join(one.words for one in found) + "; their listings are asked about again, train once others have decided them"
    ids = tuple(one.id for one, name in zip(rows.listings, rows.alone, strict=True) if name in names)
    return Check("deciders", False, words, {one.name: asdict(one) for one in found}), ids


def _challenger(
    workspace: Workspace,
    rows: SnapshotRows,
    features: Features,
    fitted: loop.Fitted,
    artifact: onnx.Artifact,
    verified: Verified,
) -> _Answers:
    shas = artifact.onnx_sha256, artifact.sidecar_sha256
    exact, scorer = (Scorer.load(workspace.files, *shas, precision) for precision in (FP32, workspace.settings.precision))
    compared = np.linspace(0, len(rows) - 1, min(len(rows), onnx.N_COMPARED)).astype(np.int64)
    difference = onnx.difference(exact, fitted.detector, features, compared)
    scores = scorer.predict(features, verified.rows)
    made = evaluate.candidate(
        "challenger",
        scores,
        verified,
        n_bytes=artifact.n_bytes,
        latency_ms_p95=onnx.latency_ms_p95(scorer, rows.listings, workspace.media),
        reproduces=difference <= onnx.TOLERANCE,
    )
    return made, scores, scorer.cuts


def _champion(
    workspace: Workspace, rows: SnapshotRows, champion: Model | None, verified: Verified
) -> tuple[_Answers | None, dict[str, Any] | None]:
    """The live model's answers, or why there are none: one that cannot be run has nothing to defend.

    One whose whole numbers this machine computes otherwise than its own is run in floats.
    """
    if champion is None:
        return None, None
    try:
        scorer = _runnable(workspace, champion)
        n_bytes = len(workspace.files.get(champion.onnx_sha256, ONNX_SUFFIX))
    except (NotFoundError, IntegrityError) as error:
        return None, {"name": champion.name, "error": str(error)}
    chosen: Sequence[Listing] = [rows.listings[row] for row in verified.rows]
    scores = scorer.score(
        chosen, workspace.media, PhotoCache(workspace.settings.home / "cache", scorer.featurizer.config.photo_px)
    )
    latency_ms = onnx.latency_ms_p95(scorer, rows.listings, workspace.media)
    made = evaluate.candidate(champion.name, scores, verified, n_bytes=n_bytes, latency_ms_p95=latency_ms, reproduces=True)
    return (made, scores, scorer.cuts), None


def _runnable(workspace: Workspace, model: Model) -> Scorer:
    shas = model.onnx_sha256, model.sidecar_sha256
    try:
        return Scorer.load(workspace.files, *shas, workspace.settings.precision)
    except IntegrityError as error:
        log.warning("live model not run as it is served", model=model.name, error=str(error))
        return Scorer.load(workspace.files, *shas, FP32)


def _seen_by(workspace: Workspace, champion: Model | None) -> tuple[set[str], set[str]]:
    """Refs and groups the champion was trained on, by the snapshots of its run and of the runs its skeleton comes from."""
    refs: set[str] = set()
    groups: set[str] = set()
    run_id = None if champion is None else champion.run_id
    while run_id is not None:
        with workspace.db.read() as session:
            run = registry.run(session, run_id)
            seen = None if run.snapshot_id is None else snapshot.by_id(session, run.snapshot_id).sha256
        if seen is not None:
            found = trained_on(snapshot.load(workspace, seen))
            refs, groups = refs | found[0], groups | found[1]
        run_id = run.config.get(SKELETON_RUN)
    return refs, groups
