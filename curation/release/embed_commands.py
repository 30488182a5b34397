"""`refurbish embed`."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curation import console
from curation.errors import InputError, NotFoundError
from curation.types import Split

if TYPE_CHECKING:
    from curation.catalog.scorer import Scorer
    from curation.store.workspace import Workspace


@console.command("embed", example="refurbish embed --out embeddings.parquet\n  refurbish embed --nearest 1042 --k 5")
@click.option("--out", type=click.Path(path_type=Path), help="Parquet file to write: ref, split, model, embedding.")
@click.option("--ref", "refs", multiple=True, help="Only this listing; may be repeated (default: all).")
@click.option("--split", type=click.Choice([split.value for split in Split]), help="Only listings of this split.")
@click.option("--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True, help="Of the vectors.")
@click.option("--unit/--raw", default=True, show_default=True, help="Vectors of length 1, or as the model gives them.")
@click.option("--nearest", metavar="REF", help="Instead, show the listings nearest to this one.")
@click.option("--k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many of them.")
@click.option("--file", type=click.Path(path_type=Path), help="Look among the embeddings of this file (default: embed all).")
@console.pass_session
def embed(session: console.Session, /, out: Path | None, nearest: str | None, as_json: bool, **options: Any) -> None:
    """Listings as vectors of the live model (product2vec), or the neighbours of one."""
    if (out is None) == (nearest is None):
        raise InputError("embed writes a file or shows neighbours; give either --out FILE or --nearest REF")
    workspace = session.workspace()
    if out is not None:
        console.emit(_written(workspace, out, options, quiet=as_json), as_json=as_json)
        return
    found = _nearest(workspace, str(nearest), options["k"], options["file"], quiet=as_json)
    human = console.table([(one["ref"], f"{one['similarity']:.3f}", one["title"]) for one in found], ("ref", "cosine", "title"))
    console.emit({"ref": nearest, "neighbours": found}, as_json=as_json, human=human)


def _written(workspace: "Workspace", out: Path, options: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    from curation.catalog import embeddings
    from curation.release.splits import split_of

    started_s, (name, scorer) = time.perf_counter(), _live(workspace)
    progress = console.Progress("embedding", None if options["refs"] else _n_listings(workspace), quiet=quiet)
    with embeddings.Writer(out, name, options["dtype"]) as writer:
        for page in embeddings.pages(workspace, options["refs"]):
            chosen = [one for one in page if options["split"] in (None, split_of(one.group_key).value)]
            if chosen:
                found = embeddings.embedded(scorer, chosen, workspace.media)
                vectors = embeddings.unit(found.vectors) if options["unit"] else found.vectors
                writer.write(embeddings.Embedded(found.refs, vectors), [split_of(one.group_key).value for one in chosen])
            progress.advance(len(page))
        if not writer.n_rows:
            raise InputError("there is no such listing to embed; ingest some first, or choose another split")
    progress.done()
    seconds = round(time.perf_counter() - started_s, 2)
    return {"out": str(out), "model": name, "n_listings": writer.n_rows, "width": writer.width, "seconds": seconds}


def _nearest(workspace: "Workspace", ref: str, k: int, file: Path | None, *, quiet: bool) -> list[dict[str, Any]]:
    """Neighbours with their titles."""
    from curation.catalog import embeddings
    from curation.store import listings

    if file is not None:
        query = embeddings.vector_of(ref, embeddings.read(file))
        found = embeddings.nearest(query, embeddings.read(file), k, but=ref)
    else:
        _, scorer = _live(workspace)
        query = embeddings.vector_of(ref, _all(workspace, scorer, (ref,)))
        progress = console.Progress("embedding", _n_listings(workspace), quiet=quiet)
        found = embeddings.nearest(query, _all(workspace, scorer), k, but=ref, advance=progress.advance)
        progress.done()
    with workspace.db.read() as session:
        titles = {one.ref: one.title for one in listings.load(session, refs=[one.ref for one in found])}
    return [asdict(one) | {"title": titles.get(one.ref, "")} for one in found]


def _all(workspace: "Workspace", scorer: "Scorer", refs: tuple[str, ...] = ()) -> Iterator[Any]:
    from curation.catalog import embeddings

    return (embeddings.embedded(scorer, page, workspace.media) for page in embeddings.pages(workspace, refs))


def _live(workspace: "Workspace") -> "tuple[str, Scorer]":
    """Name and scorer of the live model. Raises NotFoundError where there is none."""
    from curation.catalog.scorer import Scorer
    from curation.release import registry

    with workspace.db.read() as session:
        model = registry.live(session)
    if model is None:
        raise NotFoundError("no model is live; train one first: refurbish retrain")
    return model.name, Scorer.load(workspace.files, model.onnx_sha256, model.sidecar_sha256)


def _n_listings(workspace: "Workspace") -> int:
    from curation.store import listings

    with workspace.db.read() as session:
        return listings.count(session)
