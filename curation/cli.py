"""`refurbish`: a lazy table of commands. Together with `worker.py` the only place that knows all floors."""

import importlib
import os
from pathlib import Path

import click

from curation import __version__, crash
from curation.console import Session
from curation.errors import RefurbishError

COMMANDS = {
    "db": ("curation.admin:db", "Create or upgrade the database."),
    "config": ("curation.admin:config", "Show every setting and where it comes from."),
    "doctor": ("curation.admin:doctor", "Check database, files, clock and device."),
    "inbox": ("curation.admin:inbox", "Look at received deliveries; replay quarantined ones."),
    "jobs": ("curation.admin:jobs", "Look at the job queue; revive dead jobs."),
    "user": ("curation.people_commands:user", "Who may sign in, and as what."),
    "token": ("curation.people_commands:token", "Create and revoke API tokens."),
    "history": ("curation.admin:history", "Everything known about one listing's labels."),
    "status": ("curation.release.commands:status", "Listings, labels, queue, live model, next retrain."),
    "sample": ("curation.catalog.commands:sample", "Generate a sample catalog with known truth."),
    "ingest": ("curation.catalog.commands:ingest", "Read listings from CSV, JSONL or Parquet."),
    "labelstudio": ("curation.labelstudio.commands:labelstudio", "Set up, push, reconcile, doctor."),
    "review": ("curation.review.commands:review", "Choose what moderators should see next."),
    "suspects": ("curation.review.commands:suspects", "Listings whose label is doubted, ranked."),
    "repair": ("curation.review.repair_commands:repair", "Change wrong categories where that is safe; or undo it."),
    "categories": ("curation.review.insight_commands:categories", "Broad and confused categories; merges and splits."),
    "periods": ("curation.review.insight_commands:periods", "Accuracy and noise by date of listing."),
    "noise": ("curation.review.noise_commands:noise", "Which categories are mislabelled, and as what."),
    "retrain": ("trainer.commands:retrain", "Train, evaluate, pass the gate and release."),
    "category": ("trainer.addition.commands:category", "Add a violation to the live detector, in one command."),
    "search": ("trainer.search.commands:search", "Search the text branch's cells, and race them."),
    "runs": ("curation.release.commands:runs", "Training runs, newest first."),
    "models": ("curation.release.commands:models", "Model versions and which one is live."),
    "promote": ("curation.release.commands:promote", "Make a model version live."),
    "rollback": ("curation.release.commands:rollback", "Make the previous model live again."),
    "export": ("curation.release.commands:export", "Write a cleaned, versioned dataset."),
    "embed": ("curation.release.embed_commands:embed", "Listings as vectors; the neighbours of one."),
    "openapi": ("webhooks.commands:openapi", "Print the API's OpenAPI document."),
    "backup": ("curation.backup_commands:backup", "Copy database and files while everything runs."),
    "restore": ("curation.backup_commands:restore", "Put a backup into an empty home."),
    "erase": ("curation.erasure_commands:erase", "Remove a seller's listings, or one, for good."),
    "verify": ("curation.erasure_commands:verify", "Check stored snapshots and models."),
    "completion": ("curation.admin:completion", "Completion for bash, zsh or fish."),
    "serve": ("webhooks.commands:serve", "Run the web service."),
    "worker": ("curation.worker:worker", "Run the jobs."),
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RefurbishError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"refurbish: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(
    cls=LazyGroup,
    epilog="\b\nExample:\n  refurbish sample --n 3000 --seed 1 --out catalog\n  refurbish ingest catalog/listings.csv",
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default: refurbish.toml here).")
@click.option("--home", type=click.Path(path_type=Path), help="Data folder (default: refurbish-data).")
@click.option("--database-url", help="SQLAlchemy URL (default: SQLite in the data folder).")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="refurbish")
@click.pass_context
def main(ctx: click.Context, config: Path | None, home: Path | None, database_url: str | None, debug: bool) -> None:
    """Turn noisy seller labels into a clean dataset and a fresh detector."""
    crash.arm(os.environ)
    ctx.obj = Session(config, {"home": home, "database_url": database_url})


def entry() -> None:
    """The console script."""
    main(prog_name="refurbish", windows_expand_args=False)


if __name__ == "__main__":
    entry()
