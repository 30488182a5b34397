"""The long part of a run, without any write: features, folds, suspects, fit, export, evaluation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from curation.catalog.tokens import Tokenizer
from curation.errors import ConfigError
from curation.quality.validate import OutOfSample
from curation.release import noise
from curation.release.gates import Verdict
from curation.release.registry import Model
from curation.review import probabilities, repair_evidence, suspects
from curation.review.repair_evidence import Opinion
from curation.store.workspace import Workspace
from curation.types import Question, Reason, Split, Suspect
from trainer import balance, certify, data, evaluate, evidence, folds, judgement, loop, onnx, quantize, state, views
from trainer.checkpoint import Checkpoints
from trainer.config import TrainConfig
from trainer.given import Stages, read
from trainer.model import Detector
from trainer.processes import ALONE, Processes
from trainer.rows import SnapshotRows
from trainer.search.gradients import usable


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a run found out, ready to be stored in one short transaction."""

    suspects: dict[Question, list[Suspect]]
    held_out: OutOfSample
    opinion: Opinion  #: what the labels of these rows should be changed to
    artifact: onnx.Artifact
    verdict: Verdict
    report: dict[str, Any]
    saved: Checkpoints  #: of the fits behind it, to be cleared once it is stored
    doubted: tuple[int, ...] = ()  #: listings that only people decided whom the gate named


def device_of(wanted: str) -> torch.device:
    """The device of ``auto``, ``cpu`` or ``cuda``. Raises ConfigError if a GPU is wanted that is not there or does not answer."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda but torch sees no GPU; use --device cpu, or auto to take what is there")
    return usable("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def device_words(device: torch.device, config: TrainConfig) -> str:
    """The device as noted with the run."""
    return torch.cuda.get_device_name(device)[:80] if device.type == "cuda" else f"cpu, {config.n_threads} threads"


def detect(
    workspace: Workspace,
    sha256: str,
    champion: Model | None,
    config: TrainConfig,
    device: torch.device,
    stages: Stages,
    processes: Processes = ALONE,
) -> Outcome:
    """Everything between the snapshot and the transaction that registers the model; the others of the processes `follow`."""
    given = read(workspace, sha256, config, device, stages, processes)
    rows, wanted, before, table = given.rows, given.wanted, given.before, given.table
    train, validation, features = given.train, given.validation, given.features
    with stages.stage("folds"):
        held_out = given.held_out(config, stages.lost, processes)
    with stages.stage("suspects"):
        with workspace.db.read() as session:
            audited, drawn = noise.audit_refs(session), repair_evidence.drawn(session)
        is_drawn = np.array([ref in drawn for ref in rows.refs], bool)
        best, p, may, alone = evidence.opinion(table, held_out.category.pred_probs, is_drawn)
        opinion, told = Opinion(best, p, may, wanted.said), _told(rows, wanted, alone)
        found, about_folds = _suspects(rows, held_out, wanted, audited, workspace.settings.suspects_method, told)
        probs_sha256 = probabilities.store(workspace.files, held_out.category, wanted.category, opinion=opinion)
    with stages.stage("fit"):
        fitted = given.fit(config, stages.lost, processes)
        state_sha256 = state.keep(workspace.files, fitted.objective.state())
        cooled = certify.cool(fitted.detector, table, rows.of(Split.VALIDATION))
    about_fit = _about_fit(fitted, table, train, validation)
    with stages.stage("export"):
        artifact = _exported(workspace, fitted.detector, table, rows, cooled, about_fit, given.tokenizer, train)
    with stages.stage("evaluate"):
        whose, doubted = judgement.deciders(rows, held_out.category)
        judged = judgement.judge(workspace, rows, wanted, features, fitted, artifact, champion, whose)
    report = {
        "n_listings": len(rows),
        "n_classes": len(wanted.classes),
        "n_photos": len(features.photos) - 1,
        "out_of_sample": about_folds,
        "fit": about_fit,
        **judged.report,
        "carried": before and before.report,
        state.REPORT_KEY: state_sha256,
        probabilities.REPORT_KEY: probs_sha256,
        "resumed": given.saved.resumed,
    }
    return Outcome(found, held_out.category, opinion, artifact, judged.verdict, report, given.saved, doubted)


def _exported(
    workspace: Workspace,
    detector: Detector,
    table: data.Table,
    rows: SnapshotRows,
    cooled: Sequence[float],
    about_fit: Mapping[str, Any],
    tokenizer: Tokenizer | None,
    train: data.Rows,
) -> onnx.Artifact:
    """The detector's files, with the thresholds that it certifies through them."""
    rounding = onnx.Rounding(
        quantize.calibration(table.features, train),
        lambda full, small: quantize.compared(full, small, table, rows, workspace.settings),
    )
    return onnx.export(
        detector,
        workspace.files,
        shape=table.shape,
        classes=table.targets.classes,
        violations=table.targets.violations,
        report={"fit": about_fit},
        certify=lambda scorer: evaluate.plain(certify.cuts(scorer, table, rows, cooled, workspace.settings)),
        tokenizer=tokenizer,
        rounding=rounding,
    )


def _told(rows: SnapshotRows, wanted: data.Targets, alone: Mapping[str, evidence.Alone]) -> dict[str, Reason]:
    """Listing ref → what text and photo each say of it, where they know something."""
    found = {}
    for at, ref in enumerate(rows.refs):
        said = [(name, wanted.classes[c[at]], float(p[at])) for name, (c, p) in alone.items() if c[at] >= 0]
        if (reason := suspects.view_reason(said)) is not None:
            found[ref] = reason
    return found


def _suspects(
    rows: SnapshotRows,
    held_out: folds.HeldOut,
    wanted: data.Targets,
    audited: Collection[str],
    method: str,
    told: Mapping[str, Reason],
) -> tuple[dict[Question, list[Suspect]], dict[str, Any]]:
    """The ranking of both questions over the labels as they are now, and figures about the folds."""
    category, violation = rows.labels()
    found = suspects.from_predictions(
        rows.listings, category, held_out.category, held_out.violation, wanted.violations, violation, audited, method, told
    )
    known = wanted.category >= 0
    agrees = held_out.category.pred_probs[known].argmax(1) == wanted.category[known]
    about = {
        "agreement": float(agrees.mean()),
        "n_labelled": int(known.sum()),
        "n_issues": sum(suspect.is_issue for suspect in found[Question.CATEGORY]),
        "n_violation_issues": sum(suspect.is_issue for suspect in found[Question.VIOLATION]),
        "n_folds": len(np.unique(held_out.category.folds)),
        "temperature": held_out.temperature,
    }
    return found, about


def _about_fit(fitted: loop.Fitted, table: data.Table, train: data.Rows, validation: data.Rows) -> dict[str, Any]:
    agreement, targets, config = None, table.targets, fitted.detector.config
    if len(validation):
        chosen = loop.predict(fitted.detector, table, validation)[0].argmax(1)
        agreement = float((chosen == targets.category[validation]).mean())
    return {
        "n_train": len(train),
        "n_validation": len(validation),
        "epochs": fitted.n_epochs,
        "best_epoch": fitted.best_epoch,
        "losses": [round(value, 4) for value in fitted.losses],
        "train_losses": [round(value, 4) for value in fitted.trained],
        "temperature": fitted.temperature,
        "batch_parts": fitted.n_parts,
        "validation_agreement": agreement,
        "views": views.report(fitted.detector, table, validation),
        "classes": balance.report(targets.category[train], targets.category_weight[train], targets.classes, config.balance),
    }
