"""Category accuracy of the detector: the bag alone, with token branches beside it, with parts left out, and TF-IDF's.

    python -m tests.benchmarks.category --data ../shared/data/gumtree --level 2
    python -m tests.benchmarks.category --sample 3000
    python -m tests.benchmarks.category --sample 1500 --search 20 --few
    python -m tests.benchmarks.category --data ../shared/data/gumtree --level 1 --few --backbone lite0.safetensors --px 128

Rows are split by near-duplicate group (65 % to fit, 10 % to stop early, to set the temperature and to choose what wins, 25 %
to judge). Real ads are judged by their sellers' own labels as they are, the generated catalog by its truth. All detectors
have the product's defaults but for what their row names; the table of TF-IDF is the same for all seeds. Cells come from a
file, or are searched with partial channels on the rows to fit, without a race: what a search finds, beside a random cell.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from curation.catalog.features import NUMERIC, FeatureConfig, Features, Featurizer
from curation.console import table
from curation.quality.metrics import paired_difference
from curation.store.workspace import Workspace
from curation.types import Split
from tests.benchmarks import tfidf
from tests.benchmarks.catalog import Catalog, fit, groups_of, narrowed, narrowing, opened, parser_of, table_of
from trainer import loop
from trainer.config import TEXT_CNN, TrainConfig
from trainer.search.cells import Skeleton, pool_and_skip, random_genotype
from trainer.search.config import SearchConfig
from trainer.search.loop import search
from trainer.sequence import tokenizer_of

BASELINE, BAG = "TF-IDF + logistic regression", "bag, photos, numbers"
BACKBONE, TEXT = "bag, photos by the backbone, numbers", "text only"
WEANED = f"{BACKBONE}; hide_photos=0.4, photo_dropout=0.5"
TOP = 3


@dataclass(frozen=True)
class Answers:
    """One method's answers with one seed."""

    validated: float  #: agreement of the validation rows with their labels
    hit: NDArray[np.bool_]  #: (n,) test rows whose first answer is right
    near: NDArray[np.bool_]  #: (n,) … whose answer is among the first three
    seconds: float
    n_parameters: int  #: trained ones, without tables of embeddings


@dataclass(frozen=True)
class Variant:
    """A row of the table."""

    changes: Mapping[str, str | int | float | bool]
    parts: str = "all"  #: or text, photos: what is left


def main() -> None:
    parser = narrowing(parser_of(__doc__))
    parser.add_argument("--cells", type=Path, help="a genotype that `refurbish search --out` wrote")
    parser.add_argument("--search", type=int, default=0, help="epochs of a search for cells on the rows to fit; 0 = none")
    parser.add_argument("--few", action="store_true", help="the bag and what is beside it only, no fusions and nothing left out")
    parser.add_argument("--random", type=int, default=1, help="random cells")
    parser.add_argument(
        "--backbone", help="weights of a frozen network for photos; the bag with and without it, no token branches"
    )
    parser.add_argument("--px", type=int, default=128, help="side of a photo, for a backbone")
    parser.add_argument("--tokens", default="sentencepiece", help="or hashed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with opened(options) as (workspace, found):
        catalog = narrowed(found, options).without_violations()
        what = f"level {options.level}, the sellers' labels" if not options.sample else "generated catalog, the truth"
        rows, test = len(catalog.rows[Split.TRAIN]), len(catalog.rows[Split.TEST])
        print(f"{what}: {rows:,} rows to fit, {test:,} to judge, {len(set(catalog.given))} categories", flush=True)
        compare(workspace, catalog, options)


def compare(workspace: Workspace, catalog: Catalog, options: argparse.Namespace) -> None:
    """All rows, each as soon as it is there, and what wins on the validation rows."""
    bench = Bench.of(workspace, catalog, options)
    found = {BASELINE: [baseline(catalog)]}
    print(_line(BASELINE, found[BASELINE]), flush=True)
    rounds = [(bench, variants(options, bench))]
    if options.backbone:
        rounds.append((bench.at(workspace, options.px), with_backbone(options)))
    for seen, named in rounds:
        for name, variant in named:
            found[name] = [seen.answers(variant, options.seed + at) for at in range(options.seeds)]
            print(_line(name, found[name]), flush=True)
    header = ("", "top 1", "top 3", "on validation rows", "seconds a fit", "parameters beside tables")
    print("\n" + table([_cells(name, one) for name, one in found.items()], header))
    verdict(catalog, found, options.seed)


def variants(options: argparse.Namespace, bench: "Bench") -> Iterator[tuple[str, Variant]]:
    """The rows of the table, by name."""
    rng, fusions = np.random.default_rng(options.seed), () if options.few else ("gated", "max")
    yield BAG, Variant({})
    for parts in () if options.few and not options.backbone else ("text", "photos"):
        yield f"{parts} only", Variant({}, parts)
    for fusion in fusions:
        yield f"{BAG}; {fusion}", Variant({"fusion": fusion})
    if options.backbone:
        return
    designs = {"TextCNN": TEXT_CNN, "pool-and-skip cells": pool_and_skip().to_json()}
    designs |= {f"random cells {at}": random_genotype(rng).to_json() for at in range(1, options.random + 1)}
    designs |= {f"cells of {options.cells.name}": options.cells.read_text(encoding="utf-8")} if options.cells else {}
    designs |= {"searched cells": bench.searched(options.search, options.seed)} if options.search else {}
    for name, architecture in designs.items():
        yield f"… + {name}", Variant({"architecture": architecture, "tokens": options.tokens})
    for fusion in fusions:
        yield f"… + TextCNN; {fusion}", Variant({"architecture": TEXT_CNN, "tokens": options.tokens, "fusion": fusion})


def with_backbone(options: argparse.Namespace) -> Iterator[tuple[str, Variant]]:
    """The rows whose photos a frozen network has seen."""
    changes = {"backbone": options.backbone, "backbone_alone": True, "photo_px": options.px}
    yield f"{BACKBONE}; photos only", Variant(changes, "photos")
    yield BACKBONE, Variant(changes)
    yield WEANED, Variant({**changes, "hide_photos": 0.4, "photo_dropout": 0.5})


@dataclass(frozen=True)
class Bench:
    """Features of all listings, made once."""

    catalog: Catalog
    features: Features
    shape: FeatureConfig
    cache: Path  #: of what a frozen network makes of photos

    @classmethod
    def of(cls, workspace: Workspace, catalog: Catalog, options: argparse.Namespace) -> "Bench":
        """With tokens, whose vocabulary is that of the rows to fit."""
        shape, config = FeatureConfig(), TrainConfig(architecture=TEXT_CNN, tokens=options.tokens)
        started_s = time.monotonic()
        tokenizer = tokenizer_of(catalog.listings, catalog.rows[Split.TRAIN], config)
        features = Featurizer(shape, tokenizer).transform(catalog.listings, workspace.media)
        print(f"features of {len(features):,} listings in {time.monotonic() - started_s:.0f} s", flush=True)
        return cls(catalog, features, shape, workspace.settings.home / "cache")

    def at(self, workspace: Workspace, px: int) -> "Bench":
        """The same listings with photos of this side, without tokens."""
        shape = FeatureConfig(photo_px=px)
        return replace(self, shape=shape, features=Featurizer(shape).transform(self.catalog.listings, workspace.media))

    def searched(self, epochs: int, seed: int) -> str:
        """Cells by one search on the rows to fit and their sellers' labels, as `refurbish search` writes them."""
        began_s, tokens, config = time.process_time(), self.features.tokens, TrainConfig()
        classes, rows = np.unique(self.catalog.given, return_inverse=True)[1], self.catalog.rows[Split.TRAIN]
        assert tokens is not None
        found = search(
            tokens.ids[rows],
            classes[rows],
            n_ids=tokens.n_ids,
            n_classes=int(classes.max()) + 1,
            config=SearchConfig(seed=seed, epochs=epochs, batch=64),
            skeleton=Skeleton(config.token_width, config.token_cells),
        )
        alarm = found.genotype.alarm or "no collapse"
        print(f"searched {epochs} epochs in {time.process_time() - began_s:.0f} CPU s: {alarm}", flush=True)
        return found.genotype.to_json()

    def answers(self, variant: Variant, seed: int) -> Answers:
        """One fit and what it says of the test rows."""
        started_s = time.monotonic()
        config = TrainConfig.from_json({"seed": seed, **variant.changes})
        catalog, rows = self.catalog, self.catalog.rows
        made = table_of(catalog, left(self.features, variant.parts), self.shape, config, self.cache)
        fitted = fit(made, catalog, config)
        spent_s = time.monotonic() - started_s
        held, tested = (loop.predict(fitted.detector, made, rows[split])[0] for split in (Split.VALIDATION, Split.TEST))
        trained = {name: value for name, value in fitted.detector.named_parameters() if value.requires_grad}
        n_parameters = sum(value.numel() for name, value in trained.items() if not name.endswith("table.weight"))
        return judged(catalog, np.array(made.targets.classes), held, tested, spent_s, n_parameters)


def left(features: Features, parts: str) -> Features:
    """The features with all but the text, or all but the photos, blank."""
    if parts == "all":
        return features
    if parts == "text":
        return replace(features, photo_index=np.zeros_like(features.photo_index), numeric=np.zeros_like(features.numeric))
    numeric = features.numeric * (np.array(NUMERIC) == "n_photos")
    tokens = features.tokens and dataclasses.replace(features.tokens, index=np.zeros_like(features.tokens.index))
    return replace(features, ids=features.ids * 0, counts=features.counts * 0, numeric=numeric.astype(np.float32), tokens=tokens)


def baseline(catalog: Catalog) -> Answers:
    """The strength that is better on the validation rows."""
    started_s = time.monotonic()
    words = tfidf.Words(catalog.listings, catalog.rows[Split.TRAIN])
    best = tfidf.of_categories(words, catalog)
    spent_s = time.monotonic() - started_s
    held, tested = (best.predict_proba(words.of(catalog.rows[split])) for split in (Split.VALIDATION, Split.TEST))
    return judged(catalog, best.classes_, held, tested, spent_s, best.coef_.size + len(best.classes_))


def judged(
    catalog: Catalog,
    classes: NDArray[np.str_],
    held: NDArray[np.floating],
    tested: NDArray[np.floating],
    seconds: float,
    n_parameters: int,
) -> Answers:
    """Probabilities of the validation rows against what sellers said, of the test rows against what is judged by."""
    validated = classes[held.argmax(1)] == np.array(catalog.given)[catalog.rows[Split.VALIDATION]]
    first = np.argsort(-tested, 1)[:, :TOP]
    hits = classes[first] == np.array(catalog.judged)[catalog.rows[Split.TEST]][:, None]
    return Answers(float(validated.mean()), hits[:, 0], hits.any(1), seconds, n_parameters)


def verdict(catalog: Catalog, found: Mapping[str, list[Answers]], seed: int) -> None:
    """What validation rows would choose, and how far it is from the bag alone on the test rows."""
    ours = {name: answers for name, answers in found.items() if name != BASELINE and "only" not in name}
    chosen = max(ours, key=lambda name: float(np.mean([one.validated for one in ours[name]])))
    highest = max(ours, key=lambda name: float(np.mean([one.hit.mean() for one in ours[name]])))
    print(f"validation rows would choose: {chosen}; highest on the test rows: {highest}")
    better = []
    groups = groups_of(catalog)
    for name in ours:
        if name != BAG:
            more = [one.hit.mean() - bag.hit.mean() for one, bag in zip(ours[name], ours[BAG], strict=True)]
            gap = paired_difference(ours[name][0].hit, ours[BAG][0].hit, groups, rng=np.random.default_rng(seed))
            better += [name] if gap.low > 0 else []
            print(f"{name} − bag: {np.mean(more):+.3f}, first seed {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")
    print(f"better than the bag alone beyond chance: {', '.join(better) or 'nothing'}")
    for name in (one for one in (BAG, BACKBONE, WEANED) if one in found and TEXT in found):
        ours, text = (np.mean([one.hit for one in found[which]], 0) for which in (name, TEXT))
        gap = paired_difference(ours, text, groups, rng=np.random.default_rng(seed))
        print(f"{name} − {TEXT}, mean of the seeds: {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")


def _cells(name: str, found: list[Answers]) -> tuple[str, ...]:
    columns = ([one.hit.mean() for one in found], [one.near.mean() for one in found], [one.validated for one in found])
    shown = (f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(found) > 1 else "") for values in columns)
    return name, *shown, f"{np.mean([one.seconds for one in found]):.1f}", f"{found[0].n_parameters:,}"


def _line(name: str, found: list[Answers]) -> str:
    return " | ".join(_cells(name, found))


if __name__ == "__main__":
    main()
