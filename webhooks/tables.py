"""Tables as people read them, and the same rows as CSV and JSON: every table of every page downloads."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from flask import Response, abort, render_template, request

from curation.release.formats import defuse

Row = Mapping[str, Any]
AS, TABLE = "as", "table"
"""Query arguments: ``?table=runs&as=csv`` is the table `runs` of the page, as CSV."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `kind`: text, number, share (of 1), score, moment, code, photo (sha256 of one), words (long text)."""

    key: str
    title: str
    kind: str = "text"
    link: str = ""  #: key of a row's address, if the cell leads somewhere; addresses are no column of a download

    @property
    def is_number(self) -> bool:
        """Whether its cells are aligned to the right."""
        return self.kind in ("number", "share", "score")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns. A row may hold more keys than there are columns."""

    name: str  #: unique on its page; plain letters, it stands in addresses
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    empty: str = "Nothing yet."
    older: str | None = None  #: address of the rows that follow
    alarm: str = ""  #: key of a row that is true where something is wrong
    whole: Callable[[], Iterable[Row]] | None = None  #: for downloads: all rows, where the page shows some


def page(template: str, *tables: Table, **values: Any) -> str | Response:
    """The page, or the table that the address asks for. Templates find them under ``tables.NAME``."""
    named = {table.name: table for table in tables}
    wanted, form = request.args.get(TABLE), request.args.get(AS)
    if wanted is None and form is None:
        return render_template(template, tables=named, **values)
    if wanted not in named or form not in ENCODERS:
        abort(404)
    table = named[wanted]
    rows = table.rows if table.whole is None else table.whole()
    text, content_type = ENCODERS[form](table.columns, rows)
    return Response(
        text, content_type=content_type, headers={"Content-Disposition": f'attachment; filename="refurbish-{wanted}.{form}"'}
    )


def download(name: str, form: str) -> str:
    """Address of a table of the present page in this form, with the page's own filters."""
    kept = {key: value for key, value in request.args.items() if key not in (TABLE, AS)}
    return f"{request.path}?{urlencode({**kept, TABLE: name, AS: form})}"


def as_csv(columns: Sequence[Column], rows: Iterable[Row]) -> tuple[str, str]:
    """Text and content type. No cell can start a formula; a missing value is empty."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)  # a semicolon must not end a text anywhere
    writer.writerow([column.key for column in columns])
    writer.writerows([_cell(row.get(column.key)) for column in columns] for row in rows)
    return out.getvalue(), "text/csv; charset=utf-8"


def as_json(columns: Sequence[Column], rows: Iterable[Row]) -> tuple[str, str]:
    """Text (an array of objects) and content type."""
    found = [{column.key: _plain(row.get(column.key)) for column in columns} for row in rows]
    return json.dumps(found, ensure_ascii=False, allow_nan=False), "application/json"


ENCODERS = {"csv": as_csv, "json": as_json}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _cell(value: Any) -> Any:
    value = _plain(value)
    return "" if value is None else defuse(value) if isinstance(value, str) else value
