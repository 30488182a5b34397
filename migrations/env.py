"""Alembic's entry: runs on the connection that `curation.store.schema` passes in."""

from alembic import context

from curation.store import service_tables, tables  # noqa: F401  each adds its tables to the metadata
from curation.store.base import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
