"""From a moderator's click in a real Label Studio to the changed label in the ledger.

    python -m tests.benchmarks.click_to_label --n 100

Label Studio, the service and one worker run as processes of their own, as in `make demo`. A click is
the request that the editor sends on Submit, made with the moderator's own session; the clock starts
before it is sent and stops when the label that another process reads from the database has changed.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from curation.labelstudio import push
from curation.store.workspace import utc_now
from tests import launch
from tests.labelstudio_people import Moderator
from tests.labelstudio_server import running
from tests.live.world import SECRET, World, world
from tests.serving import served, working

GOAL_S = 1.0
PATIENCE_S = 30.0
WARM_UP = 3
"""Clicks that are not counted: the worker imports its handlers with the first."""

ANSWER = "Home / Tools"
KINDS = "ingest,consensus,reconcile,push,refresh"


def main() -> int:
    """Print the figures; exit code 1 if the median misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100, help="clicks to measure")
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory(prefix="click-") as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'refurbish.db'}"
        with (
            running(folder / "labelstudio") as server,
            served(folder, url, webhook_secret=SECRET) as service,
            world(server, folder, n + WARM_UP, port=service.port) as here,
            working(folder, "--kinds", KINDS, **launch.told(here.workspace.settings)),
        ):
            times = _measure(here, server.moderator("anna@example.com"), n)
    return _report(times)


def _measure(here: World, moderator: Moderator, n: int) -> list[tuple[float, float]]:
    """(seconds until Label Studio answered, seconds until the label had changed) of each click."""
    refs = [f"r{i}" for i in range(n + WARM_UP)]
    here.set_up()
    here.suggest(refs, ANSWER)
    here.ask(*refs)
    push.push(here.workspace, now=utc_now())
    task_ids = {ref: int(task["id"]) for ref, task in here.tasks().items()}
    times = [_click(here, moderator, ref, task_ids[ref]) for ref in refs]
    moderator.close()
    return times[WARM_UP:]


def _click(here: World, moderator: Moderator, ref: str, task_id: int) -> tuple[float, float]:
    result = [
        {"from_name": "category", "to_name": "title", "type": "taxonomy", "value": {"taxonomy": [ANSWER.split(" / ")]}},
        {"from_name": "violation", "to_name": "title", "type": "choices", "value": {"choices": ["none"]}},
    ]
    started_s = time.perf_counter()
    moderator.annotate(task_id, result)
    answered_s = time.perf_counter() - started_s
    while here.label(ref) != (ANSWER, "moderators"):
        if time.perf_counter() - started_s > PATIENCE_S:
            raise RuntimeError(f"the label of {ref} did not change in {PATIENCE_S:.0f} s; is the worker running?")
        time.sleep(0.002)
    return answered_s, time.perf_counter() - started_s


def _report(times: list[tuple[float, float]]) -> int:
    for name, values in zip(("Label Studio answered", "label changed"), zip(*times, strict=True), strict=True):
        cuts = statistics.quantiles(values, n=20)
        print(f"{name:<22} median {statistics.median(values):.3f} s   p95 {cuts[-1]:.3f} s   worst {max(values):.3f} s")
    median_s = statistics.median(changed for _, changed in times)
    print(f"{len(times)} clicks on {os.cpu_count()} cores, SQLite; goal: median under {GOAL_S:.0f} s")
    return int(median_s >= GOAL_S)


if __name__ == "__main__":
    sys.exit(main())
