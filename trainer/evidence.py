"""What the labels of the training rows probably should be, before anything is trained on them."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from curation.quality import channel
from curation.quality.channel import Posterior, Said, View
from curation.types import PATH_SEPARATOR
from trainer import probe
from trainer.data import Rows, Table

N_FOLDS = 5
N_CANDIDATES = 32
MIN_PROBABILITY = 1e-9
Floats = NDArray[np.float64]

TEXT_VIEWS = {"title": (0, 1), "description": (2, 3), "words": (4,), "attributes": (5,)}
"""Which blocks of n-grams each view reads."""

PHOTO, DETECTOR = "photo", "detector"
SAID = ("text", PHOTO)
"""Whose opinions people are told."""

Alone = tuple[Rows, Floats]
"""(N,) class that is likeliest by this alone, -1 = it knows nothing; (N,) how probable it is by it."""

WEIGHT = {"title": 1.0, "description": 1.0, "words": 0.5, "attributes": 0.3, PHOTO: 1.0}
"""Of the views where they are added up as they are."""

TEXT_SCALES = (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.5, 5.0, np.inf)
PHOTO_SCALES = (0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, np.inf)
DETECTOR_SCALES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, np.inf)
UNTOLD_SCALES = (0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.5, np.inf)
"""Without enough decisions the text views are one, and taken to be no sharper than the first: what was said would be
more likely still, and their own errors be taken for sellers'. On real ads they then saw twice the noise."""

UNTOLD_DOUBT = 0.8
"""Before moderators decided anything, what is less probably wrong than this is taken as it was said."""


def said_of(table: Table, rows: Rows) -> Said:
    """What sellers said and moderators decided about these rows."""
    wanted = table.targets
    truth = np.where(wanted.is_verified[rows, 0], wanted.category[rows], -1)
    return Said(wanted.said[rows], wanted.seller[rows], truth.astype(np.int64))


def posterior(table: Table, train: Rows, judging: Rows | None = None) -> Posterior:
    """Of the training rows of a table that is weighed: probes by grouped folds, read through the noise channel.

    `judging`: rows that the probes do not learn from; what moderators decided about them tells how far to trust the
    probes. They follow the training rows in the result.
    """
    rows = train if judging is None else np.concatenate([train, judging])
    said = said_of(table, rows)
    classes, scores = _scores(table, rows, said, np.arange(len(rows)) < len(train))
    return channel.read(_views(scores, said), classes, said, roots_of(table.targets.classes))


def opinion(
    table: Table, probs: NDArray[np.floating], drawn: NDArray[np.bool_] | None = None
) -> tuple[Rows, Floats, NDArray[np.bool_], dict[str, Alone]]:
    """(N,) class that each label should most probably be changed to, how probably that is right, and whether views agree.

    Beside these what text and photo each say alone, for people to read.

    probs : (N, K) out-of-sample probabilities of the detector for all rows of the table; with the probes they are read
    through the noise channel. No row's own decision is used. drawn : (N,) rows whose decisions will be asked how often the
    opinion is right: they do not tell how far to trust the views either. Views agree where the detector and the probes, each by
    itself, would choose that class of all others than the seller's; probes that know nothing of a row do not object.
    """
    rows = np.arange(len(table))
    said = said_of(table, rows)
    if drawn is not None:
        said = replace(said, truth=np.where(drawn, -1, said.truth))
    classes, scores = _scores(table, rows, said, np.ones(len(rows), bool), probs)
    views = [View(DETECTOR, scores.pop(DETECTOR), DETECTOR_SCALES), *_views(scores, said)]
    found = channel.read(views, classes, said, roots_of(table.targets.classes))
    is_said = classes == said.label[:, None]
    others = np.where(is_said, -1.0, found.unseen)
    best = others.argmax(1)
    may = np.ones(len(rows), bool)
    for part in (views[:1], views[1:]):
        known = np.sum([view.scores / found.scales[view.name] for view in part], axis=0)
        choice = np.where(is_said, -np.inf, known).argmax(1)
        may &= (choice == best) | (np.ptp(known, axis=1) == 0)
    alone = {
        name: _alone(classes, [view for view in views[1:] if (view.name == PHOTO) is (name == PHOTO)], found) for name in SAID
    }
    return classes[rows, best], np.clip(others[rows, best], 0.0, 1.0), may, alone


def _alone(classes: Rows, views: list[View], found: Posterior) -> Alone:
    """What these views say together, at the scales that were found for them."""
    known = np.sum([view.scores / found.scales[view.name] for view in views], axis=0)
    p = softmax(known, axis=1)
    best = p.argmax(1)
    rows = np.arange(len(classes))
    return np.where(np.ptp(known, axis=1) > 0, classes[rows, best], -1), p[rows, best]


def _scores(
    table: Table, rows: Rows, said: Said, fits: NDArray[np.bool_], probs: NDArray[np.floating] | None = None
) -> tuple[Rows, dict[str, Floats]]:
    """(n, k) candidates of these rows, and what each view says of them (n, k); a few thousand rows at a time are dense.

    fits : (n,) the probes learn from these.
    """
    wanted = table.targets
    labels = np.where(fits, np.where(said.truth >= 0, said.truth, said.label), -1)
    folds, n_classes = _folds(wanted.group[rows]), len(wanted.classes)
    probes = {name: probe.text_scores(table.sparse(rows, _blocks(name)), labels, folds, n_classes) for name in TEXT_VIEWS}
    probes[PHOTO] = probe.photo_scores(table.photos(rows), labels, folds, n_classes)
    k = min(N_CANDIDATES, n_classes)
    classes: Rows = np.zeros((len(rows), k), np.int64)
    found: dict[str, Floats] = {name: np.zeros((len(rows), k)) for name in (*probes, *([] if probs is None else [DETECTOR]))}
    for parts in zip(*probes.values(), strict=True):
        held, dense = parts[0][0], dict(zip(probes, (part for _, part in parts), strict=True))
        leading = sum(WEIGHT[name] * scores for name, scores in dense.items())
        if probs is not None:
            leading = dense[DETECTOR] = np.log(np.maximum(probs[held].astype(np.float64), MIN_PROBABILITY))
        classes[held] = channel.candidates(leading, said.of(held), k)
        for name, scores in dense.items():
            found[name][held] = np.take_along_axis(scores, classes[held], 1)
    return classes, found


def _views(scores: dict[str, Floats], said: Said) -> list[View]:
    """The probes' views; without enough decisions to tell how sharp each is, those of the text are one."""
    photo = View(PHOTO, scores[PHOTO], PHOTO_SCALES)
    if said.tells_scales:
        return [*(View(name, scores[name], TEXT_SCALES) for name in TEXT_VIEWS), photo]
    return [View("text", np.sum([WEIGHT[name] * scores[name] for name in TEXT_VIEWS], axis=0), UNTOLD_SCALES), photo]


def _blocks(view: str) -> torch.Tensor:
    """(n_blocks,) 1 where the view reads the block."""
    return torch.tensor([float(block in TEXT_VIEWS[view]) for block in range(1 + max(map(max, TEXT_VIEWS.values())))])


def roots_of(classes: tuple[str, ...]) -> Rows:
    """(K,) number of each class's branch; all one branch where there is no tree."""
    names = [path.split(PATH_SEPARATOR)[0] for path in classes]
    _, found = np.unique(names, return_inverse=True)
    return np.zeros(len(names), np.int64) if len(set(names)) == len(names) else found.astype(np.int64)


def _folds(groups: Rows) -> Rows:
    """Whole groups, dealt out at random; the same for the same groups."""
    names, numbered = np.unique(groups, return_inverse=True)
    return np.asarray(np.random.default_rng(len(names)).permutation(len(names)) % N_FOLDS, np.int64)[numbered]
