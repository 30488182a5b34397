"""The catalogs that a detector is measured on: real ads as `refurbish ingest` reads them, or a generated one with its truth."""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from curation import settings
from curation.catalog import sample_truth
from curation.catalog.features import FeatureConfig, Features
from curation.release.splits import split_of
from curation.store import listings
from curation.store.workspace import Workspace
from curation.types import PATH_SEPARATOR, LabelSource, Listing, Split, join_violations
from trainer import data, loop
from trainer.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
PROXIES = ("medical_health", "cosmetics_fragrance", "phones_wearables", "recorded_media", "gas_heating_cooking", "child_safety")


@dataclass(frozen=True)
class Catalog:
    """N listings with what is learnt from and what is judged against."""

    listings: list[Listing]
    given: list[str]
    judged: list[str]
    violations: list[str]  #: empty where nobody is asked
    names: tuple[str, ...]
    rows: Mapping[Split, NDArray[np.int64]]

    def without_violations(self) -> "Catalog":
        """The same, asked for nothing but its categories."""
        return replace(self, violations=[""] * len(self.violations), names=("none",))


def parser_of(what: str | None) -> argparse.ArgumentParser:
    """With the options that say which catalog."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/gumtree")
    parser.add_argument("--sample", type=int, help="listings of a generated catalog, instead of --data")
    parser.add_argument("--noise", type=float, default=0.15, help="share of wrong labels in the generated catalog")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def narrowing(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """With the options that `narrowed` reads."""
    parser.add_argument("--level", type=int, choices=(1, 2), default=1, help="of the real ads' categories")
    parser.add_argument("--rows", type=int, help="rows to fit, at most, drawn evenly")
    return parser


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[tuple[Workspace, Catalog]]:
    """The catalog that the options of `parser_of` ask for, in a workspace of its own that goes with it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.sample:
            workspace, catalog = generated(folder, options.sample, seed=options.seed, noise=options.noise)
        else:
            workspace, catalog = real(folder, options.data)
        yield workspace, catalog
        workspace.close()


def narrowed(catalog: Catalog, options: argparse.Namespace) -> Catalog:
    """The level of the real ads' categories and the number of rows to fit that were asked for."""
    catalog = of_level_1(catalog) if not options.sample and options.level == 1 else catalog
    return fewer(catalog, options.rows, options.seed) if options.rows else catalog


def of_level_1(catalog: Catalog) -> Catalog:
    """The same with the roots as categories."""
    given, judged = ([root_of(path) for path in paths] for paths in (catalog.given, catalog.judged))
    return replace(catalog, given=given, judged=judged)


def root_of(path: str) -> str:
    """The first name of a category path."""
    return path.split(PATH_SEPARATOR)[0]


def fewer(catalog: Catalog, n: int, seed: int) -> Catalog:
    """The same with at most n rows to fit, in the order they had."""
    train = np.sort(np.random.default_rng(seed).permutation(catalog.rows[Split.TRAIN])[:n])
    return replace(catalog, rows={**catalog.rows, Split.TRAIN: train})


def groups_of(catalog: Catalog, split: Split = Split.TEST) -> NDArray[np.str_]:
    """(n,) near-duplicate groups of a split's rows."""
    return np.array([catalog.listings[row].group_key for row in catalog.rows[split]])


def present_in(catalog: Catalog) -> NDArray[np.bool_]:
    """(N, V) which listings have which violation."""
    return np.array([[name in value.split("|") for name in catalog.names] for value in catalog.violations], bool)


def table_of(
    catalog: Catalog, features: Features, shape: FeatureConfig, config: TrainConfig, cache: Path | None = None
) -> data.Table:
    """What a detector of these categories and violations is fitted on; the stem is that of the rows to fit."""
    flags = [(value, LabelSource.MODERATORS) if value else None for value in catalog.violations]
    wanted = data.targets([(path, LabelSource.SELLER) for path in catalog.given], flags, catalog.names, config)
    stem = loop.stem_of(features, catalog.rows[Split.TRAIN], config, cache)
    return data.Table(features, shape, wanted, stem, torch.device("cpu"))


def fit(made: data.Table, catalog: Catalog, config: TrainConfig) -> loop.Fitted:
    """By the rows to fit and the validation rows."""
    return loop.fit(made, catalog.rows[Split.TRAIN], catalog.rows[Split.VALIDATION], config=config)


def real(folder: Path, source: Path) -> tuple[Workspace, Catalog]:
    """The real ads, read by `refurbish ingest`."""
    home = folder / "home"
    environment = {"REFURBISH_VIOLATIONS": str(list(PROXIES)).replace("'", '"')}
    mapping = ROOT / "docs/mappings/gumtree.toml"
    ingest(home, source / "listings.csv", environment, "--images", str(source / "images"), "--map", str(mapping))
    workspace, found = _read(home, violations=PROXIES)
    given = [str(listing.category) for listing in found]
    return workspace, _catalog(found, given, given, [join_violations(listing.flags) for listing in found], PROXIES)


def ingested(folder: Path, file: Path, mapping: str, leave_out: tuple[str, ...] = ()) -> tuple[Workspace, Catalog]:
    """A real table with its photos, by one of the documented mappings; some categories are no categories."""
    home = folder / "home"
    options = ("--images", str(file.parent / "images"), "--map", str(ROOT / f"docs/mappings/{mapping}.toml"))
    ingest(home, file, {}, *options)
    workspace, found = _read(home)
    found = [listing for listing in found if listing.category not in leave_out]
    given = [str(listing.category) for listing in found]
    return workspace, _catalog(found, given, given, ["none"] * len(found), ())


def generated(folder: Path, n: int, *, seed: int, noise: float) -> tuple[Workspace, Catalog]:
    """The sample catalog: learn from the sellers, judge by the truth; violations from the truth for both."""
    out, home = folder / "catalog", folder / "home"
    refurbish(home, "sample", "--n", str(n), "--seed", str(seed), "--noise", str(noise), "--out", str(out))
    ingest(home, out / "listings.csv", {})
    workspace, found = _read(home)
    truth = sample_truth.load(out / "truth.csv")
    judged = [truth.category[listing.ref] for listing in found]
    violations = [truth.violation[listing.ref] for listing in found]
    given = [str(listing.category) for listing in found]
    return workspace, _catalog(found, given, judged, violations, workspace.settings.violations)


def _catalog(found: list[Listing], given: list[str], judged: list[str], violations: list[str], names: tuple[str, ...]) -> Catalog:
    splits = np.array([split_of(listing.group_key) for listing in found])
    return Catalog(found, given, judged, violations, names, {split: np.flatnonzero(splits == split) for split in Split})


def ingest(home: Path, file: Path, environment: Mapping[str, str], *options: str) -> None:
    """A new database, and a file of listings read into it."""
    refurbish(home, "db", "upgrade", environment=environment)
    refurbish(home, "ingest", str(file), *options, environment=environment)


def refurbish(home: Path, *words: str, environment: Mapping[str, str] | None = None) -> None:
    """Run the command as a process of its own."""
    command = [sys.executable, "-m", "curation.cli", "--home", str(home), *words]
    subprocess.run(command, check=True, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, cwd=ROOT)


def _read(home: Path, **flags: Any) -> tuple[Workspace, list[Listing]]:
    workspace = Workspace.open(settings.load(home=home, **flags))
    with workspace.db.read() as session:
        return workspace, [listing for page in listings.pages(session) for listing in page if listing.category]
