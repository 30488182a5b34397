"""Which categories mislead sellers, and what to do about it: merges and splits with listings as examples."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from curation.errors import NotFoundError, shorten
from curation.quality import breadth, confusions
from curation.quality.breadth import Breadth, by_label
from curation.quality.confusions import CatchAll, Confusion, Findings
from curation.quality.groups import find_title_groups
from curation.quality.metrics import Estimate, share
from curation.review.judged import Judged
from curation.store.tables import ListingRow
from curation.store.taxonomy import chunks
from curation.store.workspace import Workspace
from curation.types import PATH_SEPARATOR

NOT_ESTIMABLE = "not estimable"
N_EXAMPLES = 3
MIN_AUDITED = 30
"""With fewer decided listings of the audit sample, the model's own estimate of the noise is taken."""

MAX_TITLED = 100
"""Categories whose titles are grouped, the largest first: about 0.1 s each."""

MAX_TITLES = 2000


@dataclass(frozen=True, slots=True)
class Row:
    """One category; its figures are empty where too few predicted listings bear the label."""

    category: str
    n: int  #: predicted listings that bear the label
    figures: breadth.Category
    audit: Estimate | None  #: share of its audited listings, as the seller placed them, that moderators moved
    confused_with: tuple[str, ...]  #: mutual confusions, most listings first

    @property
    def state(self) -> str:
        """`broad`, `usual` or `not estimable`."""
        if self.figures.entropy is None:
            return NOT_ESTIMABLE
        return "broad" if self.figures.is_broad else "usual"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two categories that the model takes for each other."""

    a: str
    b: str
    found: Confusion
    examples: tuple[str, ...]  #: refs of listings in a that look like b, the clearest first
    examples_back: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Some of a category's listings that belong together: those put into another category, or alike by title."""

    name: str
    n: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """A category that is several. `kind`: `elsewhere` (its listings go to many others) or `titles` (groups of words)."""

    category: str
    kind: str
    n: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Broad categories first, then by entropy; categories that are not estimable last."""

    run_id: int
    n_listings: int  #: labelled and predicted
    noise: float  #: rate of wrong labels that the findings go beyond
    noise_from: str  #: `audit` (upper end of its interval) or `model` (the median category)
    rows: tuple[Row, ...]
    confusions: tuple[Pair, ...]
    splits: tuple[Split, ...]

    @property
    def merges(self) -> tuple[Pair, ...]:
        """The confusions that wrong labels cannot explain."""
        return tuple(pair for pair in self.confusions if pair.found.is_merge)


def report(workspace: Workspace, judged: Judged, root: str | None = None) -> Report:
    """Broad categories, mutual confusions, merges and splits, of the whole catalog or under `root`.

    Everything is measured over the whole catalog; `root` (a path) only chooses what is told. Raises NotFoundError where
    no category lies there.
    """
    labels = judged.labels()
    measured = breadth.measure(labels, judged.oos, verified=judged.verified_rows())
    rate, source = _noise(judged, measured)
    found = confusions.find(labels, judged.oos, measured, noise=rate)
    shown = _under(root, _paths(judged))
    rows_of = by_label(labels, len(judged.oos.classes))
    pairs = tuple(_pairs(judged, measured, found, rows_of, shown))
    splits = (
        *_catch_alls(judged, measured, found.catch_alls, rows_of, shown),
        *_titled(workspace, judged, measured, rows_of, shown),
    )
    rows = sorted(_rows(judged, measured, pairs, shown), key=_order)
    return Report(judged.run_id, int((labels >= 0).sum()), rate, source, tuple(rows), pairs, splits)


def _noise(judged: Judged, measured: Breadth) -> tuple[float, str]:
    audit = judged.audit
    if audit is not None and audit.n >= MIN_AUDITED:
        return audit.high, "audit"
    return (measured.noise if np.isfinite(measured.noise) else 0.0), "model"


def _paths(judged: Judged) -> frozenset[str]:
    """Every category that a listing bears or that the run knows."""
    return frozenset(judged.oos.classes) | {path for path in judged.label if path is not None}


def _under(root: str | None, paths: frozenset[str]) -> frozenset[str]:
    if root is None:
        return paths
    found = frozenset(path for path in paths if path == root or path.startswith(root + PATH_SEPARATOR))
    if not found:
        roots = sorted({path.split(PATH_SEPARATOR)[0] for path in paths})
        raise NotFoundError(f"no category lies under {shorten(root)}; the roots are {shorten(', '.join(roots), 300)}")
    return found


def _rows(judged: Judged, measured: Breadth, pairs: tuple[Pair, ...], shown: frozenset[str]) -> Iterator[Row]:
    figures = dict(zip(judged.oos.classes, measured.categories, strict=True))
    audits = _audits(judged)
    partners: dict[str, list[str]] = {}
    for pair in pairs:
        partners.setdefault(pair.a, []).append(pair.b)
        partners.setdefault(pair.b, []).append(pair.a)
    for path in shown:
        one = figures.get(path, breadth.Category(-1, 0))
        yield Row(path, one.n, one, audits.get(path), tuple(partners.get(path, ())))


def _audits(judged: Judged) -> dict[str, Estimate | None]:
    """By the seller's category."""
    counts: dict[str, list[int]] = {}
    wrong = judged.is_wrong
    for i in np.flatnonzero(judged.is_decided):
        held = counts.setdefault(judged.given[i] or "", [0, 0])
        held[0] += int(wrong[i])
        held[1] += 1
    return {path: share(*held) for path, held in counts.items()}


def _order(row: Row) -> tuple[int, float, int, str]:
    entropy = row.figures.entropy
    return ("broad", "usual", NOT_ESTIMABLE).index(row.state), -entropy.value if entropy else 0.0, -row.n, row.category


def _pairs(
    judged: Judged, measured: Breadth, found: Findings, rows_of: list[NDArray[np.int64]], shown: frozenset[str]
) -> Iterator[Pair]:
    classes = judged.oos.classes
    for one in found.confusions:
        if classes[one.a] in shown or classes[one.b] in shown:
            there = _examples(judged, measured, rows_of[one.a], one.b)
            back = _examples(judged, measured, rows_of[one.b], one.a)
            yield Pair(classes[one.a], classes[one.b], one, there, back)


def _examples(judged: Judged, measured: Breadth, rows: NDArray[np.int64], into: int) -> tuple[str, ...]:
    """Refs of those of the rows that are put into class `into`, the surest first."""
    mine = rows[measured.best[rows] == into]
    order = np.argsort(-judged.oos.pred_probs[mine, into], kind="stable")[:N_EXAMPLES]
    return tuple(judged.oos.refs[row] for row in mine[order])


def _catch_alls(
    judged: Judged, measured: Breadth, found: tuple[CatchAll, ...], rows_of: list[NDArray[np.int64]], shown: frozenset[str]
) -> Iterator[Split]:
    classes = judged.oos.classes
    for one in found:
        if classes[one.index] in shown:
            mine = rows_of[one.index]
            parts = tuple(
                Part(classes[to.index], round(to.share.value * to.share.n), _examples(judged, measured, mine, to.index))
                for to in one.targets
            )
            yield Split(classes[one.index], "elsewhere", one.elsewhere.n, parts)


def _titled(
    workspace: Workspace, judged: Judged, measured: Breadth, rows_of: list[NDArray[np.int64]], shown: frozenset[str]
) -> Iterator[Split]:
    """Estimable categories whose titles fall into groups; 2,000 titles of each are read."""
    thick = [one for one in measured.estimable if judged.oos.classes[one.index] in shown]
    id_of = np.full(len(judged.oos.refs), -1, dtype=np.int64)
    there = judged.row >= 0
    id_of[judged.row[there]] = judged.ids[there]
    for one in sorted(thick, key=lambda one: -one.n)[:MAX_TITLED]:
        rng = np.random.default_rng([workspace.settings.seed, one.index])
        rows = np.sort(rng.permutation(rows_of[one.index])[:MAX_TITLES])
        titles = _titles(workspace, id_of[rows])
        groups = find_title_groups([titles.get(int(i), "") for i in id_of[rows]], rng=rng)
        parts = tuple(
            Part(", ".join(group.words), len(group.rows), tuple(judged.oos.refs[rows[i]] for i in group.rows[:N_EXAMPLES]))
            for group in groups
        )
        if parts:
            yield Split(judged.oos.classes[one.index], "titles", one.n, parts)


def _titles(workspace: Workspace, ids: NDArray[np.int64]) -> dict[int, str]:
    found: dict[int, str] = {}
    with workspace.db.read() as session:
        for part in chunks(ids.tolist()):
            rows = session.execute(select(ListingRow.id, ListingRow.title).where(ListingRow.id.in_(part)))
            found.update((row.id, row.title) for row in rows)
    return found
