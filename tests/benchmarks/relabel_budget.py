"""How many answers it takes: label noise left and model accuracy by answers bought, for five ways to choose what to ask.

Real ads (level 2 of their category) with added sibling noise, and the generated catalog. In each round a text model (TF-IDF and
complement naive Bayes, tempered to the labels) is trained anew on the labels as they are and predicts each near-duplicate
group out-of-sample; each way then buys its share of answers from moderators who are right in 95 % of the cases and else name
a sibling. What people say replaces the seller's label, by majority, ties as the model leans; that is the same for all ways.
Accuracy is that of the out-of-sample predictions. Sellers' own errors in the ads (about 6 %) count as right.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.relabel_budget --data ../shared/data/gumtree --plot relabel_budget.svg
"""

import argparse
import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.multiannotator import get_active_learning_scores
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import ComplementNB

from curation.catalog import sample
from curation.quality import value
from curation.quality.activelab import activelab
from curation.quality.issues import find_category_issues
from curation.quality.validate import OutOfSample
from curation.quality.votes import Votes, believe, gather
from tests.benchmarks.label_issues import _ads, inject
from tests.benchmarks.sample_floor import read

FOLDS = 4
SHARES = (0.0, 0.05, 0.10, 0.15, 0.20, 0.25)
ACCURACY = 0.95
N_PEOPLE = 4
SELLER = N_PEOPLE
"""Index of the sellers among the sources of votes."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """N listings; classes are indices."""

    name: str
    features: Any  #: (N, D) sparse
    true: Ints
    given: Ints  #: what sellers said
    groups: NDArray[Any]
    roots: NDArray[np.str_]  #: (K,) first name of each category
    splits: list[tuple[Ints, Ints]]

    @property
    def k(self) -> int:
        return len(self.roots)


@dataclass
class State:
    """What is known after some answers."""

    problem: Problem
    rng: np.random.Generator
    items: list[int] = field(default_factory=list)
    people: list[int] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    probs: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def n_answers(self) -> Ints:
        """(N,) people who have answered."""
        return np.bincount(self.items, minlength=len(self.problem.given)).astype(np.int64)

    def labels(self) -> Ints:
        """(N,) majority of the people, ties as the model leans; the seller's where nobody was asked."""
        found = self.problem.given.copy()
        asked = np.flatnonzero(self.n_answers)
        counts = np.zeros((len(found), self.problem.k))
        np.add.at(counts, (self.items, self.said), 1)
        lean = 0.0 if not self.probs.size else 0.5 * self.probs[asked]
        found[asked] = (counts[asked] + (counts[asked] > 0) * lean).argmax(axis=1)
        return found

    def votes(self, *, with_sellers: bool) -> Votes:
        n = len(self.problem.given)
        item, people, said = list(self.items), list(self.people), list(self.said)
        if with_sellers:
            item, people, said = item + list(range(n)), people + [SELLER] * n, said + self.problem.given.tolist()
        return gather(item, people, said, (n, N_PEOPLE + 1, self.problem.k))

    def ask(self, rows: Ints) -> None:
        """One answer on each row, by somebody who has not answered it."""
        asked: dict[int, set[int]] = {}
        for row, person in zip(self.items, self.people, strict=True):
            asked.setdefault(row, set()).add(person)
        for row in rows.tolist():
            left = [person for person in range(N_PEOPLE) if person not in asked.get(row, ())]
            if left:
                self.items.append(row)
                self.people.append(int(self.rng.choice(left)))
                self.said.append(self._answer(row))

    def _answer(self, row: int) -> int:
        truth = int(self.problem.true[row])
        if self.rng.random() < ACCURACY:
            return truth
        near = np.flatnonzero((self.problem.roots == self.problem.roots[truth]) & (np.arange(self.problem.k) != truth))
        return int(self.rng.choice(near)) if len(near) else int((truth + 1) % self.problem.k)


def predict(problem: Problem, labels: Ints) -> Floats:
    """(N, K) out-of-sample, tempered so that the labels are most likely."""
    logs = np.full((len(labels), problem.k), -50.0)
    for train, test in problem.splits:
        model = ComplementNB(alpha=0.3).fit(problem.features[train], labels[train])
        scores = problem.features[test] @ model.feature_log_prob_.T
        logs[np.ix_(test, model.classes_)] = scores - scores.max(axis=1, keepdims=True)
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        scaled = logs * np.exp(log_t)
        return -float(np.mean(scaled[rows, labels] - np.log(np.exp(scaled).sum(axis=1))))

    sharpness = np.exp(minimize_scalar(loss, bounds=(-2, 4), method="bounded", options={"xatol": 0.02}).x)
    probs = np.exp(logs * sharpness)
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def lowest(score: Floats, n: int, rng: np.random.Generator) -> Ints:
    order: Ints = np.lexsort((rng.random(len(score)), score))
    return order[:n]


def by_value(state: State, n: int) -> Ints:
    """Ours: what `refurbish review select` does with its doubts and second opinions, without bounds on either."""
    return _by_value(state, n)


def by_value_once(state: State, n: int) -> Ints:
    """Ours without second opinions."""
    return _by_value(state, n, limit=0)


def by_value_alone(state: State, n: int) -> Ints:
    """Ours without what near-duplicates tell."""
    return _by_value(state, n, groups=False)


def by_value_unspread(state: State, n: int) -> Ints:
    """Ours without the spread over categories."""
    return _by_value(state, n, is_spread=False)


def _by_value(state: State, n: int, *, limit: int | None = None, groups: bool = True, is_spread: bool = True) -> Ints:
    wrong = value.with_group(doubted(state), *group_answers(state)) if groups else doubted(state)
    votes = state.votes(with_sellers=True)
    verdict = value.judge(votes, believe(state.probs))
    accuracy = float(np.average(verdict.accuracy[:N_PEOPLE], weights=1 + np.bincount(state.people, minlength=N_PEOPLE)))
    believed = np.zeros((2, len(wrong)))  # that the seller is wrong, that the person is
    believed[(votes.annotator != SELLER).astype(int), votes.item] = 1 - verdict.right
    answers = state.n_answers
    new = lowest(np.where(answers == 0, -wrong, np.inf), int((answers == 0).sum()), state.rng)
    worth = value.first_answer(value.in_order(believed[0, new]), accuracy)
    if is_spread:
        order = np.argsort(-value.spread(worth, state.probs[new].argmax(axis=1), n), kind="stable")
        new, worth = new[order], value.in_order(worth[order])
    again = np.flatnonzero(answers == 1)
    second = value.second_answer(believed[1, again], accuracy)
    best = np.argsort(-second, kind="stable")
    n_again = value.n_second(worth, second[best], n, len(again) if limit is None else limit)
    return np.concatenate([again[best[:n_again]], new[: n - n_again]])


def doubted(state: State) -> Floats:
    """(N,) doubt about the labels held now, as the suspects are ranked."""
    labels = state.labels()
    names = tuple(str(k) for k in range(state.problem.k)), tuple(str(i) for i in range(len(labels)))
    oos = OutOfSample(state.probs, *names, np.zeros(len(labels), dtype=int))
    return np.asarray(1 - find_category_issues(labels, oos, verified=state.n_answers > 0).score)


def group_answers(state: State) -> tuple[Ints, Ints]:
    """(N,) near-duplicates that people gave this listing's label, and another one."""
    group = np.unique(state.problem.groups, return_inverse=True)[1]
    asked = np.flatnonzero(state.n_answers)
    said = np.zeros((group.max() + 1, state.problem.k), dtype=np.int64)
    np.add.at(said, (group[asked], state.labels()[asked]), 1)
    same = said[group, state.problem.given]
    return same, said[group].sum(axis=1) - same


def by_random(state: State, n: int) -> Ints:
    free = state.rng.permutation(np.flatnonzero(state.n_answers == 0))
    return free[:n]


def by_entropy(state: State, n: int) -> Ints:
    """Uncertainty sampling, of what nobody has been asked about."""
    probs = np.maximum(state.probs, 1e-12)
    entropy = -(probs * np.log(probs)).sum(axis=1)
    return lowest(np.where(state.n_answers == 0, -entropy, np.inf), n, state.rng)


def by_activelab(state: State, n: int) -> Ints:
    """ActiveLab with the sellers as one more annotator."""
    return lowest(activelab(state.votes(with_sellers=True), believe(state.probs)).score, n, state.rng)


def by_cleanlab(state: State, n: int) -> Ints:
    """The same by cleanlab."""
    votes = state.votes(with_sellers=True)
    table = np.full((len(state.problem.given), N_PEOPLE + 1), np.nan)
    table[votes.item, votes.annotator] = votes.label
    used = table[:, ~np.isnan(table).all(axis=0)]
    if used.shape[1] == 1:
        return by_activelab(state, n)  # one annotator: cleanlab takes no table of one column
    with contextlib.redirect_stdout(io.StringIO()):  # it prints which classes nobody was given
        scores = get_active_learning_scores(used, state.probs)[0]
    return lowest(np.asarray(scores), n, state.rng)


WAYS: dict[str, Callable[[State, int], Ints]] = {
    "ours": by_value,
    "ours, no second opinions": by_value_once,
    "ours, no near-duplicates": by_value_alone,
    "ours, no spread": by_value_unspread,
    "ActiveLab, ours": by_activelab,
    "ActiveLab, cleanlab": by_cleanlab,
    "uncertainty": by_entropy,
    "random": by_random,
}
SHOWN = {
    "ours": "#0b6e4f",
    "ActiveLab, ours": "#3d5a98",
    "ActiveLab, cleanlab": "#8aa0cf",
    "uncertainty": "#c0392b",
    "random": "#555",
}
"""Ways in the plot, and their colours."""


def curve(problem: Problem, way: Callable[[State, int], Ints], seed: int) -> tuple[list[float], list[float]]:
    state = State(problem, np.random.default_rng(seed))
    noise, accuracy = [], []
    n = len(problem.given)
    for before, share in zip(SHARES, [*SHARES[1:], None], strict=True):
        state.probs = predict(problem, state.labels())
        noise.append(float((state.labels() != problem.true).mean()))
        accuracy.append(float((state.probs.argmax(axis=1) == problem.true).mean()))
        if share is not None:
            state.ask(way(state, round(share * n) - round(before * n)))
    return noise, accuracy


def ads_problem(folder: Path, noise: float, seed: int) -> Problem:
    ads = _ads(folder)
    classes, true = np.unique(ads["path"], return_inverse=True)
    roots = [path.split(" / ")[0] for path in classes]
    given = inject(true, roots, noise, np.random.default_rng(seed))
    texts = ads["title"] + " " + ads["description"]
    return _problem("real ads", list(texts), true, given, ads["cluster"].astype(str).to_numpy(), np.array(roots))


def sample_problem(n: int, noise: float, seed: int) -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        sample.generate(Path(folder), n=n, seed=seed + 1, noise=noise, photos=False)
        catalog = read(Path(folder), with_attributes=False)
    classes, index = np.unique(np.concatenate([catalog.true, catalog.given]), return_inverse=True)
    roots = np.array([path.split(" / ")[0] for path in classes])
    half = len(catalog.true)
    return _problem("sample catalog", catalog.texts, index[:half], index[half:], catalog.groups, roots)


def _problem(name: str, texts: list[str], true: Ints, given: Ints, groups: NDArray[Any], roots: NDArray[np.str_]) -> Problem:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=12_000, sublinear_tf=True)
    features = vectorizer.fit_transform(texts)
    return Problem(name, features, true, given, groups, roots, list(GroupKFold(FOLDS).split(features, given, groups)))


def compare(problems: list[Problem], ways: list[str]) -> dict[str, NDArray[np.float64]]:
    """Way → (2, 6) mean noise left and accuracy over the problems; prints the table."""
    found = {}
    for way in ways:
        runs = np.array([curve(problem, WAYS[way], seed) for seed, problem in enumerate(problems)])
        found[way] = runs.mean(axis=0)
    for at, what in enumerate(("noise left", "accuracy")):
        print(f"\n{what:<26}" + "".join(f"{share:>8.0%}" for share in SHARES) + "    area  answers")
        for way, curves in found.items():
            area = float(np.trapezoid(curves[at], SHARES) / SHARES[-1])
            row = "".join(f"{y:>8.3f}" for y in curves[at])
            print(f"{way:<26}{row}{area:>8.3f}  {needed(curves[at], found['random'][at]):>7}")
    return found


def needed(ours: Floats, random: Floats) -> str:
    """How many of random's answers give what all of random's answers gave, by straight lines between the rounds."""
    sign = np.sign(random[-1] - random[0])
    best = np.maximum.accumulate(sign * ours)
    if best[-1] < sign * random[-1]:
        return "> 100 %"
    return f"{np.interp(sign * random[-1], best, SHARES) / SHARES[-1]:.0%}"


def figures(problems: list[Problem]) -> str:
    """What the problems are like, and what clean labels would give."""
    wrong = np.mean([(problem.given != problem.true).mean() for problem in problems])
    clean = np.mean([(predict(problem, problem.true).argmax(axis=1) == problem.true).mean() for problem in problems])
    first = problems[0]
    return (
        f"{first.name}: {len(first.given):,} listings, {first.k} categories, {len(problems)} seeds, {wrong:.1%} wrong labels; "
        f"accuracy with clean labels {clean:.3f}"
    )


def drawing(results: dict[str, dict[str, NDArray[np.float64]]]) -> str:
    """An SVG: noise left and accuracy by answers bought, a row for each data set."""
    parts = []
    for at, (name, found) in enumerate(results.items()):
        for what, title in enumerate(("wrong labels left", "accuracy of the model")):
            parts.append(_panel(f"{name}: {title}", {way: found[way][what] for way in SHOWN if way in found}, what, at))
    body = "\n".join(parts)
    height = 300 * len(results)
    style = 'font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" {style}>\n{body}\n</svg>\n'


def _panel(title: str, curves: dict[str, Floats], column: int, row: int) -> str:
    low, high = min(map(np.min, curves.values())), max(map(np.max, curves.values()))
    left, top, width, height = 60 + 440 * column, 40 + 300 * row, 250, 200
    x = [left + width * share / SHARES[-1] for share in SHARES]
    lines = [
        f'<text x="{left}" y="{top - 14}" font-weight="bold">{title}</text>',
        f'<path d="M{left} {top}V{top + height}H{left + width}" fill="none" stroke="#999"/>',
        *(f'<text x="{at - 9:.0f}" y="{top + height + 15}">{share:.0%}</text>' for at, share in zip(x, SHARES, strict=True)),
        *(f'<text x="{left - 42}" y="{top + height * part + 4:.0f}">{high - part * (high - low):.1%}</text>' for part in (0, 1)),
        f'<text x="{left + 70}" y="{top + height + 32}">answers by listings</text>',
    ]
    for n, (way, values) in enumerate(curves.items()):
        y = top + height * (high - values) / (high - low)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{SHOWN[way]}" stroke-width="2"/>')
        lines.append(f'<text x="{left + width + 6}" y="{top + 12 + 15 * n}" fill="{SHOWN[way]}">{way}</text>')
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/gumtree"))
    parser.add_argument("--noise", type=float, default=0.2, help="share of wrong labels that is added or generated")
    parser.add_argument("--n", type=int, default=3000, help="listings to generate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--plot", type=Path, help="write an SVG here")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    makers: tuple[Callable[[int], Problem], ...] = (
        lambda seed: ads_problem(args.data, args.noise, seed),
        lambda seed: sample_problem(args.n, args.noise, seed),
    )
    results = {}
    for make in makers:
        problems = [make(seed) for seed in range(args.first_seed, args.first_seed + args.seeds)]
        print(f"\n{figures(problems)}", flush=True)
        results[problems[0].name] = compare(problems, list(dict.fromkeys([*args.ways, "random"])))
    if args.plot:
        args.plot.write_text(drawing(results), encoding="utf-8")


if __name__ == "__main__":
    main()
