"""What decided reports teach about reasons and reporters, and how reports and the model are joined."""

import numpy as np
import pytest

from curation.errors import InputError
from curation.quality.report_evidence import BASE, Claim
from curation.quality.track_record import learn


def claims(reason: str, n_right: int, n: int, reporters: tuple[str | None, ...] = (None,)) -> list[Claim]:
    return [Claim(reason, reporters, at < n_right) for at in range(n)]


def test_nothing_decided_says_even_odds() -> None:
    """A report alone is then as likely right as wrong, whatever the base rate; without one the base rate holds."""
    for base in ({}, {"counterfeit": 0.2}):
        found = learn([], base)
        assert found.probability("counterfeit", ["anna"]) == pytest.approx(0.5)
        assert found.probability("counterfeit", []) == pytest.approx(base.get("counterfeit", BASE))


def test_rates_are_recovered_and_few_reports_are_drawn_to_the_rest() -> None:
    """Of 400 reports each the rate is theirs; of two it stays near all others'."""
    found = learn([*claims("counterfeit", 320, 400), *claims("unsafe", 120, 400), *claims("adult", 2, 2)])
    assert found.reasons["counterfeit"].precision.value == pytest.approx(0.8, abs=0.02)
    assert found.reasons["unsafe"].precision.value == pytest.approx(0.3, abs=0.02)
    rate = found.reasons["adult"]
    assert 0.55 < rate.precision.value < 0.85 and (rate.n_right, rate.n) == (2, 2)
    assert rate.precision.low < 0.4 and rate.precision.high > 0.8
    assert found.probability("counterfeit", [None]) > 0.6 > 0.4 > found.probability("unsafe", [None])


def test_a_careless_reporter_counts_less_for_the_same_reason() -> None:
    """And a good one more; who gave only hopeless reasons is not blamed for them."""
    decided = [*claims("counterfeit", 30, 40, ("good",)), *claims("counterfeit", 5, 40, ("careless",))]
    decided += [*claims("unsafe", 10, 200), *claims("unsafe", 2, 40, ("honest",))]
    found = learn(decided)
    good, nobody, careless = (found.probability("counterfeit", [who]) for who in ("good", None, "careless"))
    assert good > nobody + 0.1 and careless < nobody
    assert found.reporters["good"].precision.value > 0.6 > 0.2 > found.reporters["careless"].precision.value
    assert found.expected["honest"] < 0.15 < found.expected["good"]


def test_the_model_and_more_reports_make_it_likelier() -> None:
    """Each piece of evidence adds."""
    found = learn(claims("counterfeit", 6, 10), {"counterfeit": 0.02})
    one, two = (found.probability("counterfeit", [None] * n) for n in (1, 2))
    assert 0.02 < one < two < 0.99
    seen, unseen = (found.probability("counterfeit", [None], p) for p in (0.8, 0.001))
    assert seen > 0.95 > one > unseen
    assert found.probability("counterfeit", [], 0.3) == pytest.approx(0.3)


def test_how_far_reports_repeat_each_other_is_learned() -> None:
    """Where three reports are right no more often than one, they count for less than where they nearly always are."""
    several = {True: claims("counterfeit", 180, 300, (None,) * 3), False: claims("counterfeit", 299, 300, (None,) * 3)}
    found = {
        copies: learn([*claims("counterfeit", 600, 1000), *more], {"counterfeit": 0.02}).probability("counterfeit", [None] * 3)
        for copies, more in several.items()
    }
    assert found[True] < 0.7 and found[False] > 0.9


def test_decisions_on_what_the_model_saw_do_not_flatter_reports() -> None:
    """Reports that were right because only sure cases were decided add nothing to the model."""
    rng = np.random.default_rng(5)
    model = rng.uniform(0.6, 0.99, 2000)
    decided = [Claim("counterfeit", (None,), bool(rng.random() < p), float(p)) for p in model]
    found = learn(decided, {"counterfeit": 0.02})
    assert found.reasons["counterfeit"].precision.value > 0.75
    assert found.probability("counterfeit", [None], 0.5) < 0.75


def test_a_share_that_is_none_is_refused() -> None:
    """Zero, one and NaN are no shares of listings."""
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="lies between 0 and 1"):
            learn([], {"counterfeit": share})


def test_a_hundred_reports_stay_a_probability() -> None:
    """No overflow, never 0 or NaN."""
    found = learn(claims("counterfeit", 1000, 1000))
    p = found.probability("counterfeit", [None] * 100, 0.999)
    assert 0 < p <= 1 and np.isfinite(p)
