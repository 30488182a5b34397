"""The base of every table: how constraints are named, and which column type stands for which Python type."""

from datetime import datetime
from typing import Any

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from curation.store.db import SafeText, StrictJSON, UtcDateTime

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Typed columns map to the types that close the gaps between the two databases."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {str: SafeText, datetime: UtcDateTime, dict[str, Any]: StrictJSON, list[Any]: StrictJSON}
