"""How violation heads are fitted, what photos add to them, and that their margins become log-odds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from curation.catalog.scorer import Scorer
from curation.errors import ConfigError
from curation.store.files import FileStore
from tests.unit.test_residual import table
from tests.unit.test_trainer import CONFIG, POLICY, SHAPE, rows
from trainer import loop, manner, onnx, sight, violations
from trainer.config import CHOSEN, HINGE, LOGISTIC, SQUARED_HINGE
from trainer.model import Detector
from trainer.scale import MAX_ERROR, known_heads
from trainer.text import DIRECT_SCALE, TITLE_CHARACTERS
from trainer.violations import How, Seen

N = 400
ANY = How(CHOSEN)
FOLDS = np.arange(N) % 4
Floats = NDArray[np.float32]


def answers(share: float = 0.2) -> Floats:
    """(N, 1) who has the violation."""
    return (np.random.default_rng(1).random((N, 1)) < share).astype(np.float32)


def titled(present: Floats, tells: str) -> Callable[[NDArray[np.int64], float], Seen]:
    """Listings of fifty words in the title, as many in the description; three of the title's or the description's tell."""
    rng = np.random.default_rng(2)
    title, description = ((rng.random((N, 50)) < 0.2).astype(np.float32) for _ in range(2))
    (title if tells == "title" else description)[:, :3] = present * (rng.random((N, 3)) < 0.3)

    def seen(chosen: NDArray[np.int64], loud: float) -> Seen:
        words = np.hstack([title * loud, description])[chosen]
        words /= np.linalg.norm(words, axis=1, keepdims=True) + 1e-6
        return Seen(csr_matrix(words), np.zeros((len(chosen), 1), np.float32))

    return seen


@pytest.mark.parametrize(("tells", "loud"), [("title", 0.8), ("description", 0.2)])
def test_the_title_is_as_loud_as_it_tells(tells: str, loud: float) -> None:
    """Held-out rows find out where a violation is said."""
    present = answers()
    how = manner.chosen(titled(present, tells), present, np.ones_like(present), np.arange(N), ANY, 1)
    assert how.title == loud and how.loss in (HINGE, SQUARED_HINGE)


def test_what_is_said_is_not_chosen() -> None:
    """A loss that the config names stays, what is fixed stays, and with a logistic loss nothing is tried."""
    present = answers()
    about = titled(present, "title"), present, np.ones_like(present), np.arange(N)
    assert manner.chosen(*about, How(SQUARED_HINGE), 1).loss == SQUARED_HINGE
    assert manner.chosen(*about, ANY, 1, fixed=("title",)).title == How().title
    assert manner.chosen(*about, How(LOGISTIC, title=0.3), 1) == How(LOGISTIC, title=0.3)


def test_few_examples_choose_nothing() -> None:
    """With nine of an answer no head is looked at."""
    present = (np.arange(N) < 9).astype(np.float32)[:, None]
    refuse: Callable[[NDArray[np.int64], float], Seen] = lambda chosen, loud: pytest.fail("nothing should be fitted")  # noqa: E731
    assert manner.chosen(refuse, present, np.ones_like(present), np.arange(N), ANY, 1) == replace(ANY, loss=SQUARED_HINGE)


@pytest.mark.parametrize("share", [0.9, 0.06])
def test_many_rows_are_not_all_tried(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    """Ways are compared on a sample, which keeps rows of either answer."""
    monkeypatch.setattr(manner, "MAX_ROWS", 80)
    present, tried = answers(share), []
    seen = titled(present, "title")

    def noted(chosen: NDArray[np.int64], loud: float) -> Seen:
        tried.append(chosen)
        return seen(chosen, loud)

    weight = np.ones((N, 2), np.float32)
    manner.chosen(noted, np.hstack([present, answers(0.1)]), weight, np.arange(N), ANY, 1)
    assert tried and all(len(set(chosen.tolist())) == 80 for chosen in tried)
    assert all(min(present[chosen].sum(), (1 - present[chosen]).sum()) >= 10 for chosen in tried)


def test_margins_become_log_odds() -> None:
    """Of a hinge's scores from 0.8 on four in five are right, and without a scale a margin of -1 says the violation's share."""
    rng, present = np.random.default_rng(3), answers(0.3)
    words = (present * 1.5 + rng.normal(0, 1, (N, 20))).astype(np.float32)
    seen = Seen(csr_matrix(words), np.zeros((N, 1), np.float32))
    made = violations.fitted(seen, present, np.ones_like(present), np.arange(N), How(HINGE), is_scaled=False, folds=FOLDS)
    probs = 1 / (1 + np.exp(-made.logits))
    assert abs(probs.mean() - present.mean()) < 0.02 and present[probs >= 0.8].mean() >= 0.8 and made.error > 0


@pytest.mark.parametrize(("n_positive", "counts"), [(0, 1.0), (5, 1.0), (N, 1.0), (N - 5, 1.0), (5, 0.0)])
def test_a_head_without_a_scale_says_the_violations_share(n_positive: int, counts: float) -> None:
    """On average, whatever few answers are known, and is lowered most; half where nothing is known."""
    present = (np.arange(N) < n_positive).astype(np.float32)[:, None]
    words = np.random.default_rng(3).normal(0, 1, (N, 20)).astype(np.float32)
    seen = Seen(csr_matrix(words), np.zeros((N, 1), np.float32))
    made = violations.fitted(seen, present, present * 0 + counts, np.arange(N), How(HINGE), is_scaled=False, folds=FOLDS)
    share = (n_positive + 0.5) / (N + 1) if counts else 0.5
    assert made.logits.mean() == pytest.approx(np.log(share / (1 - share)), abs=0.2) and made.error == (
        MAX_ERROR if 0 < n_positive < N and counts else 0
    )


def test_copies_of_a_listing_count_once() -> None:
    """One listing that was put up ten times is one example of its violation; of copies the one that counts most is looked at."""
    present, groups = (np.arange(N) < 10).astype(np.float32)[:, None], np.maximum(np.arange(N), 9)
    weight = np.ones_like(present)
    weight[4] = 3
    alone = violations.one_of_each(groups, weight)
    assert len(alone) == N - 9 and 4 in alone and not known_heads(present[alone], weight[alone]).any()


def photographed() -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Photos of twelve features, a tenth of the listings without; the second violation shows in them, the first does not."""
    rng, present = np.random.default_rng(4), np.hstack([answers(), (np.random.default_rng(5).random((N, 1)) < 0.2)])
    photos = rng.normal(1, 1, (N, 12)).astype(np.float32)
    photos[:, 3] += 2 * present[:, 1]
    photos[::10] = 0
    return photos, present.astype(np.float32), FOLDS


def test_photos_count_where_they_tell() -> None:
    """And nowhere else, nor for a violation that nobody asks about."""
    photos, present, folds = photographed()
    offset, weight = np.full_like(present, -1.4), np.ones_like(present)
    weights, more = sight.added(photos, offset, present, weight, np.ones(2, bool), folds)
    assert not weights[:, 0].any() and weights[:, 1].argmax() == 3 and (more[::10] == 0).all()
    assert more[present[:, 1] > 0, 1].mean() > more[present[:, 1] == 0, 1].mean() + 0.5
    assert not sight.added(photos, offset, present, weight, np.zeros(2, bool), folds)[0].any()


def test_blank_photos_add_nothing() -> None:
    """No photo at all, one only, or the same one everywhere."""
    photos, present, folds = photographed()
    for one in (photos * 0, np.where(np.arange(N)[:, None] == 5, photos, 0), np.ones_like(photos)):
        weights, _ = sight.added(one, np.full_like(present, -1.4), present, np.ones_like(present), np.ones(2, bool), folds)
        assert np.isfinite(weights).all() and np.abs(one @ weights).max() < 0.5


def test_heads_without_photos_are_those_that_never_saw_one() -> None:
    """What words say is fitted before photos are looked at."""
    photos, present, _ = photographed()
    words = np.random.default_rng(6).normal(0, 1, (N, 8)).astype(np.float32)
    seen = Seen(csr_matrix(words), photos)
    blind = replace(seen, photos=photos * 0)
    heads = [
        violations.fitted(one, present, np.ones_like(present), np.arange(N), How(HINGE), is_scaled=False, folds=FOLDS).head
        for one in (seen, blind)
    ]
    assert np.array_equal(heads[0].logits(blind), heads[1].logits(blind)) and heads[0].photos[:, 1].any()


def test_numbers_say_nothing(tmp_path: Path) -> None:
    """Price, lengths and the number of photos have no weight: who lost the photos is answered as who never had any."""
    made = table(tmp_path, CONFIG)
    detector = loop.fit(made, rows(48), rows(0), config=CONFIG).detector
    assert detector.text.direct.any() and not detector.violation.weight[:, detector.stem.width :].any()


def test_a_head_is_known_by_ten_of_either_answer() -> None:
    """Rows that do not count are none."""
    present = np.array([[1, 1, 1]] * 10 + [[0, 0, 0]] * 10, np.float32)
    weight = np.ones_like(present)
    weight[0, 1], weight[19, 2] = 0, 0
    assert known_heads(present, weight).tolist() == [True, False, False]


def test_loudness_is_kept_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector of stored weights, and the exported file, answer as the one that was fitted; only titles are louder."""
    monkeypatch.setattr(manner, "TRIED", {**manner.TRIED, "title": (0.8,)})
    made, files = table(tmp_path, CONFIG), FileStore(tmp_path / "files")
    detector = loop.fit(made, rows(48), rows(0), config=CONFIG).detector.eval()
    again = Detector(CONFIG, made.shape, made.targets.classes, 2, made.n_ids, made.stem)
    again.load_state_dict(detector.state_dict())
    batch = made.batch(rows(48))
    assert torch.equal(again.eval()(batch)[1], detector(batch)[1])
    loud = [0.8 if at == TITLE_CHARACTERS else usual for at, usual in enumerate(DIRECT_SCALE)]
    assert again.text.direct_scale.tolist() == pytest.approx(loud)
    artifact = onnx.export(detector, files, shape=SHAPE, classes=made.targets.classes, violations=POLICY, report={})
    scorer = Scorer.load(files, artifact.onnx_sha256, artifact.sidecar_sha256)
    assert onnx.difference(scorer, detector, made.features, rows(48)) < onnx.TOLERANCE


def test_an_unknown_loss_is_refused() -> None:
    """With the ones there are."""
    with pytest.raises(ConfigError, match=r"violation_loss='huber'.*squared_hinge"):
        replace(CONFIG, violation_loss="huber")
