"""How sellers mislabel: which categories, how often, and where those listings belong. From the newest run's predictions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from curation.errors import NotFoundError, shorten
from curation.quality.expected import ExpectedNoise
from curation.quality.issues import find_category_issues
from curation.quality.metrics import Estimate
from curation.quality.noise import NotEstimable
from curation.quality.sellers import Sellers
from curation.quality.validate import UNLABELLED
from curation.review.judged import Judged
from curation.store.tables import ListingRow
from curation.store.workspace import Workspace
from curation.types import PATH_SEPARATOR

MIN_WRONG = 0.5
"""Expected wrong labels from which on a confusion is told."""


@dataclass(frozen=True, slots=True)
class Target:
    """A category that some of another's listings belong in."""

    category: str
    n_wrong: float  #: expected number of them
    rate: Estimate | None  #: of the other's listings; None where that is not estimable


@dataclass(frozen=True, slots=True)
class Row:
    """One category as sellers gave it."""

    category: str
    n: int  #: predicted listings that sellers put there
    n_wrong: float  #: expected number of them that belong elsewhere
    rate: Estimate | None
    why_not: NotEstimable | None  #: why there is no rate
    targets: tuple[Target, ...]  #: most listings first


@dataclass(frozen=True, slots=True)
class Report:
    """Categories by falling number of wrong labels; those that are not estimable last."""

    run_id: int
    n_listings: int  #: labelled by sellers and predicted
    n_decided: int  #: of these, how many moderators decided
    overall: Estimate | None  #: share of wrong labels, by the model and the moderators' decisions
    audit: Estimate | None  #: by the uniform audit sample alone: unbiased
    rows: tuple[Row, ...]


def report(workspace: Workspace, judged: Judged, root: str | None = None) -> Report:
    """The noise matrix of the whole catalog, told for the categories under `root` (a path).

    Each listing counts under the category its seller gave. Where moderators decided, their word says whether that was wrong and
    where it belongs; elsewhere the probability that it is wrong counts, for the model's best other category. Raises
    NotFoundError where no category lies under `root`.
    """
    given, known = _given(judged), judged.verified_rows()
    labels = judged.labels()
    sellers = Sellers(_sellers(workspace, judged), known & (given != labels))
    issues = find_category_issues(np.where(known, labels, given), judged.oos, verified=known, sellers=sellers)
    wrong = np.where(known, (given != labels).astype(np.float64), issues.wrong)
    noise = ExpectedNoise.of(given, np.where(known, labels, issues.other), wrong, len(judged.oos.classes))
    shown = _under(root, judged.oos.classes)
    rows = sorted(_rows(noise, judged.oos.classes, shown), key=lambda row: (row.rate is None, -row.n_wrong, row.category))
    overall = noise.overall
    n_decided = int((known & (given != UNLABELLED)).sum())
    return Report(judged.run_id, overall.n if overall else 0, n_decided, overall, judged.audit, tuple(rows))


def _given(judged: Judged) -> NDArray[np.int64]:
    """(N,) class index of what the seller of each row of `oos` said; -1 = nothing that the run knows."""
    index = {path: k for k, path in enumerate(judged.oos.classes)}
    found = np.full(len(judged.oos.refs), UNLABELLED, dtype=np.int64)
    there = np.flatnonzero(judged.row >= 0)
    found[judged.row[there]] = [index.get(judged.given[i] or "", UNLABELLED) for i in there]
    return found


def _sellers(workspace: Workspace, judged: Judged) -> NDArray[np.int64]:
    """(N,) whose listing each row of `oos` is, counted from 0; -1 = unknown."""
    with workspace.db.read() as session:
        pairs = session.execute(select(ListingRow.id, ListingRow.seller_ref).where(ListingRow.seller_ref.is_not(None)))
        seller_of: dict[int, str] = {row.id: row.seller_ref for row in pairs}
    number: Mapping[str, int] = {name: i for i, name in enumerate(dict.fromkeys(seller_of.values()))}
    found = np.full(len(judged.oos.refs), -1, dtype=np.int64)
    there = np.flatnonzero(judged.row >= 0)
    found[judged.row[there]] = [number.get(seller_of.get(int(judged.ids[i]), ""), -1) for i in there]
    return found


def _under(root: str | None, paths: tuple[str, ...]) -> frozenset[str]:
    if root is None:
        return frozenset(paths)
    found = frozenset(path for path in paths if path == root or path.startswith(root + PATH_SEPARATOR))
    if not found:
        roots = sorted({path.split(PATH_SEPARATOR)[0] for path in paths})
        raise NotFoundError(f"no category lies under {shorten(root)}; the roots are {shorten(', '.join(roots), 300)}")
    return found


def _rows(noise: ExpectedNoise, classes: tuple[str, ...], shown: frozenset[str]) -> list[Row]:
    targets: dict[int, list[Target]] = {}
    for one in noise.confusions(MIN_WRONG):
        targets.setdefault(one.given, []).append(Target(classes[one.suggested], one.n_wrong, one.rate))
    return [
        Row(
            path,
            int(noise.n_labels[k]),
            float(noise.n_wrong[k]),
            noise.rate(k),
            noise.why_not(k),
            tuple(targets.get(k, ())),
        )
        for k, path in enumerate(classes)
        if path in shown
    ]
