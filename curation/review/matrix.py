"""The noise matrix of one branch of the taxonomy: given → true, by moderators' decisions and by the model's estimate."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from curation.quality.metrics import Estimate, share
from curation.review.branches import child, lies_under
from curation.review.decisions import Pair

ELSEWHERE = ""
"""Stands for everything outside the branch, among true categories."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Labels of one category that are wrong by the model's estimate, and where they belong."""

    category: str
    n: int  #: predicted listings that sellers put there
    n_wrong: float
    targets: tuple[tuple[str, float], ...]  #: (true, expected number)


@dataclass(frozen=True, slots=True)
class Cell:
    """Listings given into one child of the branch that belong in another, or stay in it."""

    given: str
    true: str  #: ELSEWHERE: outside the branch
    n: int  #: decided by moderators
    n_audit: int
    audit: Estimate | None  #: share of the given child's audited listings
    n_expected: float | None  #: by the model, over all predicted listings; None without an estimate
    expected: Estimate | None  #: share of the given child's listings

    @property
    def is_wrong(self) -> bool:
        """The listings left the child."""
        return self.given != self.true


@dataclass(frozen=True, slots=True)
class Row:
    """One child of the branch. What is wrong is any label whose leaf is another, within the child too."""

    category: str
    n: int  #: decided
    n_wrong: int
    audit: Estimate | None
    n_listings: int | None  #: predicted by the newest run
    expected: Estimate | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows by their names, cells by their number, and the whole branch as a row."""

    branch: str
    total: Row
    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]


def of(branch: str, pairs: Iterable[Pair], expected: Sequence[Expected] | None = None) -> Matrix:
    """Fold (given, true) pairs of leaves into the children of the branch; `expected` None where there is no estimate."""
    mine = [pair for pair in pairs if lies_under(pair.given, branch)]
    guessed = None if expected is None else [one for one in expected if lies_under(one.category, branch) and one.n]
    names = sorted({child(pair.given, branch) for pair in mine} | {child(one.category, branch) for one in guessed or ()})
    rows = tuple(_row(name, *_under(name, branch, mine, guessed)) for name in names)
    cells = _cells(branch, mine, guessed)
    columns = sorted({cell.true for cell in cells} | set(names), key=lambda name: (name == ELSEWHERE, name))
    return Matrix(branch, _row(branch, mine, guessed), rows, tuple(columns), cells)


def _under(
    name: str, branch: str, pairs: Sequence[Pair], expected: Sequence[Expected] | None
) -> tuple[list[Pair], list[Expected] | None]:
    held = [pair for pair in pairs if child(pair.given, branch) == name]
    return held, None if expected is None else [one for one in expected if child(one.category, branch) == name]


def _row(name: str, pairs: Sequence[Pair], expected: Sequence[Expected] | None) -> Row:
    wrong = [pair for pair in pairs if pair.given != pair.true]
    audit = share(sum(pair.n_audit for pair in wrong), sum(pair.n_audit for pair in pairs))
    n_listings = None if expected is None else sum(one.n for one in expected)
    guess = None if not expected or not n_listings else _share(sum(one.n_wrong for one in expected), n_listings)
    return Row(name, sum(pair.n for pair in pairs), sum(pair.n for pair in wrong), audit, n_listings, guess)


def _cells(branch: str, pairs: Sequence[Pair], expected: Sequence[Expected] | None) -> tuple[Cell, ...]:
    counts: Counter[tuple[str, str]] = Counter()
    audited: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        key = child(pair.given, branch), _place(pair.true, branch)
        counts[key] += pair.n
        audited[key] += pair.n_audit
    of_row: Counter[str] = Counter()
    for (given, _), n in audited.items():
        of_row[given] += n
    guessed, sizes = _guessed(branch, expected)
    keys = set(counts) | set(guessed or ())
    cells = [
        Cell(
            *key,
            counts[key],
            audited[key],
            share(audited[key], of_row[key[0]]),
            None if guessed is None else guessed.get(key, 0.0),
            None if guessed is None else _share(guessed.get(key, 0.0), sizes.get(key[0], 0)),
        )
        for key in keys
    ]
    return tuple(sorted(cells, key=lambda cell: (-cell.n, -(cell.n_expected or 0.0), cell.given, cell.true)))


def _guessed(branch: str, expected: Sequence[Expected] | None) -> tuple[dict[tuple[str, str], float] | None, Mapping[str, int]]:
    """Expected listings of each cell, and listings of each row; what is not known to leave a child stays in it."""
    if expected is None:
        return None, {}
    found: dict[tuple[str, str], float] = {}
    sizes: Counter[str] = Counter()
    for one in expected:
        given = child(one.category, branch)
        sizes[given] += one.n
        stays = float(one.n)
        for true, n in one.targets:
            to = _place(true, branch)
            if to != given:
                found[given, to] = found.get((given, to), 0.0) + n
                stays -= n
        found[given, given] = found.get((given, given), 0.0) + max(stays, 0.0)
    return found, sizes


def _place(true: str, branch: str) -> str:
    return child(true, branch) if lies_under(true, branch) else ELSEWHERE


def _share(k: float, n: int) -> Estimate | None:
    return share(min(max(k, 0.0), n), n)
