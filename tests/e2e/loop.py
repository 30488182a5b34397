"""The main loop, step by step, through the commands, services and pages a user has."""

import contextlib
import csv
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curation.quality.metrics import Estimate
from tests.e2e import truth
from tests.e2e.panel import Answers, Panel, Tally
from tests.e2e.stack import LIGHT_KINDS, Stack

OUTAGE_AT = (0.55, 0.65)
"""Between these shares of the decisions the service is down: their webhooks are lost for good."""
RUN_TIMEOUT_S = 1800.0


@dataclass
class Figures:
    """What one pass of the loop measured."""

    seconds: dict[str, float] = field(default_factory=dict)
    n_listings: int = 0
    n_rejected: int = 0
    n_batch: int = 0
    tally: Tally = field(default_factory=Tally)
    doctor: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    hooks: dict[str, int] = field(default_factory=dict)
    n_unheard: int = 0  #: answers given while the service was down
    n_in_ledger: int = 0  #: annotations that the ledger holds
    first: dict[str, Any] = field(default_factory=dict)
    second: dict[str, Any] = field(default_factory=dict)
    labels_before: dict[str, str] = field(default_factory=dict)
    labels_after: dict[str, str] = field(default_factory=dict)
    decided: dict[str, str] = field(default_factory=dict)
    suspects: list[dict[str, str]] = field(default_factory=list)
    export: dict[str, Any] = field(default_factory=dict)
    accuracies: dict[str, Estimate] = field(default_factory=dict)  #: of each model, against the known truth


class MainLoop:
    """One pass over one catalog. `say` is told what goes on."""

    def __init__(self, stack: Stack, answers: Answers, *, seed: int = 1, say: Callable[[str], None] = print) -> None:
        self.stack = stack
        self.answers = answers
        self.seed = seed
        self.say = say
        self.figures = Figures()

    def bring_in(self, listings: Path, *options: object) -> None:
        """Migrate an empty database and read the catalog."""
        with self.stage("ingest"):
            self.stack.run("db", "upgrade")
            summary = self.stack.run("ingest", listings, *options)
            self.figures.n_listings = self.stack.run("status")["listings"]
            self.figures.n_rejected = summary["n_rejected_rows"] + summary["n_rejected_fields"]
        with self.stage("export before"):
            self.figures.labels_before = self._labels("before")

    def train_first(self) -> None:
        """The first detector, on what sellers said; nothing is verified yet."""
        with self.stage("first training"):
            self.figures.first = self.stack.run("retrain", "--trigger", "first model")

    def open_review(self, n: int) -> None:
        """Set Label Studio up, choose a batch and push it."""
        with self.stage("set-up and push"):
            self.stack.start_service()
            self.stack.start_worker("worker", LIGHT_KINDS)
            self.stack.run("labelstudio", "setup")
            self.figures.doctor = self.stack.run("labelstudio", "doctor")
            self.stack.run("suspects", "--question", "category", "--out", self.stack.folder / "suspects.csv")
            self.figures.suspects = _read_csv(self.stack.folder / "suspects.csv")
            self.figures.n_batch = self.stack.run("review", "select", "--n", n)["n_listings"]
            self.stack.run("labelstudio", "push")

    def moderate(self) -> None:
        """Three people decide; in the middle the service is down for a while."""
        outage = tuple(round(share * self.figures.n_batch) for share in OUTAGE_AT)
        project_id = self.stack.run("labelstudio", "setup")["project_id"]
        panel = Panel(self.stack.labelstudio, project_id, self.answers, seed=self.seed)
        with self.stage("moderators"):
            panel.work(outage[0])
            self.say(f"      the service is stopped after {panel.tally.n_decisions} decisions …")
            self.stack.stop_process("serve")
            n_before = panel.tally.n_decisions + panel.tally.n_skips
            panel.work(outage[1])
            self.figures.n_unheard = panel.tally.n_decisions + panel.tally.n_skips - n_before
            self.stack.start_service()
            self.say(f"      … and is back after {panel.tally.n_decisions}; the hooks in between are lost")
            panel.work()
        panel.close()
        self.figures.tally = panel.tally

    def heal(self) -> None:
        """Reconcile what the lost hooks missed, and let the worker empty the inbox."""
        with self.stage("reconcile"):
            self._wait_for_inbox()  # what the hooks brought is not what they missed
            self.figures.drift = self.stack.run("labelstudio", "reconcile")
            self.figures.n_in_ledger = self._n_in_ledger()
            self.figures.hooks = self.stack.run("status")["inbox"]

    def retrain(self) -> None:
        """The policy has asked for a run by itself; a worker takes it."""
        with self.stage("retrain and gate"):
            status = self.stack.run("status")
            self.say(f"      {status['next_retrain']}")
            self.stack.start_worker("trainer", "retrain")
            self.figures.second = self._wait_for_run(self.figures.first["run_id"])
            self.stack.stop_process("trainer")

    def finish(self) -> None:
        """Push fresh suggestions, export the cleaned dataset."""
        with self.stage("export"):
            self.figures.labels_after = self._labels("after")
            self.figures.export = self.stack.run(
                "export", "--out", self.stack.folder / "dataset", "--format", "parquet", "--overwrite"
            )
        if self.answers.category:
            self.figures.accuracies = truth.accuracies(self.stack.folder / "home", self.answers.category)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say the stage and keep its seconds."""
        self.say(f"  ▸ {name}")
        started_s = time.monotonic()
        yield
        self.figures.seconds[name] = self.figures.seconds.get(name, 0.0) + time.monotonic() - started_s

    def _labels(self, name: str) -> dict[str, str]:
        """Category label of every listing, as an export shows it to anybody."""
        folder = self.stack.folder / f"labels-{name}"
        self.stack.run("export", "--out", folder, "--format", "csv", "--overwrite")
        rows = [row for path in sorted(folder.rglob("*.csv")) for row in _read_csv(path)]
        if name == "after":
            self.figures.decided = {row["ref"]: row["category"] for row in rows if row["category_source"] == "moderators"}
        return {row["ref"]: row["category"] for row in rows if row["category"]}

    def _n_in_ledger(self) -> int:
        """How many annotations count now, asked of the database itself."""
        with contextlib.closing(sqlite3.connect(self.stack.folder / "home" / "refurbish.db")) as database:
            query = "SELECT count(DISTINCT source_id) FROM annotation WHERE is_current"
            return int(database.execute(query).fetchone()[0])

    def _wait_for_inbox(self) -> None:
        deadline = time.monotonic() + 120
        while self.stack.run("status")["inbox"].get("received", 0):
            if time.monotonic() > deadline:
                raise RuntimeError("the inbox was not emptied in two minutes; see worker.log")
            time.sleep(0.5)

    def _wait_for_run(self, after: int) -> dict[str, Any]:
        deadline = time.monotonic() + RUN_TIMEOUT_S
        while time.monotonic() < deadline:
            runs = [run for run in self.stack.run("runs")["runs"] if run["id"] > after]
            if runs and runs[0]["state"] not in ("running",):
                found: dict[str, Any] = runs[0]
                return found
            time.sleep(3.0)
        raise RuntimeError("the retrain did not end; see trainer.log")


def _read_csv(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 24)
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [{key: value.removeprefix("'") for key, value in row.items()} for row in csv.DictReader(file)]
