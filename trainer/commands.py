"""`refurbish retrain`."""

import json
from collections.abc import Mapping
from typing import Any

import click

from curation import console
from curation.errors import InputError, shorten
from curation.release.status import flagging
from curation.store import jobs
from curation.store.workspace import utc_now
from trainer.config import TrainConfig, read_files


@console.command("retrain", example="refurbish retrain --trigger 'new season' --epochs 12")
@click.option("--trigger", default="asked for by hand", help="Why, as noted with the run.")
@click.option("--folds", type=click.IntRange(2, 20), help="Folds for out-of-sample predictions (default: the setting n_folds).")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training listings, at most.")
@click.option(
    "--set",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="Part of the fit, such as recipe=selfie, mixup=0.3, or architecture=@cells.json to read a file.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to train (default: the setting device).")
@click.option("--enqueue", is_flag=True, help="Leave it to a worker.")
@console.pass_session
def retrain(
    session: console.Session,
    trigger: str,
    folds: int | None,
    epochs: int | None,
    changes: tuple[str, ...],
    device: str | None,
    enqueue: bool,
    as_json: bool,
) -> None:
    """Train, evaluate on verified listings, pass the gate and release.

    Several processes, as one on each GPU, share the training: torchrun --nproc-per-node 2 -m curation.cli retrain
    """
    workspace, named = session.workspace(), read_files(_named(changes))
    if enqueue:
        TrainConfig.from_json(named)
        asked = {"trigger": trigger, "folds": folds, "epochs": epochs, "changes": named or None, "device": device}
        with workspace.db.write() as database:
            payload = {name: value for name, value in asked.items() if value is not None}
            is_new = jobs.enqueue(database, "retrain", payload, key="retrain", now=utc_now())
        console.emit(
            {"enqueued": is_new, "words": "a worker will train" if is_new else "a run is waiting already"}, as_json=as_json
        )
        return
    from trainer import processes  # torch takes seconds to import
    from trainer import retrain as training

    if processes.is_follower():
        training.follow_run(workspace, device)
        return
    config = training.train_config(workspace.settings, folds=folds, epochs=epochs, changes=named)
    progress = console.Progress("epochs of all fits", (config.n_folds + 1) * config.epochs, quiet=as_json)
    report = training.run(workspace, trigger=trigger, now=utc_now(), config=config, device=device, watch=progress.step)
    progress.done()
    console.emit(report, as_json=as_json, human=shown(report))


def _named(changes: tuple[str, ...]) -> dict[str, Any]:
    """Values as JSON where they are; objects and all else are text."""
    found: dict[str, Any] = {}
    for change in changes:
        name, is_given, value = change.partition("=")
        if not is_given:
            raise InputError(f"--set {shorten(change)} has no value; write --set NAME=VALUE")
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            read = value
        found[name] = value if isinstance(read, dict) else read
    return found


def shown(report: Mapping[str, Any]) -> str:
    """A run's report as a table for people."""
    folds, fit = report["out_of_sample"], report["fit"]
    rows: list[tuple[str, object]] = [
        ("run", f"{report['run_id']}, model {report['model']}: {report['state']}"),
        ("gate", report["gate"]["words"]),
        ("listings", f"{report['n_listings']:,} in {report['n_classes']} categories, {report['n_photos']:,} photos"),
        ("agreement with labels, out of sample", f"{folds['agreement']:.1%} of {folds['n_labelled']:,}"),
        ("doubted labels", f"{folds['n_issues']:,} categories, {folds['n_violation_issues']:,} violations"),
        ("fit", f"best epoch {fit['best_epoch']} of {fit['epochs']}, temperature {fit['temperature']:.2f}"),
    ]
    rows += [(f"{name} alone", _viewed(view)) for name, view in fit["views"].items() if name != "joint" and view["n"]]
    rows += [(name, _judged(report[name])) for name in ("champion", "challenger")]
    rows += [(f"flagging {name}", words) for name, words in flagging(report)]
    rows.append(("seconds", ", ".join(f"{name} {spent:.1f}" for name, spent in report["seconds"].items())))
    return console.table(rows, ("what", "found"))


def _viewed(found: Mapping[str, Any]) -> str:
    return f"right on {found['accuracy']:.1%} of {found['n']:,} validation rows, as all inputs on {found['agreement']:.1%}"


def _judged(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "none"
    if "error" in found:
        return f"{found['name']}: cannot be run, {found['error']}"
    accuracy = found["accuracy"]
    if not accuracy["n"]:
        return f"{found['name']}: no verified listing to judge it by"
    return f"{found['name']}: {accuracy['value']:.1%} [{accuracy['low']:.1%}, {accuracy['high']:.1%}] of {accuracy['n']} verified"
