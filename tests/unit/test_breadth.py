"""Broad categories, pairs that nobody can tell apart, catch-alls and groups of titles, on worlds whose truth is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.errors import InputError, ProbabilityError
from curation.quality.breadth import MIN_LISTINGS, measure, unusual
from curation.quality.confusions import find
from curation.quality.groups import find_groups, find_title_groups
from curation.quality.validate import OutOfSample

N_CLASSES = 20


def out_of_sample(probs: NDArray[np.floating]) -> OutOfSample:
    n, k = probs.shape
    return OutOfSample(probs, tuple(f"c{i}" for i in range(k)), tuple(f"r{i}" for i in range(n)), np.zeros(n, dtype=int))


def bayes(seen: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a model says that knows where each class lies."""
    logits = -((seen[:, None] - centres[None]) ** 2).sum(axis=2) / 2
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def world(noise: float, seed: int = 0, n: int = 4000) -> tuple[NDArray[np.int64], OutOfSample]:
    """Twenty classes: 0 and 1 are one thing, so are 2 and 3; 4 holds things of 8 … 12; labels slip to siblings."""
    rng = np.random.default_rng(seed)
    centres = 1.2 * rng.normal(size=(N_CLASSES, 16))
    centres[[1, 3]] = centres[[0, 2]]
    true = rng.integers(N_CLASSES, size=n)
    lies = np.where(true == 4, rng.integers(8, 13, n), true)
    seen = centres[lies] + rng.normal(size=(n, 16))
    leaning = centres + 0.05 * rng.normal(size=centres.shape)
    leaning[4] = centres[8:13].mean(axis=0)
    slipped = true // 4 * 4 + (true + rng.integers(1, 4, n)) % 4
    return np.where(rng.random(n) < noise, slipped, true), out_of_sample(bayes(seen, leaning))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2])
def test_two_names_of_one_thing_are_merged_and_nothing_else(noise: float, seed: int) -> None:
    """Wrong labels confuse siblings too, but the model tells those apart."""
    labels, oos = world(noise, seed)
    found = find(labels, oos, measure(labels, oos), noise=noise)
    assert {(one.a, one.b) for one in found.confusions if one.is_merge} == {(0, 1), (2, 3)}
    assert all(one.told_apart and abs(one.told_apart.value - 0.5) < 0.1 for one in found.confusions if one.is_merge)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2])
def test_a_catch_all_is_split_into_what_it_holds(noise: float) -> None:
    """Its listings go to the five classes whose things it holds; no other category is called one."""
    labels, oos = world(noise)
    (found,) = find(labels, oos, measure(labels, oos), noise=noise).catch_alls
    assert found.index == 4 and {one.index for one in found.targets} >= {8, 9, 10, 11, 12}
    assert found.n_groups > 4 and found.elsewhere.value > 0.8


@pytest.mark.parametrize("power", [0.3, 3.0])
def test_neither_finding_depends_on_the_models_temperature(power: float) -> None:
    """An over-confident and an under-confident model suggest the same."""
    labels, oos = world(0.1)
    bent = oos.pred_probs**power
    other = out_of_sample(bent / bent.sum(axis=1, keepdims=True))
    first, second = find(labels, oos, measure(labels, oos)), find(labels, other, measure(labels, other))
    assert [one.index for one in first.catch_alls] == [one.index for one in second.catch_alls]
    assert [(one.a, one.b, one.is_merge) for one in first.confusions] == [
        (one.a, one.b, one.is_merge) for one in second.confusions
    ]


def test_wrong_labels_alone_suggest_nothing() -> None:
    """Twenty well separated classes and labels wrong at 30 %: mutual confusions, no merge, no split."""
    rng = np.random.default_rng(3)
    true = rng.integers(N_CLASSES, size=4000)
    centres = 3.0 * rng.normal(size=(N_CLASSES, 16))
    labels = np.where(rng.random(4000) < 0.3, true // 4 * 4 + (true + rng.integers(1, 4, 4000)) % 4, true)
    oos = out_of_sample(bayes(centres[true] + rng.normal(size=(4000, 16)), centres))
    measured = measure(labels, oos)
    found = find(labels, oos, measured, noise=measured.noise)
    assert found.confusions and not any(one.is_merge for one in found.confusions) and not found.catch_alls
    assert measured.noise == pytest.approx(0.3, abs=0.03)


def test_entropy_is_told_as_a_number_of_classes() -> None:
    """Undecided between four of 1,000 classes is 4, whatever the other 996 are; normalised it is ln 4 / ln 1000."""
    probs = np.zeros((MIN_LISTINGS, 1000), dtype=np.float32)
    probs[:, :4] = 0.25
    one = measure(np.zeros(MIN_LISTINGS, dtype=int), out_of_sample(probs)).categories[0]
    assert one.effective and one.effective.value == pytest.approx(4)
    assert one.entropy and one.entropy.value == pytest.approx(np.log(4) / np.log(1000))


def test_a_category_that_is_vague_for_its_size_is_broad() -> None:
    """Small ones are all less sure; the large vague one stands out among them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), np.linspace(30, 300, 10).astype(int))
    sure = 0.5 + labels / 25 + rng.uniform(-0.05, 0.05, len(labels))
    sure[labels == 8] = 0.4
    probs = np.repeat(((1 - sure) / 9)[:, None], 10, axis=1)
    probs[np.arange(len(labels)), labels] = sure
    assert [one.index for one in measure(labels, out_of_sample(probs)).categories if one.is_broad] == [8]


def test_thin_categories_are_not_estimable() -> None:
    """Below the least number there is a count and nothing else, and no confusion with anybody."""
    labels, oos = world(0.0)
    few = labels.copy()
    few[np.flatnonzero(few == 1)[MIN_LISTINGS - 1 :]] = -1
    measured = measure(few, oos)
    assert measured.categories[1].n < MIN_LISTINGS and measured.categories[1].entropy is None
    assert 1 not in {one.index for one in measured.estimable}
    assert not any(1 in (one.a, one.b) for one in find(few, oos, measured).confusions)


def test_what_moderators_decided_is_not_counted_as_noise() -> None:
    """The model disagrees with half of a category; moderators stand behind all of it."""
    labels = np.repeat([0, 1], 40)
    oos = out_of_sample(np.eye(2)[np.where(np.arange(80) % 2, labels, 0)])
    free = measure(labels, oos).categories[1]
    held = measure(labels, oos, verified=labels == 1).categories[1]
    assert free.noise and free.noise.value == 0.5 and free.noise.n == 40
    assert held.noise is None and held.elsewhere and held.elsewhere.value == 0.5


def test_shares_do_not_depend_on_how_many_rows_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that fit into memory give the same result."""
    labels, oos = world(0.2, n=500)
    whole = measure(labels, oos)
    monkeypatch.setattr("curation.quality.breadth.BLOCK", 20 * 7)
    parts = measure(labels, oos)
    assert (whole.crossings == parts.crossings).all() and whole.noise == parts.noise


@pytest.mark.parametrize(("n", "k"), [(0, 3), (50, 1), (0, 0)])
def test_nothing_and_a_single_class_are_results(n: int, k: int) -> None:
    """No rows, one class: nothing is broad, confused or several."""
    oos = out_of_sample(np.full((n, k), 1 / max(1, k)))
    measured = measure(np.zeros(n, dtype=int), oos)
    found = find(np.zeros(n, dtype=int), oos, measured)
    assert not found.confusions and not found.catch_alls and not any(one.is_broad for one in measured.categories)


def test_bad_input_is_refused() -> None:
    """NaN, labels outside the classes, marks of another length."""
    probs = np.full((3, 2), 0.5)
    with pytest.raises(ProbabilityError, match="outside"):
        measure(np.array([0, 1, 2]), out_of_sample(probs))
    with pytest.raises(InputError, match="same rows"):
        measure(np.array([0, 1, 1]), out_of_sample(probs), verified=np.zeros(2, dtype=bool))
    probs[1] = np.nan
    with pytest.raises(ProbabilityError, match="NaN"):
        measure(np.array([0, 1, 1]), out_of_sample(probs))


def test_with_few_categories_nothing_stands_out() -> None:
    """There is no usual value of four."""
    assert np.isinf(unusual(np.array([1.0, 1.0, 1.0, 9.0]), np.full(4, 50), 1.0)).all()


@pytest.mark.parametrize("n_groups", [1, 2, 3])
def test_clouds_apart_are_groups_and_one_cloud_is_one(n_groups: int) -> None:
    """And every point is in its cloud's group."""
    rng = np.random.default_rng(n_groups)
    of = np.sort(rng.integers(n_groups, size=240))
    found = find_groups(rng.normal(size=(240, 6)) + 6 * np.eye(6)[of], rng=rng)
    assert found.n_groups == n_groups
    assert all(len(np.unique(found.group[of == g])) == 1 for g in range(n_groups))


def test_titles_fall_into_groups_that_are_named_by_their_words() -> None:
    """Sofas and lamps in one category; the larger group comes first."""
    rng = np.random.default_rng(0)
    extra = rng.choice(["old", "grey", "nice", "large", "small", "used"], size=(90, 4))
    titles = [f"{'corner sofa' if i % 3 else 'desk lamp'} {' '.join(said)}" for i, said in enumerate(extra)]
    sofas, lamps = find_title_groups(titles, rng=rng)
    assert {"corner", "sofa"} <= set(sofas.words) and {"desk", "lamp"} <= set(lamps.words)
    assert (len(sofas.rows), len(lamps.rows)) == (60, 30) and all(titles[row].startswith("desk") for row in lamps.rows)


def test_reposts_are_no_evidence_of_a_group() -> None:
    """Two titles, forty times each, are two titles."""
    titles = ["corner sofa grey"] * 40 + ["desk lamp red"] * 40
    assert find_title_groups(titles, rng=np.random.default_rng(0)) == ()


@pytest.mark.parametrize("titles", [["same"] * 50, [""] * 50, [f"only{i}" for i in range(50)], ["a b", "c d"], []], ids=len)
def test_titles_without_anything_to_compare_are_one_group(titles: list[str]) -> None:
    """Photos only, no word in common, too few."""
    assert find_title_groups(titles, rng=np.random.default_rng(0)) == ()


def test_vectors_that_are_not_finite_are_refused() -> None:
    """k-means would spread the NaN to every centre."""
    with pytest.raises(InputError, match="finite"):
        find_groups(np.array([[np.nan, 1.0]]), rng=np.random.default_rng(0))
