"""`refurbish search`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation import console
from curation.store.files import write_atomic
from curation.store.workspace import utc_now
from curation.types import Question

if TYPE_CHECKING:
    from trainer.search.found import Progress
    from trainer.search.race import Entry


@console.command("search", example="refurbish search --budget 45 --out cells.json --svg cells.svg")
@click.option("--question", type=click.Choice([one.value for one in Question]), help="What the cells should answer.")
@click.option(
    "--seeds", type=click.IntRange(0, 20), default=3, show_default=True, help="Differentiable searches, each from its own seed."
)
@click.option("--random", "n_random", type=click.IntRange(0, 50), default=9, show_default=True, help="Random cells in the race.")
@click.option("--bred", "n_bred", type=click.IntRange(0, 50), default=4, show_default=True, help="Cells bred from its best.")
@click.option("--epochs", type=click.IntRange(1), default=15, show_default=True, help="Passes of each search.")
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, help="Steps of the race's first rung.")
@click.option("--rungs", type=click.IntRange(1, 6), default=2, show_default=True, help="Rungs, each three times as long.")
@click.option(
    "--budget", "budget_min", type=click.FloatRange(0, min_open=True), help="Minutes of wall clock, then the best so far."
)
@click.option(
    "--mode", type=click.Choice(["sentencepiece", "hashed"]), default="sentencepiece", show_default=True, help="Tokens."
)
@click.option("--darts", is_flag=True, help="First-order DARTS as published, instead of partial channels.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where to search (default: the setting device).")
@click.option("--states", type=click.Path(path_type=Path, file_okay=False), help="Folder of states; go on from those in it.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the winner's cells there, as JSON.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw them there.")
@console.pass_session
def search(
    session: console.Session,
    question: str | None,
    seeds: int,
    n_random: int,
    n_bred: int,
    epochs: int,
    steps: int,
    rungs: int,
    budget_min: float | None,
    mode: str,
    darts: bool,
    device: str | None,
    states: Path | None,
    out: Path | None,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Search the cells of a text branch, and race them against random cells, pooling and a TextCNN."""
    from trainer.detect import device_of
    from trainer.search import architecture  # torch takes seconds to import

    workspace = session.workspace()
    plan = architecture.Plan(
        question=Question(question) if question else None,
        mode=mode,
        n_seeds=seeds,
        n_random=n_random,
        n_bred=n_bred,
        epochs=epochs,
        is_darts=darts,
        race_steps=steps,
        n_rungs=rungs,
        budget_s=60 * (budget_min or float("inf")),
        seed=workspace.settings.seed,
    )
    listener = architecture.Listener(_Searching(quiet=as_json), _raced if not as_json else lambda entry: None)
    work = architecture.Work(workspace, plan, device_of(device or workspace.settings.device), states, listener)
    report = architecture.run(work, now=utc_now())
    for path, text in ((out, architecture.text(report)), (svg, architecture.picture(report))):
        if path and text:
            write_atomic(path, text.encode())
    console.emit(report, as_json=as_json, human=shown(report))


class _Searching:
    """A line of progress for each seed, with the time left."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet, self._told = quiet, (0, -1)

    def __call__(self, seed: int, progress: "Progress") -> None:
        tenth = progress.step * 10 // progress.n_steps
        if self.quiet or (seed, tenth) == self._told:
            return
        self._told = seed, tenth
        click.echo(
            f"search with seed {seed}: step {progress.step:,} of {progress.n_steps:,}, loss {progress.weight_loss:.3f}, "
            f"{progress.left_s:,.0f} s left",
            err=True,
        )


def _raced(entry: "Entry") -> None:
    click.echo(f"race, rung {entry.rung}: {entry.name} {entry.score:.3f} after {entry.n_steps:,} steps", err=True)


def shown(report: Mapping[str, Any]) -> str:
    """A search's report as tables for people."""
    header = ("rung", "design", "score", "loss", "steps", "parameters", "seconds", "goes on")
    rows = [
        (
            entry["rung"],
            entry["name"],
            "diverged" if entry["score"] is None else f"{entry['score']:.4f}",
            "-" if entry["loss"] is None else f"{entry['loss']:.3f}",
            f"{entry['n_steps']:,}",
            f"{entry['n_parameters']:,}",
            f"{entry['n_seconds']:.1f}",
            "yes" if entry["goes_on"] else "",
        )
        for entry in report["race"]
    ]
    counts = ", ".join(f"{name} {n:,}" for name, n in list(report["balance"].items())[:8])
    sizes = f"{report['n_train']:,} rows to search on ({counts}), {report['n_validation']:,} to judge by"
    about = f"run {report['run_id']}: {report['question']}, {sizes}"
    lines = [about, console.table(rows, header), report["words"]]
    return "\n".join([*lines, *([f"alarm: {report['alarm']}"] if report["alarm"] else [])])
