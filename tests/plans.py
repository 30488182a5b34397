"""How the database goes about the statements of some work: the index that it names, or the table that it reads."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session


def plans(session: Session, work: Callable[[Session], object]) -> list[str]:
    """The plan of each query and update that `work` sends, in its order; what it changed stays."""
    connection = session.connection()
    asked: list[tuple[str, Any]] = []

    def note(*found: Any) -> None:
        asked.append(found[2:4])

    event.listen(connection.engine, "before_cursor_execute", note)
    try:
        work(session)
    finally:
        event.remove(connection.engine, "before_cursor_execute", note)
    how = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    wanted = [(words, values) for words, values in asked if words.startswith(("SELECT", "UPDATE"))]
    return ["\n".join(map(str, connection.exec_driver_sql(f"{how} {words}", values))) for words, values in wanted]
