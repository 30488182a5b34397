"""A taxonomy file: one path a line, or nested JSON objects."""

import json
from pathlib import Path
from typing import Any

from curation.catalog import cells
from curation.catalog.drafts import MAX_DEPTH, MAX_NAME_CHARS
from curation.errors import InputError, RowError, shorten
from curation.types import PATH_SEPARATOR

MAX_PATHS = 100_000
SEPARATORS = (PATH_SEPARATOR, " > ", ">", "\t")


def load(file: Path) -> tuple[str, ...]:
    """The paths of a taxonomy, joined by PATH_SEPARATOR.

    Text: one path a line, levels separated by ``" / "``, ``" > "`` or a tab, lines starting with
    ``#`` left out. JSON: nested objects (``{"Home": {"Garden": {}}}``) or a list of such paths.
    """
    try:
        said = file.read_text("utf-8-sig")
        found = json.loads(said) if file.suffix.lower() == ".json" else said.splitlines()
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"taxonomy file {file} cannot be read: {shorten(str(error))}") from error
    paths = _nested(found, ()) if isinstance(found, dict) else _listed(found)
    unique = tuple(dict.fromkeys(_path(file, names) for names in paths))
    if not unique or len(unique) > MAX_PATHS:
        raise InputError(f"taxonomy file {file} holds {len(unique):,} categories; it needs 1 to {MAX_PATHS:,}")
    return unique


def _listed(found: Any) -> list[tuple[str, ...]]:
    lines = [line.strip() for line in found if isinstance(line, str)] if isinstance(found, list) else []
    return [tuple(_split(line)) for line in lines if line and not line.startswith("#")]


def _split(line: str) -> list[str]:
    separator = next((one for one in SEPARATORS if one in line), PATH_SEPARATOR)
    return line.split(separator)


def _nested(found: dict[str, Any], above: tuple[str, ...]) -> list[tuple[str, ...]]:
    paths = []
    for name, below in found.items():
        paths.append((*above, name))
        if isinstance(below, dict) and len(above) < MAX_DEPTH:
            paths += _nested(below, (*above, name))
    return paths


def _path(file: Path, names: tuple[str, ...]) -> str:
    try:
        cleaned = [" ".join(cells.text(name, "category", MAX_NAME_CHARS).split()).replace(PATH_SEPARATOR, "/") for name in names]
    except RowError as error:
        raise InputError(f"taxonomy file {file}: {error}") from error
    if not all(cleaned) or len(cleaned) > MAX_DEPTH:
        raise InputError(f"taxonomy file {file}: path {shorten(names)} has an empty level or more than {MAX_DEPTH} levels")
    return PATH_SEPARATOR.join(cleaned)
