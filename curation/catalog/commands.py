"""`refurbish sample` and `refurbish ingest`."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation import console

if TYPE_CHECKING:
    from curation.store.workspace import Workspace


@console.command("sample", example="refurbish sample --n 3000 --seed 1 --out catalog")
@click.option("--n", default=3000, show_default=True, type=click.IntRange(1), help="Listings.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same catalog.")
@click.option("--noise", default=0.15, show_default=True, type=click.FloatRange(0, 0.5), help="Share of wrong categories.")
@click.option("--out", default="catalog", show_default=True, type=click.Path(path_type=Path), help="Folder to write.")
def sample(n: int, seed: int, noise: float, out: Path, as_json: bool) -> None:
    """Generate a sample catalog with known truth.

    Writes OUT/listings.csv, OUT/images, OUT/mapping.toml, and the truth apart in OUT/truth.csv.
    """
    import dataclasses

    from curation.catalog.sample import generate

    console.emit(dataclasses.asdict(generate(out, n=n, seed=seed, noise=noise)), as_json=as_json)


@console.command("ingest", example="refurbish ingest catalog/listings.csv --images catalog/images")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--reports", type=click.Path(path_type=Path), help="Users' reports: ref, reason, and words, reporter, at if known.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of the photos (default: as mapped, else images).")
@click.option(
    "--map", "map_file", type=click.Path(path_type=Path), help="Mapping (default: mapping.toml beside FILE, or a guess)."
)
@click.option("--taxonomy", type=click.Path(path_type=Path), help="Closed taxonomy: one path a line, or nested JSON.")
@click.option("--format", "fmt", type=click.Choice(["csv", "jsonl", "parquet"]), help="Default: by the file's ending.")
@click.option("--rejects", type=click.Path(path_type=Path), help="Default: FILE.rejects.jsonl beside FILE.")
@click.option("--no-groups", is_flag=True, help="Leave near-duplicate groups as they are.")
@console.pass_session
def ingest(
    session: console.Session,
    /,
    file: Path | None,
    reports: Path | None,
    map_file: Path | None,
    no_groups: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Read listings from CSV, JSONL or Parquet, and what users reported of them.

    Bad rows and photos never stop a run: they are kept with row number, field and reason in the
    rejects file. Reading the same file again changes nothing. Reports of listings that are not
    here yet are kept until they come.
    """
    if file is None and reports is None:
        raise click.UsageError("name a file of listings, or one of reports with --reports")
    workspace = session.workspace()
    found: dict[str, Any] = {}
    words = []
    if file is not None:
        found = _listings(workspace, file, map_file, no_groups, as_json, options)
        words.append(_words(found))
    if reports is not None:
        told = _reports(workspace, reports, options["rejects"] if file is None else None, as_json)
        words.append(_told(told))
        found |= {"reports": told}
    console.emit(found, as_json=as_json, human="\n".join(words))


def _listings(
    workspace: "Workspace", file: Path, map_file: Path | None, no_groups: bool, quiet: bool, options: dict[str, Any]
) -> dict[str, Any]:
    import dataclasses

    from curation.catalog import ingest as room
    from curation.catalog import mapping
    from curation.store.workspace import utc_now

    chosen = room.Options(map=mapping.load(map_file) if map_file else None, group=not no_groups, **options)
    progress = console.Progress(f"reading {file.name}", quiet=quiet)
    started_s = time.perf_counter()
    summary = room.run(workspace, file, chosen, now=utc_now(), advance=_advance(progress))
    progress.done()
    return dataclasses.asdict(summary) | {"n_seconds": time.perf_counter() - started_s}


def _reports(workspace: "Workspace", file: Path, rejects: Path | None, quiet: bool) -> dict[str, Any]:
    import dataclasses

    from curation.catalog import reports as room
    from curation.store.workspace import utc_now

    progress = console.Progress(f"reading {file.name}", quiet=quiet)
    summary = room.ingest(workspace, file, rejects=rejects, now=utc_now(), advance=_advance(progress))
    progress.done()
    return dataclasses.asdict(summary)


def _advance(progress: console.Progress) -> Callable[[int, int], None]:
    def advance(n: int, total: int) -> None:
        progress.total = total
        progress.advance(n)

    return advance


def _told(found: dict[str, Any]) -> str:
    """A file of reports in one paragraph."""
    said = (
        f"{found['n_rows']:,} reports: {found['n_new']:,} new, {found['n_known']:,} known, {found['n_rejected']:,} rejected; "
        f"{found['n_flagged']:,} flags are new, {found['n_waiting']:,} reports wait for their listing"
    )
    lines = [said, *(f"  {n:,} x {reason}" for reason, n in found["reasons"].items())]
    return "\n".join([*lines, f"rejects are in {found['rejects']}"] if found["rejects"] else lines)


def _words(found: dict[str, Any]) -> str:
    """The summary for people: the losses by reason, and the mapping only where it was guessed."""
    shown = {key: found[key] for key in found if key.startswith("n_") and key != "n_seconds"} | {
        "seconds": round(found["n_seconds"], 1)
    }
    width = max(map(len, shown))
    lines = [f"{key.removeprefix('n_').replace('_', ' '):<{width}}  {value:,}" for key, value in shown.items()]
    lines += [f"  {n:,} x {reason}" for reason, n in found["reasons"].items()]
    if found["rejects"]:
        lines.append(f"rejects are in {found['rejects']}")
    if found["mapping_from"] == "guessed":
        lines += ["columns were guessed; to say otherwise, put this into a mapping.toml:"]
        lines += [f"  {key} = {_toml(value)}" for key, value in found["mapping"].items()]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
