"""`make demo`: the whole loop on a generated catalog, with a real Label Studio, in a few minutes.

Everything lies in ``.demo/run`` and is stopped at the end; with ``--keep`` it is left running.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

from curation.catalog import sample, sample_truth
from tests.e2e.loop import MainLoop
from tests.e2e.panel import Answers
from tests.e2e.report import failures, shown
from tests.e2e.stack import Stack
from tests.labelstudio_server import ROOT

FOLDER = ROOT / ".demo" / "run"
DECIDED_SHARE = 0.10
SETTINGS = {"retrain_cooldown_s": 0, "reconcile_every_s": 3600, "n_folds": 4}
"""The timer is slow here, so that the reconciliation that is shown finds what the hooks missed."""


def main() -> None:
    """Parse the command line, run the loop, print the table."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    stop_previous()
    shutil.rmtree(FOLDER, ignore_errors=True)
    started_s = time.monotonic()
    stack = Stack(FOLDER, **SETTINGS, seed=options.seed)
    try:
        run(stack, options)
        print(f"\nwhole run: {time.monotonic() - started_s:.0f} s")
    except BaseException:
        stack.stop()
        raise
    if options.keep:
        leave_running(stack)
    else:
        stack.stop()
        print("everything was stopped; `make demo KEEP=1` leaves it running to look at")


def run(stack: Stack, options: argparse.Namespace) -> None:
    """The stages in their order; Label Studio boots beside the first training."""
    booting = _Boot(stack)
    booting.start()
    try:
        _run_loop(stack, options, booting)
    except BaseException:
        booting.join()  # else a Label Studio that is still migrating would be left behind
        raise


def _run_loop(stack: Stack, options: argparse.Namespace, booting: "_Boot") -> None:
    catalog = options.catalog or make_catalog(FOLDER / "catalog", options)
    answers = known_answers(catalog / "truth.csv")
    loop = MainLoop(stack, answers, seed=options.seed)
    loop.bring_in(catalog / "listings.csv")
    n_decided = round(DECIDED_SHARE * loop.figures.n_listings)
    stack.settings |= {"retrain_min_corrections": max(10, n_decided // 3), "review_batch": n_decided}
    loop.train_first()
    with loop.stage("wait for Label Studio"):
        booting.wait()
    loop.open_review(n_decided)
    if not answers.category:
        stack.start_worker("trainer", "retrain")
        options.keep = True
        print(f"\n{catalog} has no truth.csv, so nobody can play the moderators: {loop.figures.n_batch} listings wait for you")
        return
    loop.moderate()
    loop.heal()
    loop.retrain()
    loop.finish()
    print("\n" + shown(loop.figures, answers))
    if broken := failures(loop.figures, answers):
        raise SystemExit("the demo did not do what it promises: " + "; ".join(broken))
    print(f"cleaned dataset: {FOLDER / 'dataset'}")


def known_answers(truth_file: Path) -> Answers:
    """What the scripted moderators go by; nothing for a catalog whose truth nobody knows."""
    if not truth_file.is_file():
        return Answers({}, {})
    truth = sample_truth.load(truth_file)
    return Answers(truth.category, {ref: _violations(value) for ref, value in truth.violation.items()})


def make_catalog(folder: Path, options: argparse.Namespace) -> Path:
    """Generate the sample catalog: the system sees listings.csv and photos, never truth.csv."""
    print(f"  ▸ sample catalog of {options.n:,} listings")
    sample.generate(folder, n=options.n, seed=options.seed, noise=options.noise)
    return folder


def leave_running(stack: Stack) -> None:
    """Keep the processes, remember them for the next start, and say where to click."""
    (FOLDER / "pids.json").write_text(json.dumps(stack.pids()))
    for name, address in stack.where_to_click().items():
        print(f"{name:>14}: {address}")
    print("stop it with: make demo-stop")


def stop_previous() -> None:
    """Stop what an earlier run left running."""
    remembered = FOLDER / "pids.json"
    if not remembered.is_file():
        return
    for pid in json.loads(remembered.read_text()).values():
        try:
            os.killpg(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    remembered.unlink()
    time.sleep(2)


class _Boot(threading.Thread):
    """Label Studio's first start takes a minute or two of migrations; nothing has to wait for it yet."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.stack.start_labelstudio()
        except BaseException as failure:
            self.failure = failure

    def wait(self) -> None:
        self.join()
        if self.failure is not None:
            raise self.failure


def _violations(value: str) -> tuple[str, ...]:
    return () if value in ("", "none") else tuple(value.split("|"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--catalog", type=Path, help="folder with listings.csv, images/ and truth.csv (default: generate one)")
    parser.add_argument("--n", type=int, default=3000, help="listings to generate")
    parser.add_argument("--noise", type=float, default=0.12, help="share of wrong seller labels to generate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    parser.add_argument("--stop", action="store_true", help="only stop what an earlier run left")
    found = parser.parse_args()
    if found.stop:
        stop_previous()
        raise SystemExit(0)
    return found


if __name__ == "__main__":
    main()
