"""A new head fitted, certified, compared and put before the gate; nothing is released here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.catalog.scorer import Scorer, Scores
from curation.catalog.sidecar import THRESHOLDS
from curation.quality import flags
from curation.quality.flags import Compared
from curation.release import gates
from curation.release.gates import Candidate, Check, Verdict
from curation.store.workspace import Workspace
from curation.types import Split
from trainer import certify, onnx
from trainer.addition import contest
from trainer.addition.contest import Rival
from trainer.addition.known import Known
from trainer.addition.skeleton import Frozen, Skeleton, is_kept, widened
from trainer.data import Table
from trainer.evaluate import plain
from trainer.given import Stages
from trainer.model import Detector
from trainer.rows import SnapshotRows

SAME = 1e-6
"""How far another answer of the exported model may move: a wider matrix product may round its last bit otherwise."""

ARTIFACT = ("reproduces", "finite", "size", "latency")
"""The gate's own checks that ask nothing about categories."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One violation, and N listings as the live detector sees them."""

    name: str
    rows: SnapshotRows
    known: Known
    base: Skeleton
    table: Table  #: with targets of the live heads and, last, of this one
    frozen: Frozen


@dataclass(frozen=True, slots=True)
class Judged:
    """All that was found out about one head."""

    artifact: onnx.Artifact
    verdict: Verdict
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Made:
    """A detector with the new head, as stored and loaded again."""

    detector: Detector
    scorer: Scorer
    artifact: onnx.Artifact
    temperature: float


def judge(workspace: Workspace, case: Case, stages: Stages) -> Judged:
    """Fit on the training split, cool on validation, certify and report on the test split, beside the rival; the verdict.

    The files are put into the workspace's store.
    """
    known, frozen, settings = case.known, case.frozen, workspace.settings
    with stages.stage("fit"):
        head = frozen.fit(known.of(Split.TRAIN), known.present, known.weight)
        held = np.flatnonzero((known.splits == Split.VALIDATION.value) & known.asked)
        warmth = certify.temperature(frozen.logits(head, held), known.present[held])
        detector = widened(case.base, head.scaled(np.array([1 / warmth], np.float32)))
    with stages.stage("certify"):
        made = _exported(workspace, case, detector, warmth)
    with stages.stage("evaluate"):
        rival = Rival.of(case.rows.listings)
        is_judged = not known.unjudged()
        compared = contest.compare(frozen, rival, known, n_folds=settings.n_folds, seed=settings.seed) if is_judged else None
        figures = _evaluated(case, made, rival, settings.seed)
    with stages.stage("gate"):
        checks = _checks(workspace, case, made, compared)
        verdict = Verdict(all(check.passed for check in checks), tuple(checks))
    about = {"temperature": warmth, "out_of_fold": compared and asdict(compared), **figures, "gate": verdict.report()}
    return Judged(made.artifact, verdict, plain({"violation": case.name, **about}))


def _exported(workspace: Workspace, case: Case, detector: Detector, temperature: float) -> _Made:
    """The files, with the live model's thresholds as they are and the new head's as certified."""
    base, name = case.base, case.name
    before = base.scorer.sidecar
    temperatures = (1.0,) * len(base.scorer.violations) + (temperature,)

    def thresholds(scorer: Scorer) -> Mapping[str, Any]:
        every = certify.cuts(scorer, case.table, case.rows, temperatures, workspace.settings)
        return {**before.get(THRESHOLDS, {}), name: plain(every[name])}

    artifact = onnx.export(
        detector,
        workspace.files,
        shape=base.shape,
        classes=base.scorer.classes,
        violations=(*base.scorer.violations, name),
        report={**before.get("report", {}), "skeleton": base.model.name, "added": name},
        certify=thresholds,
        tokenizer=base.tokenizer,
    )
    return _Made(detector, Scorer.load(workspace.files, artifact.onnx_sha256, artifact.sidecar_sha256), artifact, temperature)


def _evaluated(case: Case, made: _Made, rival: Rival, seed: int) -> dict[str, Any]:
    """Figures of the stored file and of the rival on the tested rows, and the threshold."""
    known, tested = case.known, contest.tested(case.known)
    cut = made.scorer.sidecar[THRESHOLDS][case.name]
    ours = made.scorer.predict(case.table.features, tested).violation_probs[:, -1].astype(np.float64)
    theirs = rival.scores(known, known.of(Split.TRAIN), tested)
    return {
        "threshold": cut,
        "test": _figures(ours, known, tested, cut, seed),
        "rival": _figures(theirs, known, tested, None, seed),
    }


def _figures(
    probs: NDArray[np.float64], known: Known, tested: NDArray[np.int64], cut: Mapping[str, Any] | None, seed: int
) -> dict[str, Any]:
    """Of the tested rows; past the certified threshold of those only that certified nothing."""
    truth, rng = known.present[tested], np.random.default_rng(seed)
    value = np.inf if cut is None or cut["value"] is None else float(cut["value"])
    found = flags.figures(probs, truth, np.inf, rng=rng)
    reporting = ~certify.certifying(known.groups[tested].tolist())
    certified = flags.figures(probs[reporting], truth[reporting], value, rng=rng)
    return asdict(replace(found, certified_precision=certified.certified_precision, certified_recall=certified.certified_recall))


def _checks(workspace: Workspace, case: Case, made: _Made, compared: Compared | None) -> list[Check]:
    known, features, n = case.known, case.table.features, len(case.rows)
    sample = np.linspace(0, n - 1, min(n, onnx.N_COMPARED)).astype(np.int64)
    tested = contest.tested(known)
    candidate = Candidate(
        name=case.name,
        category_correct=np.zeros(0, bool),
        category_score=np.zeros(0),
        violation_probs=made.scorer.predict(features, tested).violation_probs[:, -1:],
        n_bytes=made.artifact.n_bytes,
        latency_ms_p95=onnx.latency_ms_p95(made.scorer, case.rows.listings, workspace.media),
        reproduces=onnx.difference(made.scorer, made.detector, features, sample) <= onnx.TOLERANCE,
    )
    usual = gates.judge(
        candidate,
        None,
        roots=(),
        groups=(),
        violation_truth=known.present[tested, None].astype(float),
        violations=(case.name,),
        settings=workspace.settings,
        rng=np.random.default_rng(workspace.settings.seed),
    )
    kept = [check for check in usual.checks if check.name in ARTIFACT]
    answers = (scorer.predict(features, sample) for scorer in (case.base.scorer, made.scorer))
    unchanged = _unchanged(is_kept(case.base.detector, made.detector), *answers)
    return [_evidence(known), unchanged, *_rivalled(compared), *kept]


def _evidence(known: Known) -> Check:
    missing, counts = known.unjudged(), known.counts()
    words = f"{counts['verified_positives']} verified positives, {counts['verified_negatives']} verified negatives"
    return Check("evidence", not missing, f"{words}; {missing} needed to judge it" if missing else words, counts)


def _unchanged(is_bit_equal: bool, old: Scores, new: Scores) -> Check:
    """The live heads' weights and answers are as they were."""
    pairs = ((old.category_probs, new.category_probs), (old.violation_probs, new.violation_probs[:, : len(old.violations)]))
    moved = max(float(np.abs(before - after).max(initial=0.0)) for before, after in pairs)
    kept = "are bit-equal" if is_bit_equal else "differ"
    words = f"weights of category and {len(old.violations)} violations {kept}, their answers move by {moved:.1e} at most"
    return Check("others unchanged", is_bit_equal and moved <= SAME, words, {"moved": moved, "bit_equal": is_bit_equal})


def _rivalled(compared: Compared | None) -> list[Check]:
    """Refused where it is shown to be worse than TF-IDF with logistic regression."""
    if compared is None:
        return []
    ours, theirs, by = compared.ours, compared.theirs, compared.difference
    words = (
        f"average precision {ours.value:.3f} [{ours.low:.3f}, {ours.high:.3f}] against {theirs.value:.3f} of TF-IDF with "
        f"logistic regression, difference {by.value:+.3f} [{by.low:+.3f}, {by.high:+.3f}]"
    )
    return [Check("not below the rival", by.high >= 0, words, asdict(compared))]
