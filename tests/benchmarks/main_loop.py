"""The main loop on real listings, with a real Label Studio.

    python -m tests.benchmarks.main_loop --data ../shared/data/gumtree
    python -m tests.benchmarks.main_loop --data ../shared/data/clothing

Nobody knows the truth about real listings, so two things are measured apart. *As they are*: how
often the detector, on listings it never saw, agrees with the seller. *With added noise*: a known
share of the sellers' labels is moved to a sibling category; the scripted moderators answer with
the label the seller had given, and the table counts against that.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from tests.e2e.loop import MainLoop
from tests.e2e.panel import Answers
from tests.e2e.report import shown
from tests.e2e.stack import Stack
from tests.labelstudio_server import ROOT

DECIDED_SHARE = 0.10
PROXIES = ("medical_health", "cosmetics_fragrance", "phones_wearables", "recorded_media", "gas_heating_cooking", "child_safety")
ABSTENTIONS = ("Not sure", "Skip", "Other")


def main() -> None:
    """Prepare a noisy copy, run both measurements, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "../shared/data/gumtree")
    parser.add_argument("--noise", type=float, default=0.15, help="share of labels moved to a sibling")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    kind = "clothing" if (options.data / "images.csv").is_file() else "gumtree"
    folder = Path(tempfile.mkdtemp(prefix="main-loop-"))
    try:
        natural(folder / "natural", kind, options)
        noisy(folder / "noisy", kind, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def natural(folder: Path, kind: str, options: argparse.Namespace) -> None:
    """The listings as they are: agreement of out-of-sample predictions with the seller."""
    stack = Stack(folder, seed=options.seed, **policy(kind))
    listings, _ = prepare(folder, kind, options, noise=0.0)
    loop = MainLoop(stack, Answers({}, {}), seed=options.seed)
    loop.bring_in(listings, "--map", mapping(kind), "--images", options.data / "images")
    loop.train_first()
    report = loop.figures.first
    print(f"\n{kind}, as they are: {loop.figures.n_listings:,} listings, {loop.figures.n_rejected} rejected")
    print(f"out-of-sample agreement with the seller's category: {report['out_of_sample']['agreement']:.1%}")
    print(f"labels doubted: {report['out_of_sample']['n_issues']:,}; seconds {loop.figures.seconds['first training']:.0f}\n")


def noisy(folder: Path, kind: str, options: argparse.Namespace) -> None:
    """The whole loop, with added noise that is known."""
    stack = Stack(folder, seed=options.seed, retrain_cooldown_s=0, reconcile_every_s=3600, **policy(kind))
    listings, answers = prepare(folder, kind, options, noise=options.noise)
    n_decided = round(DECIDED_SHARE * len(answers.category))
    stack.settings |= {"retrain_min_corrections": max(10, n_decided // 3), "review_batch": n_decided}
    loop = MainLoop(stack, answers, seed=options.seed)
    try:
        stack.start_labelstudio()
        loop.bring_in(listings, "--map", mapping(kind), "--images", options.data / "images")
        loop.train_first()
        loop.open_review(n_decided)
        loop.moderate()
        loop.heal()
        loop.retrain()
        loop.finish()
    finally:
        stack.stop()
    print(f"\n{kind}, {options.noise:.0%} of the sellers' labels moved to a sibling:")
    print(shown(loop.figures, answers))


def prepare(folder: Path, kind: str, options: argparse.Namespace, *, noise: float) -> tuple[Path, Answers]:
    """A copy of the table with a share of labels moved, and the labels as they were."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(options.seed)
    source = options.data / ("images.csv" if kind == "clothing" else "listings.csv")
    rows = pd.read_csv(source, dtype=str, keep_default_na=False)
    columns = ["label"] if kind == "clothing" else ["level1", "level2"]
    ref = "image" if kind == "clothing" else "id"
    labelled = ~rows[columns[0]].isin([*ABSTENTIONS, ""])
    paths = rows[columns].apply(lambda row: " / ".join(part for part in row if part), axis=1)
    answers = Answers(dict(zip(rows[ref][labelled], paths[labelled], strict=True)), {})
    moved = labelled & (rng.random(len(rows)) < noise)
    if moved.any():
        pool = rows.loc[labelled, columns]
        rows.loc[moved, columns] = [_sibling(tuple(row), pool, rng) for row in rows.loc[moved, columns].to_numpy()]
    target = folder / source.name
    rows.to_csv(target, index=False)
    return target, answers


def _sibling(row: tuple[str, ...], table: pd.DataFrame, rng: np.random.Generator) -> list[str]:
    """Another category of the same branch, drawn by size; of any branch where there is no sibling."""
    near = table[table.iloc[:, 0] == row[0]] if len(row) > 1 else table
    others = near[(near != list(row)).any(axis=1)]
    pool = others if len(others) else table[(table != list(row)).any(axis=1)]
    return list(pool.iloc[rng.integers(len(pool))])


def policy(kind: str) -> dict[str, object]:
    """The violations this catalog knows: the ads carry six proxies, the clothes none."""
    return {"violations": PROXIES} if kind == "gumtree" else {}


def mapping(kind: str) -> Path:
    """The documented example mapping for this catalog."""
    return ROOT / "docs" / "mappings" / f"{kind}.toml"


if __name__ == "__main__":
    main()
