"""The fits, searches and races of one seed of `table1`."""

import argparse
import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit

from curation.types import LabelSource
from tests.benchmarks import tfidf
from tests.benchmarks.category import left
from tests.benchmarks.table1_world import Floats, Row, Rows, World
from trainer import data, loop, violation_fit
from trainer.batch import without
from trainer.config import CHOSEN, TEXT_CNN, TrainConfig
from trainer.model import Detector
from trainer.search.cells import Genotype, Skeleton
from trainer.search.config import SearchConfig
from trainer.search.examples import Examples
from trainer.search.loop import search
from trainer.search.race import RaceConfig, race
from trainer.search.race import field as rivals
from trainer.search.supernet import Space

ADDED = {"violation_epochs": 10, "token_dropout": 0.5, "weight_decay": 0.3}
ALONE = {"violation_epochs": 15, "violation_linear": False, "violation_photo_dim": 8}
WITHHELD = {"violations_see_category": "none"}
"""Proxies are read off the category: whoever sees it needs no more."""

CELL_RATE = 0.001
"""Chosen by cross-validation of the real ads that no seed judges: lower rates helped cells, not TextCNNs."""


@dataclass
class Bench:
    """All rows of one seed; a stem and a table of each kind of features are made once."""

    world: World
    tables: dict[str, data.Table] = field(default_factory=dict)

    def fitted(self, parts: str = "all", architecture: str = "", alone: bool = False, loss: str = CHOSEN) -> Detector:
        """A detector whose violations were fitted, and nothing else."""
        world, made = self.world, self.table(parts)
        rate = {} if alone or architecture in ("", TEXT_CNN) else {"token_rate": CELL_RATE}
        changes = {**rate, **(ALONE if alone else ADDED), **WITHHELD, "violation_loss": loss, "violation_scaled": True}
        changes["violation_architecture"] = architecture
        config = TrainConfig.from_json({**world.config.to_json(), **changes})
        detector = loop.start(made, world.rows["train"], config)
        violation_fit.finish(detector, made, world.rows["train"], world.rows["validation"], config)
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
        self, architecture: str = "", *, parts: str = "all", alone: bool = False, loss: str = CHOSEN, find_s: float = 0.0
    ) -> tuple[Row, Detector]:
        """Fit and judge."""
        made = self.table(parts)
        began_s = time.process_time()
        detector = self.fitted(parts, architecture, alone, loss)
        fit_s = time.process_time() - began_s
        about = {"fit_s": fit_s, "find_s": find_s, "n_parameters": n_parameters(detector)}
        return self.world.row(partial(answers, detector, made), **about), detector

    def tfidf(self) -> Row:
        """Word 1-2-grams of title and description, one model a violation."""
        world, began_s = self.world, time.process_time()
        words = tfidf.Words(world.catalog.listings, world.rows["train"])
        seen = words.of(world.rows["train"])
        models = [tfidf.fitted(seen, answer) for answer in world.truth[world.rows["train"]].T]

        def logits(rows: Rows) -> Floats:
            judged = words.of(rows)
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
