"""Violations: what searched cells are worth beside a TextCNN, random cells, pooling and skips, and TF-IDF, on the same rows.

    python -m tests.benchmarks.table1 --data ../shared/data/gumtree --seeds 3
    python -m tests.benchmarks.table1 --sample 3000 --seeds 1

Nobody is shown the seller's category, neither as an input nor as something to learn. The six violations of the real ads are
*proxies*: kinds of goods that some markets restrict, read off the seller's own category path, about 6 % of which is wrong.
Rows are split by near-duplicate group: a quarter to judge, the same for every seed; of the rest 64 % to fit, 12 % for
temperatures, shares and every choice, 24 % to certify thresholds (with the half of the test rows that is not judged by
them: positives are few). A seed draws that split, and all else that is random.

*Alone*: a network over text, photos and numbers answers by itself, as Naver's and Mercari's did; the others add to the linear
head (`trainer/residual.py`). *Our search*: cells found by several searches with partial channels, of which a race on
validation rows (`trainer/search/race.py`) chooses one; *the race's winner* may be a rival too.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from curation.catalog.features import FeatureConfig, Features, Featurizer
from curation.console import table
from curation.quality import flags, thresholds
from curation.quality.metrics import average_precision
from curation.store.workspace import Workspace
from curation.types import LabelSource, Split
from tests.benchmarks.category import left
from tests.benchmarks.detector import ROOT, Catalog, generated, real
from trainer import certify, data, loop, violation_fit
from trainer.batch import MODALITIES, without
from trainer.config import TEXT_CNN, TrainConfig
from trainer.model import Detector
from trainer.search.cells import Genotype, Skeleton, pool_and_skip, random_genotype
from trainer.search.config import SearchConfig, faithful
from trainer.search.examples import Examples
from trainer.search.loop import search
from trainer.search.race import RaceConfig, race
from trainer.search.race import field as rivals
from trainer.search.supernet import Space
from trainer.sequence import tokenizer_of

TARGET, RISK = 0.9, 0.05
SHARES = {"train": 0.64, "validation": 0.12, "calibration": 0.24}
"""Of the rows that do not judge."""

SCALED = "linear head, scaled"
TFIDF, LINEAR, BASELINE = (
    "TF-IDF + logistic regression",
    "linear head (bag, photos, numbers)",
    "baseline: TextCNN, photos, numbers, alone",
)
OURS, OURS_ALONE, DARTS, POOLS, WINNER = "our search", "our search, alone", "DARTS", "pool and skip", "the race's winner"
TEXT_ONLY, PHOTOS_ONLY = "our search, text only", "our search, photos only"
SMALL = {"token_dim": 32, "token_width": 8, "token_cells": 3, "batch": 64}
ADDED = {"violation_epochs": 10, "token_dropout": 0.5, "weight_decay": 0.3}
ALONE = {"violation_epochs": 15, "violation_linear": False, "violation_photo_dim": 8}
CELL_RATE = 0.001
"""Chosen by cross-validation of the real ads that no seed judges: lower rates helped cells, not TextCNNs."""

MEASURES = {
    "ap": "average precision",
    "precision": f"precision from a score of {flags.FIXED} on (empty: nothing flagged)",
    "recall": f"recall from a score of {flags.FIXED} on",
    "certified": f"recall at a certified precision of {TARGET} (0: no threshold)",
}
Floats = NDArray[np.floating]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """One method's figures with one seed."""

    ap: list[float]  #: (V,), as all lists
    precision: list[float]
    recall: list[float]
    certified: list[float]
    validated: float  #: mean average precision of the validation rows
    fit_s: float = 0.0  #: processor seconds of the fit
    find_s: float = 0.0  #: … of finding the cells
    n_parameters: int = 0  #: without tables of embeddings


@dataclass(frozen=True)
class World:
    """Rows, features and answers of one seed."""

    catalog: Catalog
    features: Features
    shape: FeatureConfig
    config: TrainConfig
    rows: Mapping[str, Rows]  #: by part: those of SHARES and "test"
    truth: NDArray[np.bool_]  #: (N, V)
    groups: NDArray[np.str_]

    @property
    def judging(self) -> Rows:
        """Test rows, one of a near-duplicate group."""
        rows = self.rows["test"]
        return rows[np.sort(np.unique(self.groups[rows], return_index=True)[1])]

    def row(self, logits: Callable[[Rows], Floats], **about: float) -> Row:
        """Temperatures by validation rows, figures of test rows."""
        held, kept, judged = (logits(rows) for rows in (self.rows["validation"], self.rows["calibration"], self.judging))
        known = self.truth[self.rows["validation"]]
        found = [self._figures(head, held[:, head], kept[:, head], judged[:, head]) for head in range(known.shape[1])]
        return Row(
            ap=[one.average_precision.value for one, _ in found],
            precision=[one.precision.value for one, _ in found],
            recall=[one.recall.value for one, _ in found],
            certified=[recall for _, recall in found],
            validated=float(np.nanmean([_ap(known[:, head], held[:, head]) for head in range(known.shape[1])])),
            **about,  # type: ignore[arg-type]
        )

    def _figures(self, head: int, held: Floats, kept: Floats, judged: Floats) -> tuple[flags.Figures, float]:
        """Of one violation's logits, and the recall past thresholds that were certified."""
        truth = self.truth[:, head]
        cool = certify.temperature(held.astype(np.float64), truth[self.rows["validation"]])
        scores = expit(judged.astype(np.float64) / cool)
        figures = flags.figures(scores, truth[self.judging], np.inf, rng=np.random.default_rng(1))
        return figures, self._certified(truth, expit(kept.astype(np.float64) / cool), scores)

    def _certified(self, truth: NDArray[np.bool_], kept: Floats, judged: Floats) -> float:
        """Each half of the test rows past the threshold that calibration rows and the other half certify."""
        rows, n_found = self.judging, 0
        halves = np.random.default_rng(1).permutation(len(rows)) % 2
        for half in range(2):
            others = np.concatenate([self.rows["calibration"], rows[halves != half]])
            certified = thresholds.certify(
                np.concatenate([kept, judged[halves != half]]),
                truth[others],
                target=TARGET,
                risk=RISK,
                expected=truth[self.rows["train"]].mean() * len(others),
                groups=self.groups[others],
            )
            n_found += int((truth[rows] & (judged >= certified.value) & (halves == half)).sum())
        return n_found / max(1, int(truth[rows].sum()))


def _ap(truth: NDArray[np.bool_], scores: Floats) -> float:
    return average_precision(truth, scores) if truth.any() else float("nan")


@dataclass
class Bench:
    """All rows of one seed; a stem and a table of each kind of features are made once."""

    world: World
    tables: dict[str, data.Table] = field(default_factory=dict)

    def fitted(self, parts: str = "all", architecture: str = "", alone: bool = False, is_scaled: bool = False) -> Detector:
        """A detector whose violations were fitted, and nothing else."""
        world, made = self.world, self.table(parts)
        rate = {} if alone or architecture in ("", TEXT_CNN) else {"token_rate": CELL_RATE}
        changes = {**rate, **(ALONE if alone else ADDED), "violation_architecture": architecture, "violation_scaled": is_scaled}
        config = TrainConfig.from_json({**world.config.to_json(), **changes})
        detector = loop.start(made, world.rows["train"], config)
        violation_fit.set_residual(detector, made, world.rows["train"], world.rows["validation"], config)
        return detector

    def table(self, parts: str) -> data.Table:
        """Of all listings with what is left of them (`category.left`)."""
        world = self.world
        if parts not in self.tables:
            features = left(world.features, parts)
            n, flagged = len(features), [(value, LabelSource.MODERATORS) for value in world.catalog.violations]
            origins = data.Origins([None] * n, [None] * n, list(world.groups))
            none = [("none", LabelSource.SELLER)] * n
            wanted = data.targets(none, flagged, world.catalog.names, world.config, origins)
            stem = loop.stem_of(features, world.rows["train"], world.config)
            self.tables[parts] = data.Table(features, world.shape, wanted, stem, torch.device("cpu"))
        return self.tables[parts]

    def row(
        self, architecture: str = "", *, parts: str = "all", alone: bool = False, is_scaled: bool = False, find_s: float = 0.0
    ) -> tuple[Row, Detector]:
        """Fit and judge."""
        made = self.table(parts)
        began_s = time.process_time()
        detector = self.fitted(parts, architecture, alone, is_scaled)
        fit_s = time.process_time() - began_s
        about = {"fit_s": fit_s, "find_s": find_s, "n_parameters": n_parameters(detector)}
        return self.world.row(partial(answers, detector, made), **about), detector

    def tfidf(self) -> Row:
        """Word 1-2-grams of title and description, one model a violation."""
        world, began_s = self.world, time.process_time()
        texts = [f"{listing.title} {listing.description}" for listing in world.catalog.listings]
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit([texts[row] for row in world.rows["train"]])
        seen, truth = words.transform([texts[row] for row in world.rows["train"]]), world.truth[world.rows["train"]]
        models = [LogisticRegression(C=10, max_iter=1000).fit(seen, answer) for answer in truth.T]

        def logits(rows: Rows) -> Floats:
            judged = words.transform([texts[row] for row in rows])
            return np.stack([model.decision_function(judged) for model in models], 1)

        fit_s = time.process_time() - began_s
        return world.row(logits, fit_s=fit_s, n_parameters=len(models) * (seen.shape[1] + 1))

    def examples(self, part: str) -> Examples:
        """Tokens and answers of one part; to search and to race by."""
        world, rows = self.world, self.world.rows[part]
        if part == "train":
            rows = balanced(world.truth, rows, np.random.default_rng(world.config.seed))
        tokens, wanted = world.features.tokens, world.truth[rows].astype(np.float32)
        assert tokens is not None
        return Examples.of(tokens.ids[rows], wanted, n_ids=self.n_ids, n_classes=self.n_classes)

    def searched(self, config: SearchConfig, space: Space) -> tuple[Genotype, float]:
        """Cells and processor seconds."""
        began_s, rows = time.process_time(), self.examples("train")
        found = search(
            rows.tokens.numpy(),
            rows.labels.numpy(),
            n_ids=self.n_ids,
            n_classes=self.n_classes,
            config=config,
            skeleton=self.skeleton,
            space=space,
        )
        return found.genotype, time.process_time() - began_s

    def raced(self, found: list[Genotype], options: argparse.Namespace) -> tuple[Genotype, str, str, float]:
        """Best of the found cells, the winner's name and design, and processor seconds."""
        began_s, config = time.process_time(), self.world.config
        designs = rivals(found, np.random.default_rng(config.seed), n_random=options.random)
        raced = race(
            designs,
            *(self.examples(part) for part in ("train", "validation")),
            n_ids=self.n_ids,
            n_classes=self.n_classes,
            config=RaceConfig(config.seed, options.race_steps, n_rungs=2, batch=64),
            skeleton=self.skeleton,
        )
        last = {entry.name: (entry.rung, entry.score) for entry in raced.table if entry.name.startswith("found")}
        best, winner = designs[max(last, key=lambda name: last[name])], designs[raced.winner]
        assert isinstance(best, Genotype)
        design = winner.to_json() if isinstance(winner, Genotype) else TEXT_CNN
        return best, raced.winner, design, time.process_time() - began_s

    @property
    def n_ids(self) -> int:
        """Of the tokens."""
        return self.table("all").n_ids

    @property
    def n_classes(self) -> int:
        """Violations."""
        return self.world.truth.shape[1]

    @property
    def skeleton(self) -> Skeleton:
        """Around the cells, in search, race and fit."""
        return Skeleton(self.world.config.token_width, self.world.config.token_cells)


def balanced(truth: NDArray[np.bool_], rows: Rows, rng: np.random.Generator) -> Rows:
    """All rows with a violation, and as many without one."""
    there = truth[rows].any(1)
    none = rng.permutation(rows[~there])[: int(there.sum())]
    return np.sort(np.concatenate([rows[there], none]))


@torch.no_grad()
def answers(detector: Detector, made: data.Table, rows: Rows, hidden: str = "") -> Floats:
    """(n, V) logits of these rows, as if none had the modality that is hidden."""
    parts = [made.batch(part) for part in data.parts(rows)]
    shown = [without(part, hidden) if hidden else part for part in parts]
    probs = torch.cat([detector.eval().probabilities(detector(part))[1] for part in shown]).numpy().astype(np.float64)
    return np.asarray(logit(np.clip(probs, 1e-7, 1 - 1e-7)))


def n_parameters(detector: Detector) -> int:
    """That take part in the violations, without tables of embeddings; of the n-grams' weights those that are not 0."""
    linear = sum(int((value != 0).sum()) for value in (detector.text.direct, detector.violation.weight, detector.violation.bias))
    network = detector.residual.named_parameters() if detector.residual else ()
    return linear + sum(value.numel() for name, value in network if not name.endswith("table.weight"))


def run(bench: Bench, options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """All rows of one seed, by name."""
    yield TFIDF, bench.tfidf()
    yield LINEAR, bench.row()[0]
    yield SCALED, bench.row(is_scaled=True)[0]
    yield BASELINE, bench.row(TEXT_CNN, alone=True)[0]
    yield "TextCNN", bench.row(TEXT_CNN)[0]
    yield POOLS, bench.row(pool_and_skip().to_json())[0]
    rng = np.random.default_rng(bench.world.config.seed + 1000)
    for at in range(1, options.random + 1):
        yield f"random cells {at}", bench.row(random_genotype(rng).to_json())[0]
    seed = bench.world.config.seed
    config, space = faithful(options.epochs, seed)
    cells, find_s = bench.searched(replace(config, batch=64), space)
    yield DARTS, bench.row(cells.to_json(), find_s=find_s)[0]
    yield from ours(bench, options)


def ours(bench: Bench, options: argparse.Namespace) -> Iterator[tuple[str, Row]]:
    """Searches, race, and what it chose, whole and with parts left out."""
    seed, spent_s = bench.world.config.seed, 0.0
    found: list[Genotype] = []
    for at in range(options.searches):
        cells, find_s = bench.searched(SearchConfig(seed=10 * seed + at, epochs=options.epochs, batch=64), Space())
        found, spent_s = [*found, cells], spent_s + find_s
    best, winner, design, race_s = bench.raced(found, options)
    print(f"seed {seed}: the race was won by {winner}; ours: {best.alarm or 'no collapse'}", flush=True)
    text, find_s = best.to_json(), spent_s + race_s
    row, detector = bench.row(text, find_s=find_s)
    yield OURS, row
    yield OURS_ALONE, bench.row(text, alone=True, find_s=find_s)[0]
    yield WINNER, bench.row(design, find_s=find_s)[0]
    yield TEXT_ONLY, bench.row(text, parts="text")[0]
    yield PHOTOS_ONLY, bench.row(parts="photos", is_scaled=True)[0]
    for name in MODALITIES:
        yield removed(name), bench.world.row(partial(answers, detector, bench.table("all"), hidden=name))


def removed(modality: str) -> str:
    """The name of the row where this is taken away when it is judged."""
    return f"our search, {modality} removed"


def main() -> None:
    options = asked()
    torch.set_num_threads(options.threads)
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        workspace, catalog = generated(Path(folder), options) if options.sample else real(Path(folder), options.data)
        features, shape = features_of(workspace, catalog)
        workspace.close()
    for seed in range(options.seed, options.seed + options.seeds):
        world = world_of(catalog, features, shape, seed)
        if not found:
            announce(world, "generated catalog, the truth" if options.sample else "real ads, proxies by the seller's category")
        for name, row in run(Bench(world), options):
            found.setdefault(name, []).append(row)
            print(f"  seed {seed}, {name}: AP {_numbers(row.ap)} mean {float(_mean(row.ap)):.3f}, {row.fit_s:.0f} s", flush=True)
    report(found, catalog.names)
    if options.json:
        options.json.write_text(json.dumps({name: [asdict(row) for row in rows] for name, rows in found.items()}))


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/gumtree")
    parser.add_argument("--sample", type=int, help="listings of a generated catalog, instead of --data")
    parser.add_argument("--noise", type=float, default=0.15, help="share of wrong categories in the generated catalog")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--random", type=int, default=5, help="random cells, in the table and in the race")
    parser.add_argument("--searches", type=int, default=2, help="of ours, a seed")
    parser.add_argument("--epochs", type=int, default=20, help="of a search")
    parser.add_argument("--race-steps", type=int, default=40, help="of the first rung")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def features_of(workspace: Workspace, catalog: Catalog) -> tuple[Features, FeatureConfig]:
    """Of all listings; the vocabulary is that of the rows that no seed judges."""
    config, shape = TrainConfig(violation_architecture=TEXT_CNN), FeatureConfig()
    rows = np.concatenate([catalog.rows[Split.TRAIN], catalog.rows[Split.VALIDATION]])
    return Featurizer(shape, tokenizer_of(catalog.listings, rows, config)).transform(catalog.listings, workspace.media), shape


def world_of(catalog: Catalog, features: Features, shape: FeatureConfig, seed: int) -> World:
    """The split of this seed: whole near-duplicate groups."""
    groups = np.array([listing.group_key for listing in catalog.listings])
    names, group_of = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).random(len(names))[group_of]
    bounds = dict(zip(SHARES, np.cumsum([0.0, *SHARES.values()]), strict=False))
    rest = np.sort(np.concatenate([catalog.rows[Split.TRAIN], catalog.rows[Split.VALIDATION]]))
    rows = {part: rest[(drawn[rest] >= low) & (drawn[rest] < low + SHARES[part])] for part, low in bounds.items()}
    truth = np.array([[name in value.split("|") for name in catalog.names] for value in catalog.violations])
    config = TrainConfig.from_json({"seed": seed, **SMALL})
    return World(catalog, features, shape, config, {**rows, "test": catalog.rows[Split.TEST]}, truth, groups)


def announce(world: World, what: str) -> None:
    """Rows and positives of each part."""
    print(f"{what}; the category is withheld")
    counts = [(part, f"{len(rows):,}", *world.truth[rows].sum(0)) for part, rows in world.rows.items()]
    print(table(counts, ("", "rows", *world.catalog.names)), flush=True)


def report(found: Mapping[str, list[Row]], names: tuple[str, ...]) -> None:
    """A table of each measure, the costs, and the bars."""
    for measure, title in MEASURES.items():
        values = {name: np.array([getattr(row, measure) for row in rows]) for name, rows in found.items()}
        print(f"\n{title}\n" + table([(name, *_spread(value)) for name, value in values.items()], ("", *names, "mean")))
    costs = [(name, *_costs(rows)) for name, rows in found.items()]
    print("\n" + table(costs, ("", "CPU s to fit", "CPU s to find", "parameters", "AP of validation rows")))
    verdict(found)


def _costs(rows: list[Row]) -> tuple[str, ...]:
    seconds = (f"{np.mean([getattr(one, what) for one in rows]):.1f}" for what in ("fit_s", "find_s"))
    return *seconds, f"{rows[0].n_parameters:,}", f"{_validated(rows):.3f}"


def verdict(found: Mapping[str, list[Row]]) -> None:
    """The bars of the plan, by means over the seeds."""
    mean = {name: {one: _mean([getattr(row, one) for row in rows]) for one in MEASURES} for name, rows in found.items()}
    ours, n = mean[OURS], len(mean[OURS]["ap"])
    for name in (BASELINE, "TextCNN", TFIDF, SCALED, POOLS, DARTS, WINNER):
        other = mean[name]
        precise = ((ours["recall"] > other["recall"]) & ~(ours["precision"] < other["precision"])).sum()
        print(f"our search against {name}: AP ≥ in {(ours['ap'] >= other['ap']).sum()} of {n}, ", end="")
        print(f"recall at {flags.FIXED} higher with precision no lower in {precise} of {n}")
    alone = mean[OURS_ALONE]["ap"] >= mean[BASELINE]["ap"]
    print(f"our search alone against the baseline: AP ≥ in {alone.sum()} of {n}")
    random = np.array([mean[name]["ap"].mean() for name in mean if name.startswith("random")])
    print(f"mean AP of our search {ours['ap'].mean():.3f}, random cells {random.mean():.3f}, the best of them {random.max():.3f}")
    gap = mean[removed("photos")]["ap"] - mean[TEXT_ONLY]["ap"]
    print(f"photos removed against text only: mean AP {gap.mean():+.3f}, the worst {gap.min():+.3f}, of {n}")
    chosen = max(
        (name for name in found if "only" not in name and "removed" not in name), key=lambda name: _validated(found[name])
    )
    print(f"validation rows would choose: {chosen}")


def _validated(rows: list[Row]) -> float:
    return float(np.mean([row.validated for row in rows]))


def _mean(values: Sequence[Sequence[float]] | Sequence[float] | Floats) -> Floats:
    """Of each column, of what is a number; NaN where nothing is."""
    there = np.isfinite(np.asarray(values, np.float64))
    total = np.where(there, values, 0.0).sum(0)
    return np.asarray(np.where(there.any(0), total / np.maximum(there.sum(0), 1), np.nan))


def _spread(values: Floats) -> tuple[str, ...]:
    """Means over the seeds of each column and of their mean, with standard deviations where there are several."""
    columns = np.column_stack([values, _mean(values.T)])
    means, several = _mean(columns), len(values) > 1 and np.isfinite(columns).all(0)
    spread = columns.std(0, ddof=1) if len(values) > 1 else means * 0
    shown = np.broadcast_to(several, means.shape)
    cells = (f"{mean:.3f}" + (f" ± {std:.3f}" if here else "") for mean, std, here in zip(means, spread, shown, strict=True))
    return tuple(cell.replace("nan", "") for cell in cells)


def _numbers(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    main()
