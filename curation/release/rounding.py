"""May a model be served in whole numbers? What it loses by them is measured beside the same model in floats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.errors import InputError
from curation.quality.metrics import average_precision
from curation.release.gates import Check
from curation.settings import Settings


@dataclass(frozen=True, slots=True)
class Answers:
    """One file's answers on rows that it was not trained on."""

    category_correct: NDArray[np.bool_]  #: (N,)
    violation_probs: NDArray[np.floating[Any]]  #: (M, V) in [0, 1]
    thresholds: NDArray[np.floating[Any]]  #: (V,) certified for this file, inf = none


def rounded(full: Answers, small: Answers, violation_truth: NDArray[Any], violations: Sequence[str], settings: Settings) -> Check:
    """May the model in whole numbers (`small`) be served instead of the one in floats?

    Only if no violation loses more average precision than `gate_max_ap_loss`, the category no more accuracy than
    `gate_max_accuracy_loss`, and no threshold that could be certified is lost. `violation_truth`: (M, V) 0, 1 or NaN where nobody
    could say it. Refusing it refuses no release. Raises InputError if the arrays do not fit together.
    """
    shapes = full.category_correct.shape == small.category_correct.shape, full.thresholds.shape == small.thresholds.shape
    if not all(shapes) or not full.violation_probs.shape == small.violation_probs.shape == violation_truth.shape:
        raise InputError(
            f"the files in floats and in whole numbers answered {full.violation_probs.shape} and {small.violation_probs.shape} "
            f"violations, decided are {violation_truth.shape}; score the same rows by both"
        )
    found = {name: _lost(full, small, violation_truth[:, at], at) for at, name in enumerate(violations)}
    accuracies = [float(one.category_correct.mean()) if len(one.category_correct) else None for one in (full, small)]
    loss = None if accuracies[0] is None or accuracies[1] is None else accuracies[0] - accuracies[1]
    numbers: dict[str, Any] = {
        "accuracy": {"fp32": accuracies[0], "int8": accuracies[1], "loss": loss, "n": len(full.category_correct)},
        "violations": found,
        "n_violation": len(violation_truth),
    }
    bad = _too_much(numbers, settings)
    if loss is None and all(one["ap_loss"] is None for one in found.values()):
        bad = ["no decided or labelled row to judge it by"]
    if bad:
        return Check("int8", False, f"served in floats: {'; '.join(bad)}", numbers)
    worst = max((one["ap_loss"] for one in found.values() if one["ap_loss"] is not None), default=0.0)
    lost = "no category known" if loss is None else f"accuracy loss {loss:+.4f} on {len(full.category_correct)} rows"
    return Check("int8", True, f"served in whole numbers: {lost}, largest average precision loss {worst:+.4f}", numbers)


def _lost(full: Answers, small: Answers, answers: NDArray[Any], at: int) -> dict[str, Any]:
    """What one violation loses: average precision, and recall at each file's own threshold; None where it cannot be said."""
    known = ~np.isnan(answers.astype(np.float64))
    truth, probs = answers[known].astype(bool), [one.violation_probs[known, at] for one in (full, small)]
    positive = int(truth.sum())
    precisions = [average_precision(truth, one) if positive else None for one in probs]
    cuts = [float(one.thresholds[at]) for one in (full, small)]
    recalls = [
        float((one[truth] >= cut).mean()) if positive and math.isfinite(cut) else None
        for one, cut in zip(probs, cuts, strict=True)
    ]
    return {
        "n_positive": positive,
        "ap_fp32": precisions[0],
        "ap_int8": precisions[1],
        "ap_loss": None if precisions[0] is None or precisions[1] is None else precisions[0] - precisions[1],
        "recall_fp32": recalls[0],
        "recall_int8": recalls[1],
        "recall_loss": None if recalls[0] is None or recalls[1] is None else recalls[0] - recalls[1],
        "threshold_lost": math.isfinite(cuts[0]) and not math.isfinite(cuts[1]),
    }


def _too_much(numbers: Mapping[str, Any], settings: Settings) -> list[str]:
    """Each loss that is not acceptable, in words."""
    bad = []
    loss = numbers["accuracy"]["loss"]
    if loss is not None and not loss <= settings.gate_max_accuracy_loss:
        bad.append(f"accuracy loss {loss:.4f} of at most {settings.gate_max_accuracy_loss}")
    for name, one in numbers["violations"].items():
        if one["ap_loss"] is not None and not one["ap_loss"] <= settings.gate_max_ap_loss:
            bad.append(f"average precision loss {one['ap_loss']:.4f} of {name}, at most {settings.gate_max_ap_loss}")
        if one["threshold_lost"]:
            bad.append(f"the threshold of {name} cannot be certified any more")
    return bad
