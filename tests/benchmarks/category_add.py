"""A new violation in one command, beside a full retrain: what moderators do, what the machine does, how good the head is.

    python -m tests.benchmarks.category_add
    python -m tests.benchmarks.category_add --violation off_platform_contact --n 6000

One of the six violations of the generated catalog is withheld: the first model's policy has five. Users' reports of the sixth
come as a CSV file. `refurbish category add NAME --positives FILE --ask N` is repeated, a scripted moderator answers what was
asked by the truth, until there are enough positives and a head is released. Heads are judged by the truth about every
listing of the test split, which neither was fitted on.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from curation import settings
from curation.catalog import reports, sample_truth
from curation.catalog.sample_truth import Truth
from curation.catalog.scorer import Scorer
from curation.console import table
from curation.quality import flags
from curation.release import registry
from curation.release.splits import split_of
from curation.store import labels, listings, violations
from curation.store.labels import Resolved
from curation.store.tables import LabelRow, ReviewItem
from curation.store.workspace import Workspace, utc_now
from curation.types import VIOLATIONS, LabelSource, Listing, Question, Split
from tests.benchmarks.catalog import ingest, refurbish
from trainer import retrain
from trainer.addition import addition
from trainer.addition.addition import Plan
from trainer.addition.commands import shown
from trainer.addition.contest import Rival
from trainer.addition.known import known
from trainer.asked import decided_since
from trainer.rows import SnapshotRows

MAX_ROUNDS = 8
ONE_THREAD: dict[str, bool | int | float | str] = {"n_threads": 1}
"""Two that wait for each other on a busy machine take many times as long."""

LATENCY_MS = 10_000
"""What is measured here is not how busy the machine is; the gate's own limit is a twentieth of it."""


@dataclass(frozen=True)
class World:
    """A catalog, its truth, and the violation that the first policy lacks."""

    workspace: Workspace
    truth: Truth
    withheld: str
    reported: Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=3000, help="listings")
    parser.add_argument("--violation", choices=VIOLATIONS, default="counterfeit", help="the one that is withheld")
    parser.add_argument("--decided", type=float, default=0.2, help="share that moderators decided before it was added")
    parser.add_argument("--ask", type=int, default=150, help="listings asked about in a round")
    parser.add_argument("--min-positive", type=int, default=30, help="positive listings below which nothing is fitted")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(prepared(Path(folder), options), options)
    print(json.dumps(found) if options.json else told(found, options))


def prepared(folder: Path, options: argparse.Namespace) -> World:
    """Catalog, ledger and first model without the withheld violation."""
    out, home = folder / "catalog", folder / "home"
    refurbish(home, "sample", "--n", str(options.n), "--seed", str(options.seed), "--out", str(out))
    policy = tuple(name for name in VIOLATIONS if name != options.violation)
    with (out / "listings.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    reported = [row["id"] for row in rows if options.violation in row["flags"].split("|")]
    _without(out / "listings.csv", rows, options.violation)
    ingest(home, out / "listings.csv", {"REFURBISH_VIOLATIONS": json.dumps(policy)})
    file = folder / "reports.csv"
    file.write_text("ref,reason\n" + "".join(f"{ref},reported\n" for ref in reported), encoding="utf-8")
    usual = {"violations": policy, "seed": options.seed, "n_folds": 2, "train": ONE_THREAD}
    workspace = Workspace.open(settings.load(home=home, gate_max_latency_ms=LATENCY_MS, **usual))
    world = World(workspace, sample_truth.load(out / "truth.csv"), options.violation, reports.read(file) if reported else {})
    chosen = [one.id for one in every(world)]
    rng = np.random.default_rng(options.seed)
    decide(world, rng.permutation(chosen)[: round(options.decided * len(chosen))].tolist(), knows=False)
    return world


def _without(path: Path, rows: list[dict[str, str]], name: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            kept = [flag for flag in row["flags"].split("|") if flag not in (name, "")]
            writer.writerow(row | {"flags": "|".join(kept)})


def every(world: World) -> list[Listing]:
    with world.workspace.db.read() as session:
        return [one for page in listings.pages(session) for one in page]


def decide(world: World, listing_ids: list[int], *, knows: bool) -> int:
    """Moderators answer both questions truly, the withheld violation only once they know of it; how many have it."""
    by_id, n = {one.id: one for one in every(world)}, 0
    with world.workspace.db.write() as session:
        for listing_id in listing_ids:
            ref = by_id[listing_id].ref
            names = [name for name in world.truth.violation[ref].split("|") if knows or name != world.withheld]
            n += world.withheld in names
            said = {Question.CATEGORY: world.truth.category[ref], Question.VIOLATION: "|".join(names) or "none"}
            for question, value in said.items():
                labels.set_label(session, listing_id, question, Resolved(value, LabelSource.MODERATORS, 1.0, {}), now=utc_now())
        items = session.execute(select(ReviewItem).where(ReviewItem.listing_id.in_(listing_ids))).scalars()
        for item in items:
            item.state, item.decided_at = "decided", utc_now()
    return n


def asked(world: World) -> list[int]:
    with world.workspace.db.read() as session:
        return sorted(set(session.execute(select(ReviewItem.listing_id).where(ReviewItem.state == "waiting")).scalars()))


def measure(world: World, options: argparse.Namespace) -> dict[str, Any]:
    """First model, rounds of asking, the added head, a full retrain."""
    workspace = world.workspace
    began_s = time.monotonic()
    first = retrain.run(workspace, trigger="first", now=utc_now())
    seconds = {"first model": time.monotonic() - began_s}
    rounds, report = [], {}
    for at in range(MAX_ROUNDS):
        plan = Plan(world.withheld, world.withheld.replace("_", " "), world.reported if at == 0 else {})
        plan = replace(plan, min_positive=options.min_positive, n_asked=options.ask)
        report = addition.run(workspace, plan, now=utc_now())
        print(f"round {at + 1}: {report['state']}, {report['words']}, {report['seconds']}", file=sys.stderr, flush=True)
        if report["state"] == "promoted":
            break
        chosen = asked(world)
        rounds.append(
            {"asked": len(chosen), "positive": decide(world, chosen, knows=True), "seconds": report["seconds"]["total"]}
        )
    found = {"violation": world.withheld, "first": first["state"], "rounds": rounds, "report": report}
    found["judged"] = {"added head": judged(world, report.get("model")), "TF-IDF + logistic regression": rival(world)}
    with workspace.db.read() as session:
        added = registry.live(session)
    began_s = time.monotonic()
    full = retrain.run(workspace, trigger="full", now=utc_now())
    seconds |= {"category add": report["seconds"]["total"], "full retrain": time.monotonic() - began_s}
    found["judged"]["full retrain"] = judged(world, full["model"])
    return {**found, "added": added and added.name, "full": full["state"], "seconds": seconds}


def judged(world: World, name: str | None = None) -> dict[str, Any]:
    """Average precision by the truth of each violation, on the test split."""
    workspace, test = world.workspace, [one for one in every(world) if split_of(one.group_key) is Split.TEST]
    with workspace.db.read() as session:
        model = registry.by_name(session, name) if name else registry.live(session)
    assert model is not None
    scores = Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256).score(test, workspace.media)
    found = {}
    for column, violation in enumerate(scores.violations):
        truth = np.array([violation in world.truth.violation[one.ref].split("|") for one in test])
        found[violation] = figures(scores.violation_probs[:, column].astype(np.float64), truth)
    return found


def rival(world: World) -> dict[str, Any]:
    """The same of TF-IDF with logistic regression on what is known about the training split."""
    workspace, found = world.workspace, every(world)
    with workspace.db.read() as session:
        at = next(one.at for one in violations.added(session))
        decided = decided_since(session, at)
        values = dict(labels_of(session))
    splits = np.array([split_of(one.group_key).value for one in found])
    none = (None,) * len(found)
    said = tuple(values.get(one.id) for one in found)
    rows = SnapshotRows(tuple(found), tuple(one.ref for one in found), tuple(one.group_key for one in found), splits, none, said)
    about = known(rows, world.withheld, retrain.train_config(workspace.settings), decided=decided)
    test = about.of(Split.TEST)
    truth = np.array([world.withheld in world.truth.violation[found[row].ref].split("|") for row in test])
    return {world.withheld: figures(Rival.of(found).scores(about, about.of(Split.TRAIN), test), truth)}


def labels_of(session: Any) -> list[tuple[int, tuple[str, LabelSource]]]:
    query = select(LabelRow.listing_id, LabelRow.value, LabelRow.source).where(LabelRow.question == Question.VIOLATION.value)
    return [(row.listing_id, (row.value, LabelSource(row.source))) for row in session.execute(query)]


def figures(probs: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> dict[str, float]:
    found = flags.figures(probs, truth, np.inf, rng=np.random.default_rng(1))
    precision, recall = found.precision.value, found.recall.value
    return {
        "positives": found.n_positive,
        "average_precision": found.average_precision.value,
        "low": found.average_precision.low,
        "high": found.average_precision.high,
        "precision": precision if np.isfinite(precision) else 0.0,
        "recall": recall,
    }


def told(found: Mapping[str, Any], options: argparse.Namespace) -> str:
    """Everything as tables."""
    name, rounds, heads = found["violation"], found["rounds"], found["judged"]
    rows = [
        (method, *(_cell(one.get(name))), _others(one, name), f"{found['seconds'].get(_KEY.get(method, ''), float('nan')):.1f}")
        for method, one in heads.items()
    ]
    asked_rows = [(at, one["asked"], one["positive"], f"{one['seconds']:.1f}") for at, one in enumerate(rounds, start=1)]
    n_test = heads["added head"].get(name, {}).get("positives", 0)
    header = ("", "average precision", "precision from 0.9", "recall", "mean AP of the others", "seconds")
    return "\n\n".join(
        (
            f"{options.n:,} listings, {name} withheld from the first model, {n_test} cases in the test split",
            table(asked_rows, ("round", "asked", "positive", "seconds")),
            shown(found["report"]),
            "by the truth about the test split:\n" + table(rows, header),
        )
    )


_KEY = {"added head": "category add", "full retrain": "full retrain"}


def _cell(one: Mapping[str, float] | None) -> tuple[str, str, str]:
    if not one:
        return ("none", "none", "none")
    return (
        f"{one['average_precision']:.3f} [{one['low']:.3f}, {one['high']:.3f}]",
        f"{one['precision']:.3f}",
        f"{one['recall']:.3f}",
    )


def _others(heads: Mapping[str, Mapping[str, float]], name: str) -> str:
    found = [one["average_precision"] for other, one in heads.items() if other != name]
    return f"{np.mean(found):.3f}" if found else "-"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
