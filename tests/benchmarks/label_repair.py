"""How well a detector learns from wrong labels: our recipe beside its rivals, same branches, same rows, one run.

    python -m tests.benchmarks.label_repair --sample 6000 --noise 0.1 0.2 0.4 --seeds 3
    python -m tests.benchmarks.label_repair --data ../shared/data/gumtree --level 2 --noise 0 0.2 0.4 --seeds 3
    python -m tests.benchmarks.label_repair --data ../shared/data/clothing --noise 0 0.4 --seeds 3

65 % of the groups are learnt from with their wrong labels, 10 % were decided by moderators, 25 % judge against the truth.
The decided ones stop a fit early. Rows marked + learn four in five of them as well, as our recipe does in the product, and are
stopped by the others. Real ads: siblings are confused, half of it always the same way; what the seller said is taken for the
truth. Clothing: every label may turn into the next one. Sample: wrong labels depend on the item and the seller.
*Closed* is the share of the gap between plain cross-entropy and the oracle, which learns from the true labels; *of best*
the same with the better oracle, which mixes up and learns what was decided, too. *Right* and *found* are precision and recall
of changed labels. *Cost* is processor seconds relative to plain cross-entropy.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curation.catalog import sample
from curation.catalog.features import FeatureConfig, Features, Featurizer
from curation.console import table
from curation.types import PATH_SEPARATOR, LabelSource, Split
from tests.benchmarks import rivals
from tests.benchmarks.catalog import Catalog, generated, ingested, real
from tests.benchmarks.label_issues import inject
from trainer import data, loop, recipes
from trainer.config import TrainConfig
from trainer.image import Stem
from trainer.refurbish import Refurbish
from trainer.selfie import Selfie

Labels = NDArray[np.int64]
PLAIN = TrainConfig(recipe="cross_entropy", photo_dropout=0.7)
"""Without mixup the photos need more dropout: so it was chosen on clean labels."""

MIN_GAP = 0.01
"""Of a smaller gap no share is told."""

ABSTENTIONS = ("Not sure", "Skip", "Other")


@dataclass(frozen=True)
class World:
    """One catalog with one draw of noise."""

    catalog: Catalog
    features: Features
    stem: Stem
    classes: NDArray[np.str_]
    true: Labels
    given: Labels

    def rows(self, split: Split) -> Labels:
        """Rows of the split."""
        return self.catalog.rows[split]

    def learnt(self, decided: bool) -> tuple[Labels, Labels]:
        """Rows to learn, and rows to stop by; with four in five of the decided ones learnt or with none."""
        train, validation = self.rows(Split.TRAIN), self.rows(Split.VALIDATION)
        if not decided:
            return train, validation
        names, group = np.unique([self.catalog.listings[row].group_key for row in validation], return_inverse=True)
        stops = (np.random.default_rng(0).permutation(len(names)) % 5 == 0)[group]
        return np.concatenate([train, validation[~stops]]), validation[stops]

    def table(self, given: Labels, config: TrainConfig) -> data.Table:
        """Validation rows are decided, the others carry these labels."""
        decided = np.isin(np.arange(len(given)), self.rows(Split.VALIDATION))
        labels = [
            (str(self.classes[self.true[row] if decided[row] else given[row]]), _source(decided[row]))
            for row in range(len(given))
        ]
        listings = self.catalog.listings
        origins = data.Origins(
            [str(self.classes[at]) for at in self.given],
            [one.seller_ref for one in listings],
            [one.group_key for one in listings],
        )
        wanted = data.targets(labels, [None] * len(labels), ("counterfeit",), config, origins)
        return data.Table(self.features, FeatureConfig(), wanted, self.stem, torch.device("cpu"))


@dataclass(frozen=True)
class Outcome:
    """What one method reached."""

    accuracy: float
    cpu_s: float
    repaired: Labels | None = None  #: (n,) labels of the training rows after it
    n_bytes: float = 0.0  #: of state per listing


Method = Callable[[World, int], Outcome]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real listings")
    parser.add_argument("--sample", type=int, default=6000, help="listings of a generated catalog, without --data")
    parser.add_argument("--level", type=int, default=9, help="depth of the categories, at most")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.2, 0.4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="rows of the table, by name")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {name: method for name, method in METHODS.items() if not options.only or name in (*options.only, *ALWAYS)}
    with tempfile.TemporaryDirectory() as folder:
        for title, worlds in _worlds(Path(folder), options):
            found: dict[str, list[Outcome]] = {name: [] for name in chosen}
            for seed, world in enumerate(worlds, 1):
                for name, method in chosen.items():
                    found[name].append(method(world, seed))
            _show(f"{title}; {len(world.true):,} listings, {len(world.classes)} categories", world, found)


def _worlds(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, Iterator[World]]]:
    """Each noise rate with its draws. The sample's draws are catalogs of their own, other listings and other sellers."""
    name = options.data.name if options.data else "generated catalog"
    for noise in options.noise:
        yield f"{name}, level {options.level}, {noise:.0%} wrong labels added", _draws(folder, noise, options)


def _draws(folder: Path, noise: float, options: argparse.Namespace) -> Iterator[World]:
    for seed in range(1, options.seeds + 1):
        catalog, features, stem = _catalog(str(folder), options.data, options.sample, seed if options.data is None else 0)
        paths = np.array([PATH_SEPARATOR.join(path.split(PATH_SEPARATOR)[: options.level]) for path in catalog.judged])
        classes, true = np.unique(paths, return_inverse=True)
        given = _noisy(folder, catalog, classes, true, noise, seed, options)
        yield World(catalog, features, stem, classes, true, given)


@cache
def _catalog(folder: str, source: Path | None, n: int, seed: int) -> tuple[Catalog, Features, Stem]:
    out = Path(folder) / f"catalog-{seed}"
    if source is None:
        workspace, catalog = generated(out, n, seed=seed, noise=0.1)
    elif (source / "images.csv").is_file():
        workspace, catalog = ingested(out, source / "images.csv", "clothing", leave_out=ABSTENTIONS)
    else:
        workspace, catalog = real(out, source)
    features = Featurizer(FeatureConfig()).transform(catalog.listings, workspace.media)
    workspace.close()
    return catalog, features, loop.stem_of(features, catalog.rows[Split.TRAIN], PLAIN)


def _noisy(
    folder: Path, catalog: Catalog, classes: NDArray[np.str_], true: Labels, noise: float, seed: int, options: argparse.Namespace
) -> Labels:
    if not noise:
        return true.copy()
    rng = np.random.default_rng(seed)
    if options.data is None:
        return _said(folder / f"said-{noise}-{seed}", catalog, classes, true, noise, options.sample, seed)
    if options.data.name == "clothing":
        return np.where(rng.random(len(true)) < noise, (true + 1) % len(classes), true)
    flat = options.level == 1
    return inject(true, ["" if flat else path.split(PATH_SEPARATOR)[0] for path in classes], noise, rng)


def _said(folder: Path, catalog: Catalog, classes: NDArray[np.str_], true: Labels, noise: float, n: int, seed: int) -> Labels:
    """What the sample's sellers would have said at this noise; the items are the same."""
    sample.generate(folder, n=n, seed=seed, noise=noise, photos=False)
    with (folder / "listings.csv").open(newline="", encoding="utf-8") as file:
        said = {row["id"]: row["category"] for row in csv.DictReader(file)}
    index = {path: at for at, path in enumerate(classes)}
    return np.array([index.get(said[listing.ref], true[row]) for row, listing in enumerate(catalog.listings)])


def _source(is_decided: bool) -> LabelSource:
    return LabelSource.MODERATORS if is_decided else LabelSource.SELLER


# The methods


def fitted(
    world: World,
    config: TrainConfig,
    *,
    given: Labels | None = None,
    decided: bool = False,
    objective: rivals.Maker | None = None,
) -> Outcome:
    """One fit, stopped early by what moderators decided; they are learnt, too, where `decided`."""
    made = world.table(world.given if given is None else given, config)
    return _fitted(world, made, config, *world.learnt(decided), objective)


def _fitted(
    world: World, made: data.Table, config: TrainConfig, train: Labels, validation: Labels, objective: rivals.Maker | None = None
) -> Outcome:
    kept: list[object] = []

    def keeping(of: data.Table, rows: Labels) -> object:
        kept.append(objective(of, rows) if objective else recipes.objective(of, rows, validation, config))
        return kept[-1]

    began_s = time.process_time()
    found = loop.fit(made, train, validation, config=config, objective=keeping)  # type: ignore[arg-type]
    cpu_s = time.process_time() - began_s
    reached = accuracy(world, loop.predict(found.detector, made, world.rows(Split.TEST))[0])
    return Outcome(reached, cpu_s, *_state(kept[-1], world))


def _state(objective: object, world: World) -> tuple[Labels | None, float]:
    train = world.rows(Split.TRAIN)
    if isinstance(objective, Selfie):
        ring = objective.history.ring
        return objective.corrected.numpy()[train], ring.element_size() * ring.shape[1]
    if isinstance(objective, Refurbish) and objective.config.read_channel:
        best = objective.targets.classes[train, 0].long().numpy()
        return best, objective.targets.classes.element_size() * objective.targets.p.shape[1] + 4 * objective.targets.p.shape[1]
    if isinstance(objective, Refurbish):
        return None, 4 * objective.memory.p.shape[1]
    return None, 0.0


def plain(decided: bool) -> Method:
    """All epochs, nobody to stop it."""

    def run(world: World, seed: int) -> Outcome:
        config = replace(PLAIN, seed=seed)
        return _fitted(world, world.table(world.given, config), config, world.learnt(decided)[0], np.zeros(0, np.int64))

    return run


def configured(config: TrainConfig, *, decided: bool = False, is_true: bool = False) -> Method:
    """A recipe by its config, on what was said or on the truth."""
    return lambda world, seed: fitted(
        world if not is_true else replace(world, given=world.true), replace(config, seed=seed), decided=decided
    )


def selfie(n_runs: int) -> Method:
    """SELFIE, told the true noise rate; each restart learns from the labels refurbished before."""

    def run(world: World, seed: int) -> Outcome:
        train = world.rows(Split.TRAIN)
        noise = max(float((world.given[train] != world.true[train]).mean()), 0.01)
        given, cpu_s = world.given.copy(), 0.0
        for _ in range(n_runs):
            found = fitted(world, replace(PLAIN, seed=seed, recipe="selfie", selfie_noise=noise), given=given)
            assert found.repaired is not None
            given[train], cpu_s = found.repaired, cpu_s + found.cpu_s
        return replace(found, cpu_s=cpu_s)

    return run


def small_loss(world: World, seed: int) -> Outcome:
    """SELFIE without refurbishing: large losses are left out; told the true noise rate."""
    train = world.rows(Split.TRAIN)
    noise = max(float((world.given[train] != world.true[train]).mean()), 0.01)
    changes: dict[str, Any] = {"recipe": "selfie", "selfie_noise": noise, "selfie_warmup": 1, "selfie_history": 15}
    return replace(fitted(world, replace(PLAIN, seed=seed, **changes)), repaired=None, n_bytes=0.0)


def co_teaching(world: World, seed: int) -> Outcome:
    """Two networks choose each other's small losses; told the true noise rate."""
    train = world.rows(Split.TRAIN)
    noise = float((world.given[train] != world.true[train]).mean())
    config = replace(PLAIN, seed=seed)
    made = world.table(world.given, config)
    began_s = time.process_time()
    probs = rivals.co_teaching(made, train, world.rows(Split.VALIDATION), world.rows(Split.TEST), config, noise)
    cpu_s = time.process_time() - began_s
    return Outcome(accuracy(world, probs), cpu_s)


def pruned(world: World, seed: int) -> Outcome:
    """cleanlab's way: out-of-sample probabilities, the issues left out, trained again."""
    config = replace(PLAIN, seed=seed)
    made = world.table(world.given, config)
    began_s = time.process_time()
    kept = rivals.without_issues(made, world.rows(Split.TRAIN), config)
    found = loop.fit(made, kept, world.rows(Split.VALIDATION), config=config)
    cpu_s = time.process_time() - began_s
    return Outcome(accuracy(world, loop.predict(found.detector, made, world.rows(Split.TEST))[0]), cpu_s)


def untold(world: World, seed: int) -> Outcome:
    """Our recipe as it is before moderators decided anything; early stopping still knows them."""
    config = TrainConfig(seed=seed)
    return fitted(world, config, objective=lambda made, train: Refurbish(made, train, config))


def accuracy(world: World, probs: NDArray[np.floating]) -> float:
    """Of the test rows, against the truth."""
    return float((probs.argmax(1) == world.true[world.rows(Split.TEST)]).mean())


OURS = TrainConfig()
ELR = TrainConfig(read_channel=False, mixup=0.0, early_learning=3.0, photo_dropout=0.7)
MIXUP = TrainConfig(read_channel=False, early_learning=0.0)
ELR_MIXUP = TrainConfig(read_channel=False, early_learning=3.0)
METHODS: dict[str, Method] = {
    "cross-entropy": plain(decided=False),
    "… and early stopping": configured(PLAIN),
    "mixup": configured(MIXUP),
    "small loss": small_loss,
    "Co-teaching": co_teaching,
    "SELFIE, 1 run": selfie(1),
    "SELFIE, 3 runs": selfie(3),
    "ELR": configured(ELR),
    "ELR + mixup": configured(ELR_MIXUP),
    "cleanlab prune": pruned,
    "+ cross-entropy": configured(PLAIN, decided=True),
    "+ cross-entropy, all epochs": plain(decided=True),
    "+ ELR + mixup": configured(ELR_MIXUP, decided=True),
    "+ ours": configured(OURS, decided=True),
    "+ ours without ELR": configured(replace(OURS, early_learning=0.0), decided=True),
    "+ ours without mixup": configured(replace(OURS, mixup=0.0), decided=True),
    "+ ours, targets only": configured(replace(OURS, early_learning=0.0, mixup=0.0, photo_dropout=0.7), decided=True),
    "+ ours, only the surest": configured(replace(OURS, repair_doubt=0.8), decided=True),
    "ours, decided not learnt": configured(OURS),
    "ours, nothing decided": untold,
    "oracle": configured(PLAIN, is_true=True),
    "+ oracle, mixup": configured(MIXUP, decided=True, is_true=True),
    "+ oracle, our recipe": configured(OURS, decided=True, is_true=True),
}
ALWAYS = ("cross-entropy", "oracle", "+ oracle, mixup")


def _show(title: str, world: World, found: dict[str, list[Outcome]]) -> None:
    base, oracle, best = (float(np.mean([one.accuracy for one in found[name]])) for name in ALWAYS)
    cost = float(np.mean([one.cpu_s for one in found["cross-entropy"]]))
    rows = []
    for name, outcomes in found.items():
        accuracy = np.array([one.accuracy for one in outcomes])
        rows.append(
            (
                name,
                f"{accuracy.mean():.3f} ± {accuracy.std():.3f}",
                *(f"{(accuracy.mean() - base) / (top - base):.0%}" if top > base + MIN_GAP else "-" for top in (oracle, best)),
                *_repairs(world, outcomes),
                f"{np.mean([one.cpu_s for one in outcomes]) / cost:.2f}",
                f"{outcomes[0].n_bytes:.0f}",
            )
        )
    print(f"\n{title}; {len(next(iter(found.values())))} seeds")
    print(
        table(rows, ("", "accuracy", "closed", "of best", "right", "found", "wrong labels", "cost", "bytes a listing")),
        flush=True,
    )


def _repairs(world: World, outcomes: Sequence[Outcome]) -> tuple[str, str, str]:
    """Of the last draw: how many changed labels became right, how many wrong ones did, and what is wrong before and after."""
    repaired, train = outcomes[-1].repaired, world.rows(Split.TRAIN)
    if repaired is None:
        return "-", "-", "-"
    true, given = world.true[train], world.given[train]
    changed, mended = repaired != given, (repaired == true) & (given != true)
    right = f"{mended[changed].mean():.0%} of {changed.sum():,}" if changed.any() else "none"
    found = f"{mended.sum() / (given != true).sum():.0%}" if (given != true).any() else "-"
    return right, found, f"{(given != true).mean():.1%} → {(repaired != true).mean():.1%}"


if __name__ == "__main__":
    main()
