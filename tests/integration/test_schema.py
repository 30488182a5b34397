"""The schema: models equal migrations, on both databases."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from curation.store import schema, tables
from curation.store.db import Database


def test_migrations_give_the_schema_of_the_models(db_url: str) -> None:
    """After all migrations there is nothing left for autogenerate to do (fault 72)."""
    db = Database(db_url)
    schema.upgrade(db)
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, tables.Base.metadata)
    db.dispose()
    assert differences == []
