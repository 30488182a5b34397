"""One seed of `table1`: which rows fit, choose, certify and judge, and the figures of a method's answers on them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from curation.catalog.features import FeatureConfig, Features, Featurizer
from curation.console import table
from curation.quality import flags, thresholds
from curation.quality.metrics import average_precision
from curation.store.workspace import Workspace
from curation.types import Split
from tests.benchmarks.catalog import Catalog, present_in
from trainer import certify
from trainer.config import TEXT_CNN, TrainConfig
from trainer.sequence import tokenizer_of

TARGET, RISK = 0.9, 0.05
SHARES = {"train": 0.64, "validation": 0.12, "calibration": 0.24}
"""Of the rows that do not judge."""

SMALL = {"token_dim": 32, "token_width": 8, "token_cells": 3, "batch": 64}
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
    config = TrainConfig.from_json({"seed": seed, **SMALL})
    return World(catalog, features, shape, config, {**rows, "test": catalog.rows[Split.TEST]}, present_in(catalog), groups)


def announce(world: World, what: str) -> None:
    """Rows and positives of each part."""
    print(f"{what}; the category is withheld")
    counts = [(part, f"{len(rows):,}", *world.truth[rows].sum(0)) for part, rows in world.rows.items()]
    print(table(counts, ("", "rows", *world.catalog.names)), flush=True)
