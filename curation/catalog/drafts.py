"""A row of a catalog file made into a listing, by a mapping: everything but its photos' bytes."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from curation.catalog import cells
from curation.catalog.mapping import CategoryColumns, FileMap, FlagColumns, PhotoColumns
from curation.errors import RowError, shorten
from curation.store.listings import Record
from curation.types import NO_VIOLATION, PATH_SEPARATOR

MAX_REF_CHARS = 200
MAX_TITLE_CHARS = 1_000
MAX_DESCRIPTION_CHARS = 20_000
"""Several times the longest that marketplaces allow; what is beyond is cut and noted."""

MAX_NAME_CHARS = 100
MAX_DEPTH = 10
MAX_ATTRIBUTE_CHARS = 2_000
MAX_ATTRIBUTES = 100
MAX_ATTRIBUTES_BYTES = 64 << 10
MAX_PHOTOS = 24

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What rows are held to: the mapping, the policy's violations, and the taxonomy if it is closed."""

    map: FileMap
    violations: frozenset[str]
    categories: frozenset[str] | None = None


@dataclass(slots=True)
class Draft:
    """A row on its way to a Record; `notes`: what of it was lost."""

    n: int
    line: int | None
    values: Values
    raw: str | None
    ref: str = ""
    said: dict[str, Any] = field(default_factory=dict)
    photos: tuple[str, ...] = ()
    notes: list[RowError] = field(default_factory=list)

    def record(self, photos: tuple[Any, ...]) -> Record:
        return Record(ref=self.ref, photos=photos, **self.said)


def fill(draft: Draft, rules: Rules) -> None:
    """Read the row's cells into the draft. Raises RowError where the whole row is unusable.

    A wrong ref, seller, title, description or price loses the row; any other wrong cell loses that field only.
    """
    file_map, values = rules.map, draft.values
    draft.ref = cells.text(values.get(file_map.ref), "ref", MAX_REF_CHARS)
    title = _cell(file_map, values, "title", MAX_TITLE_CHARS)
    for name, found in (("ref", draft.ref), ("title", title)):
        if not found:
            raise RowError(name, f"{name} is missing; fill in column {shorten(getattr(file_map, name) or name)}", "missing")
    draft.said = {
        "title": title,
        "price": cells.price(values.get(file_map.price)) if file_map.price else None,
        "seller_ref": _cell(file_map, values, "seller", MAX_REF_CHARS) or None,
        "description": _description(draft, file_map),
        "currency": _kept(draft, _currency, file_map, values),
        "category": _kept(draft, _category, values, rules),
        "flags": _flags(draft, file_map.flags, rules.violations) if file_map.flags else (),
        "listed_at": _kept(draft, _moment, file_map, values),
        "group_key": _kept(draft, _group, file_map, values),
        "attributes": _attributes(draft, file_map.attributes),
    }
    draft.photos = _photo_names(draft, file_map.photos) if file_map.photos else ()


def _kept(draft: Draft, read: Any, *args: Any) -> Any:
    """What `read` makes of the cells, or None with a note where they are wrong."""
    try:
        return read(*args)
    except RowError as error:
        draft.notes.append(error)
        return None


def _cell(file_map: FileMap, values: Values, name: str, limit: int) -> str:
    column = getattr(file_map, name)
    return cells.text(values.get(column) if column else file_map.constants.get(name), name, limit)  # type: ignore[call-overload]


def _description(draft: Draft, file_map: FileMap) -> str:
    """Cut at the limit: a listing is still worth having without the end of its text."""
    column = file_map.description
    value = draft.values.get(column) if column else file_map.constants.get("description")
    if isinstance(value, str) and len(value) > MAX_DESCRIPTION_CHARS:
        words = f"description has {len(value):,} characters; only the first {MAX_DESCRIPTION_CHARS:,} were kept"
        draft.notes.append(RowError("description", words, "cut"))
        value = value[:MAX_DESCRIPTION_CHARS]
    return cells.text(value, "description", 2 * MAX_DESCRIPTION_CHARS)


def _currency(file_map: FileMap, values: Values) -> str | None:
    return cells.currency(values.get(file_map.currency) if file_map.currency else file_map.constants.get("currency"))


def _moment(file_map: FileMap, values: Values) -> datetime | None:
    part = file_map.listed_at
    return cells.moment(values.get(part.column), part.format) if part else None


def _group(file_map: FileMap, values: Values) -> str | None:
    return cells.text(values.get(file_map.group), "group", MAX_REF_CHARS) or None if file_map.group else None


def _category(values: Values, rules: Rules) -> str | None:
    part = rules.map.category
    path = PATH_SEPARATOR.join(_levels(part, values)) if part else rules.map.constants.get("category")
    if path and rules.categories is not None and path not in rules.categories:
        raise RowError("category", f"category {shorten(path)} is not in the taxonomy; add it there or correct it", "unknown")
    return path or None


def _levels(part: CategoryColumns, values: Values) -> Iterator[str]:
    """The names from the root on; they end at the first empty one."""
    found = [values.get(column) for column in part.columns]
    if part.column:
        cell = values.get(part.column)
        if isinstance(cell, list):
            found = cell
        else:
            path = cells.text(cell, "category", MAX_DEPTH * MAX_NAME_CHARS)
            found = list(path.split(part.separator)) if part.separator else [path]
            found = [] if path in part.none else found
    if len(found) > MAX_DEPTH:
        raise RowError("category", f"category has {len(found)} levels, {MAX_DEPTH} are allowed: {shorten(found)}", "too_deep")
    for cell in found:
        name = " ".join(cells.text(cell, "category", MAX_NAME_CHARS).split()).replace(PATH_SEPARATOR, "/")
        if not name or name in part.none:
            return
        yield name


def _flags(draft: Draft, part: FlagColumns, violations: frozenset[str]) -> tuple[str, ...]:
    names = _kept(draft, _flag_names, draft.values, part) or []
    unknown = sorted(set(names) - violations)
    if unknown:
        words = f"flag {shorten(unknown[0])} is not a violation of the policy {', '.join(sorted(violations))}"
        draft.notes.append(RowError("flags", words, "unknown"))
    return tuple(sorted(set(names) & violations))


def _flag_names(values: Values, part: FlagColumns) -> list[str]:
    if not part.column:
        return [name for column, name in part.columns.items() if cells.flag(values.get(column), column)]
    return [name for name in _names(values.get(part.column), "flags", part.separator) if name != NO_VIOLATION]


def _names(cell: Any, field_name: str, separator: str) -> list[str]:
    """A list, or text joined by the separator, as clean names."""
    parts = cell if isinstance(cell, list) else cells.text(cell, field_name, 20_000).split(separator)
    return [name for part in parts if (name := cells.text(part, field_name, 1_000))]


def _photo_names(draft: Draft, part: PhotoColumns) -> tuple[str, ...]:
    """File names, each once, at most 24."""
    columns = [part.column] if part.column else part.columns
    found = [
        name for column in columns for name in _kept(draft, _names, draft.values.get(column), "photos", part.separator) or []
    ]
    names = tuple(dict.fromkeys(part.pattern.replace("{id}", name) for name in found))
    if len(names) > MAX_PHOTOS:
        words = f"listing has {len(names)} photos; only the first {MAX_PHOTOS} were kept"
        draft.notes.append(RowError("photos", words, "too_many"))
    return names[:MAX_PHOTOS]


def _attributes(draft: Draft, columns: Mapping[str, str]) -> dict[str, Any]:
    """Scalars and lists of scalars; a column that holds an object is spread over its keys."""
    found: dict[str, Any] = {}
    for name, column in columns.items():
        value = draft.values.get(column)
        for key, item in value.items() if isinstance(value, dict) else ((name, value),):
            made = _kept(draft, _attribute, key, item)
            if made is not None and len(found) < MAX_ATTRIBUTES:
                found[made[0]] = made[1]
    if found and len(json.dumps(found)) > MAX_ATTRIBUTES_BYTES:
        words = f"attributes take more than {MAX_ATTRIBUTES_BYTES:,} bytes; all of them were left out"
        draft.notes.append(RowError("attributes", words, "too_long"))
        return {}
    return found


def _attribute(name: Any, value: Any) -> tuple[str, Any] | None:
    key = cells.text(name, "attribute name", MAX_NAME_CHARS)
    found = cells.attribute(value, key, MAX_ATTRIBUTE_CHARS)
    return (key, found) if key and found is not None else None
