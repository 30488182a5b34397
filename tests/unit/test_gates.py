"""The release gate: each refusal is named and numbered."""

import json
from typing import Any

import numpy as np
import pytest

from curation.errors import InputError
from curation.release.gates import Candidate, Verdict, judge
from curation.settings import Settings

N = 200
VIOLATIONS = ("counterfeit", "prohibited_item")


def right(n_right: int, n: int = N) -> np.ndarray:
    """`n_right` right answers, spread evenly."""
    return np.floor(np.arange(1, n + 1) * n_right / n) > np.floor(np.arange(n) * n_right / n)


def candidate(name: str, correct: np.ndarray, **changes: Any) -> Candidate:
    """A healthy model with these answers."""
    values = {"violation_probs": np.zeros((0, 2)), "n_bytes": 1_000_000, "latency_ms_p95": 5.0, "reproduces": True}
    values["category_score"] = correct.astype(float)
    return Candidate(name=name, category_correct=correct, **{**values, **changes})


def verdict(challenger: Candidate, champion: Candidate | None, **changes: Any) -> Verdict:
    """Judge with settings of the default; each row its own group, all under one root."""
    n = len(challenger.category_correct)
    settings = Settings(**changes.pop("settings", {}))
    values = {
        "roots": ["Home"] * n,
        "groups": [f"g{i}" for i in range(n)],
        "violation_truth": np.zeros((len(challenger.violation_probs), 2)),
        "violations": VIOLATIONS,
        "rng": np.random.default_rng(1),
    }
    return judge(challenger, champion, settings=settings, **{**values, **changes})


def refusals(found: Verdict) -> list[str]:
    """Names of the checks that refused."""
    return [check.name for check in found.checks if not check.passed]


def test_a_clearly_better_model_passes() -> None:
    """Ten points better on 200 rows: every check passes and the report is plain JSON."""
    found = verdict(candidate("det-0002", right(170)), candidate("det-0001", right(150)))
    assert found.passed and found.words == f"passed all {len(found.checks)} checks"
    assert "0.850 against 0.750" in next(check.words for check in found.checks if check.name == "not worse")
    json.dumps(found.report(), allow_nan=False)


def test_a_worse_model_is_refused_with_numbers() -> None:
    """Ten points worse: refused as worse and as not better, with both accuracies (fault 53)."""
    found = verdict(candidate("det-0002", right(150)), candidate("det-0001", right(170)))
    assert refusals(found) == ["not worse", "better", "roots"]
    assert "category accuracy 0.750 against 0.850, difference -0.100 [-0." in found.words


def test_the_same_answers_pass() -> None:
    """Equal to the last row is no worse: the model with the fresher labels is taken."""
    found = verdict(candidate("det-0002", right(150)), candidate("det-0001", right(150)))
    assert found.passed and "shown to be no worse" in found.checks[7].words


def test_better_by_noise_only_is_refused_where_proof_is_asked() -> None:
    """One row more of 200, many rows traded: enough by default, not for who wants to be sure (fault 53)."""
    rng = np.random.default_rng(3)
    old = rng.random(N) < 0.7
    new = rng.permutation(old)
    new[np.flatnonzero(~new)[: max(0, int(old.sum() - new.sum()) + 1)]] = True
    pair = candidate("det-0002", new), candidate("det-0001", old)
    assert verdict(*pair).passed
    found = verdict(*pair, settings={"gate_confidence": 0.95})
    assert refusals(found) == ["better"]
    assert "more than 0.95 is wanted" in found.words


def test_a_little_lower_on_many_traded_rows_is_refused() -> None:
    """Within the margin, but it may as well be much worse: not shown to be as good."""
    rng = np.random.default_rng(4)
    old = right(140)
    new = rng.permutation(old)
    new[np.flatnonzero(new)[:2]] = False
    assert refusals(verdict(candidate("det-0002", new), candidate("det-0001", old))) == ["better"]


def test_few_rows_are_decided_by_how_sure_the_models_were() -> None:
    """48 rows, as many right but not the same ones: surer of what moderators said passes, less sure does not."""
    old, new = right(40, 48), np.roll(right(40, 48), 1)
    sure = candidate("det-0002", new, category_score=np.where(new, 0.9, -0.2))
    unsure = candidate("det-0001", old, category_score=np.where(old, 0.7, -0.4))
    found = verdict(sure, unsure)
    assert found.passed and "as accurate" in found.checks[7].words and "surer of what is right" in found.checks[7].words
    assert refusals(verdict(unsure, sure)) == ["better"]


def test_better_overall_but_worse_under_one_root() -> None:
    """A root with enough rows must not pay for the rest; one with few rows is said to be unjudged (fault 53)."""
    roots = ["Home"] * 120 + ["Sport"] * 70 + ["Pets"] * 10
    old = np.ones(N, dtype=bool)
    old[:60] = False
    new = np.ones(N, dtype=bool)
    new[120:150] = False
    found = verdict(candidate("det-0002", new), candidate("det-0001", old), roots=roots)
    assert refusals(found) == ["roots"]
    assert "Sport lost 0.429 on 70 rows" in found.words and "1 have fewer than 20 rows" in found.words


def test_noise_under_many_roots_is_no_refusal() -> None:
    """Twenty roots of thirty rows and two equally good models: rarely one looks worse by chance."""
    n_refused = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        truth = rng.random(600)
        old, new = (truth < 0.6) ^ (rng.random(600) < 0.15), (truth < 0.6) ^ (rng.random(600) < 0.15)
        roots = [f"root {i % 20}" for i in range(600)]
        found = verdict(candidate("det-0002", new), candidate("det-0001", old), roots=roots, rng=rng)
        n_refused += "roots" in refusals(found)
    assert n_refused <= 3


def test_near_duplicates_are_one_piece_of_evidence() -> None:
    """The same gain on rows of two groups only is not shown to be better (faults 38, 53)."""
    new, old = np.ones(40, dtype=bool), np.repeat([False, True], 20)
    alone = verdict(candidate("det-0002", new), candidate("det-0001", old), settings={"gate_confidence": 0.99})
    together = verdict(
        candidate("det-0002", new),
        candidate("det-0001", old),
        groups=["a"] * 20 + ["b"] * 20,
        settings={"gate_confidence": 0.99, "gate_margin": 0.0},
    )
    better = [next(check for check in found.checks if check.name == "better") for found in (alone, together)]
    assert better[0].numbers["low"] > 0.25 and better[1].numbers["low"] == 0


def test_too_few_rows_refuse_unless_it_is_the_first() -> None:
    """Five verified rows compare nothing; a first model passes provisionally (fault 53)."""
    few = candidate("det-0002", right(5, 5))
    assert "evidence: 5 verified listings, 15 more needed" in verdict(few, candidate("det-0001", right(1, 5))).words
    first = verdict(few, None)
    assert first.passed and first.provisional
    assert first.words == "passed, provisionally: first model, only 5 of 20 verified listings to judge it by"
    assert verdict(candidate("det-0001", right(0, 0)), None).provisional
    assert not verdict(candidate("det-0002", right(0, 0)), candidate("det-0001", right(0, 0))).passed


def test_a_first_model_with_enough_rows_is_not_provisional() -> None:
    """It passes on what it is; its artifact is checked all the same."""
    assert not verdict(candidate("det-0001", right(20)), None).provisional
    assert refusals(verdict(candidate("det-0001", right(20), reproduces=False), None)) == ["reproduces"]


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"reproduces": False}, "reproduces", "the reloaded artifact does not give the stored predictions"),
        ({"n_bytes": 600_000_000}, "size", "600.0 MB of at most 500.0 MB"),
        ({"latency_ms_p95": 501.0}, "latency", "p95 501.0 ms of at most 500.0 ms"),
        ({"latency_ms_p95": float("nan")}, "latency", "p95 nan ms"),
        ({"violation_probs": np.array([[0.1, np.nan], [1.5, 0.2]])}, "finite", "2 of 4 violation probabilities"),
    ],
)
def test_a_bad_artifact_is_refused(changes: dict[str, Any], name: str, words: str) -> None:
    """Not the model that was judged, too large, too slow, or answering nonsense."""
    shape = changes.get("violation_probs", np.zeros((0, 2)))
    champion = candidate("det-0001", right(150), violation_probs=np.zeros_like(shape))
    found = verdict(candidate("det-0002", right(170), **changes), champion)
    assert refusals(found) == [name] and words in found.words
    json.dumps(found.report(), allow_nan=False)


def test_groups_that_were_trained_on_are_refused() -> None:
    """Verified rows of a group in the training set say nothing (faults 38, 53)."""
    found = verdict(candidate("det-0002", right(170)), candidate("det-0001", right(150)), trained_groups={"g7", "other"})
    assert refusals(found) == ["no leak"] and "1 groups of the verified rows were trained on, such as 'g7'" in found.words


def violation_rows(n_positive: int, n: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth of one violation (the other unknown), and probabilities that find it and that do not."""
    truth = np.full((n, 2), np.nan)
    truth[:, 0] = np.arange(n) < n_positive
    good = np.column_stack([np.where(truth[:, 0] == 1, 0.9, 0.1), np.full(n, 0.5)])
    return truth, good, np.full((n, 2), 0.5)


def test_a_lost_violation_threshold_is_refused() -> None:
    """The champion flags with certified precision, the challenger cannot any more (fault 53)."""
    truth, good, bad = violation_rows(200)
    old, new = (candidate(name, right(150), violation_probs=probs) for name, probs in (("det-0001", good), ("det-0002", bad)))
    found = verdict(new, old, violation_truth=truth)
    assert refusals(found) == ["precision of counterfeit"]
    assert "no threshold keeps 0.95, the champion's keeps 0.9" in found.words
    assert verdict(old, new, violation_truth=truth).passed


def test_thin_evidence_on_violations_is_said() -> None:
    """Too few verified labels judge nothing, and the words count those that are missing."""
    truth, good, bad = violation_rows(30)
    old, new = (candidate(name, right(150), violation_probs=probs) for name, probs in (("det-0001", good), ("det-0002", bad)))
    words = [check.words for check in verdict(new, old, violation_truth=truth).checks[-2:]]
    assert words == [
        "not judged: 87 more verified counterfeit labels needed",
        "not judged: 117 more verified prohibited_item labels needed",
    ]


def test_different_rows_are_refused() -> None:
    """Models evaluated on different rows are not compared (fault 54)."""
    with pytest.raises(InputError, match="evaluate both models on the same rows"):
        verdict(candidate("det-0002", right(150)), candidate("det-0001", right(15, 20)))
    with pytest.raises(InputError, match="violation probabilities of shape"):
        verdict(candidate("det-0002", right(150)), candidate("det-0001", right(150), violation_probs=np.zeros((3, 2))))
