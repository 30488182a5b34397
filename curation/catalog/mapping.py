"""Which column of a catalog file says what: read from TOML, or guessed from the columns' names."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from curation.errors import ConfigError, InputError, place, shorten
from curation.types import PATH_SEPARATOR

CONSTANTS = Literal["seller", "title", "description", "currency", "category"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CategoryColumns(_Part):
    """The seller's category: one column holding a path, or one column a level."""

    column: str | None = None
    columns: tuple[str, ...] = ()
    separator: str = Field(PATH_SEPARATOR, description='between the levels in `column`; "" = the cell is one level')
    none: tuple[str, ...] = Field((), description='cells that mean "no category", such as "Not sure"')

    @model_validator(mode="after")
    def _one(self) -> "CategoryColumns":
        _one_of("category", self.column, self.columns)
        return self


class PhotoColumns(_Part):
    """Names of photo files, joined in one column or spread over several."""

    column: str | None = None
    columns: tuple[str, ...] = ()
    separator: str = Field("|", min_length=1, description="between the names in a cell of text")
    pattern: str = Field("{id}", description="file name made of a name, such as {id}.jpg")
    folder: str = Field("images", description="where the files are, beside the catalog file")

    @model_validator(mode="after")
    def _one(self) -> "PhotoColumns":
        if "{id}" not in self.pattern:
            raise ValueError(f"photos.pattern {self.pattern!r} has no {{id}} in it; write for example '{{id}}.jpg'")
        _one_of("photos", self.column, self.columns)
        return self


class FlagColumns(_Part):
    """Violations that users or older rules reported: names joined in a column, or 0/1 columns."""

    column: str | None = None
    columns: dict[str, str] = Field(default_factory=dict, description="0/1 column → violation")
    separator: str = Field("|", min_length=1)

    @model_validator(mode="after")
    def _one(self) -> "FlagColumns":
        _one_of("flags", self.column, self.columns)
        return self


class TimeColumn(_Part):
    """When the listing was put up. Without `format` ISO 8601 is expected."""

    column: str
    format: str | None = None


def _one_of(name: str, column: str | None, columns: object) -> None:
    if bool(column) == bool(columns):
        raise ValueError(f"{name} needs either column or columns")


def _short(value: Any) -> Any:
    """``category = "x"`` is short for ``category = {column = "x"}``."""
    return {"column": value} if isinstance(value, str) else value


def _named(value: Any) -> Any:
    """``attributes = ["x"]`` is short for ``attributes = {x = "x"}``."""
    return {name: name for name in value} if isinstance(value, list) else value


class FileMap(_Part):
    """The whole mapping; unknown keys are errors."""

    ref: str
    seller: str | None = None
    title: str | None = None
    description: str | None = None
    price: str | None = None
    currency: str | None = None
    category: Annotated[CategoryColumns | None, BeforeValidator(_short)] = None
    photos: Annotated[PhotoColumns | None, BeforeValidator(_short)] = None
    flags: Annotated[FlagColumns | None, BeforeValidator(_short)] = None
    listed_at: Annotated[TimeColumn | None, BeforeValidator(_short)] = None
    group: str | None = Field(None, description="the catalog's own key of near-duplicates")
    attributes: Annotated[dict[str, str], BeforeValidator(_named)] = Field(default_factory=dict)
    constants: dict[CONSTANTS, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "FileMap":
        both = [name for name in self.constants if getattr(self, name)]
        if both:
            raise ValueError(f"{', '.join(both)}: mapped to a column and given as a constant; keep one")
        if not self.title and not self.constants.get("title"):
            raise ValueError("title: name its column, or give constants.title")
        return self

    def columns(self) -> Iterator[str]:
        """Every column the mapping reads."""
        yield from filter(None, (self.ref, self.seller, self.title, self.description, self.price, self.currency, self.group))
        for part in (self.category, self.photos, self.flags, self.listed_at):
            if part is not None:
                yield from [part.column] if part.column else getattr(part, "columns", ())
        yield from self.attributes.values()


def load(file: Path) -> FileMap:
    """The mapping in a TOML file. Raises ConfigError naming each wrong key."""
    try:
        found = tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"mapping {file} does not exist; name another one or leave --map out") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"mapping {file} cannot be read: {error}") from error
    try:
        return FileMap.model_validate(found)
    except ValidationError as error:
        lines = [f"{place(e['loc'], 'mapping')}: {e['msg']}" for e in error.errors(include_input=False)]
        raise ConfigError(f"mapping {file} is wrong: " + "; ".join(lines)) from None


NAMES: Mapping[str, tuple[str, ...]] = {
    "ref": ("ref", "id", "listing_id", "listing_ref", "item_id", "ad_id", "sku", "external_id", "uuid"),
    "seller": ("seller", "seller_ref", "seller_id", "sender_id", "user_id", "vendor", "merchant"),
    "title": ("title", "name", "headline", "subject", "product_name"),
    "description": ("description", "desc", "body", "text", "details"),
    "price": ("price", "price_gbp", "price_eur", "price_usd", "amount"),
    "currency": ("currency", "currency_code"),
    "category": ("category", "category_path", "path", "taxonomy", "label"),
    "photos": ("photos", "images", "pictures", "photo", "image", "image_file", "picture"),
    "flags": ("flags", "violations", "reports"),
    "group": ("group", "group_key", "cluster", "near_duplicate_of"),
    "listed_at": ("listed_at", "posted_at", "created_at", "date"),
}
"""Usual column names, the likeliest first."""

ATTRIBUTES = ("brand", "condition", "colour", "color", "size", "material", "model", "gtin", "weight", "location")
SEPARATORS = (" / ", " > ", " » ", " | ", ">", "/")
LEVEL = re.compile(r"(?:category_?)?(?:level|l|lvl)_?(\d)", re.IGNORECASE)


def guess(columns: Sequence[str], samples: Sequence[Mapping[str, Any]]) -> FileMap:
    """The likely mapping of a file with these columns; `samples`: a few of its rows."""
    by_name = {column.strip().casefold(): column for column in reversed(columns)}
    found: dict[str, Any] = {}
    for field, names in NAMES.items():
        column = next((by_name[name] for name in names if name in by_name), None)
        if column is not None:
            found[field] = column
    missing = [field for field in ("ref", "title") if field not in found]
    if missing:
        raise InputError(
            f"no column of {shorten(list(columns), 300)} looks like the {' or the '.join(missing)}; "
            "say which one is in a mapping file (--map)"
        )
    currency = found.get("price", "")[-3:].upper() if found.get("price", "").casefold().startswith("price_") else ""
    if currency and "currency" not in found:
        found["constants"] = {"currency": currency}
    found |= _guess_category(columns, found.get("category"), samples) | _guess_photos(found.get("photos"), samples)
    found["attributes"] = {name: by_name[name] for name in ATTRIBUTES if name in by_name}
    return FileMap.model_validate(found)


def _guess_category(columns: Sequence[str], column: str | None, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    levels = sorted((int(found[1]), name) for name in columns if (found := LEVEL.fullmatch(name)))
    if column is None:
        return {"category": {"columns": [name for _, name in levels]}} if levels else {}
    cells = [row.get(column) for row in samples]
    separator = next((one for one in SEPARATORS if any(isinstance(cell, str) and one in cell for cell in cells)), "")
    return {"category": {"column": column, "separator": separator}}


def _guess_photos(column: str | None, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Names without an ending are taken as names of JPEG files."""
    cells = [cell for row in samples if (cell := row.get(column or ""))]
    if column is None or any(not isinstance(cell, str) for cell in cells):
        return {}
    separator = next((one for one in ("|", ";", ",") if any(one in cell for cell in cells)), "|")
    bare = bool(cells) and not any(re.search(r"\.\w{3,4}($|[|;,])", cell) for cell in cells)
    return {"photos": {"column": column, "separator": separator, "pattern": "{id}.jpg" if bare else "{id}"}}
