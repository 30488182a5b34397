"""indexes for the pages on label quality, doubted labels and the search for listings"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

DOUBTED = {
    "ix_suspect_doubted": ["question", "is_issue", "rank"],
    "ix_suspect_doubted_given": ["question", "is_issue", "given", "rank"],
    "ix_suspect_doubted_suggested": ["question", "is_issue", "suggested", "rank"],
}


def upgrade() -> None:
    is_stored = op.get_bind().dialect.name == "postgresql"  # SQLite can add no stored one, PostgreSQL index no other
    made = sa.Computed("lower(substr(title, 1, 64))", persisted=is_stored)
    op.add_column("listing", sa.Column("title_start", sa.Text(), made, nullable=True))
    ops = {"title_start": "text_pattern_ops"}
    op.create_index("ix_listing_title_start", "listing", ["title_start", "id"], postgresql_ops=ops)
    op.create_index("ix_listing_ref_start", "listing", ["ref"], postgresql_ops={"ref": "text_pattern_ops"})
    op.create_index("ix_label_question_source_value", "label", ["question", "source", "value", "listing_id"])
    for name, columns in DOUBTED.items():
        op.create_index(name, "suspect", columns)


def downgrade() -> None:
    for name in DOUBTED:
        op.drop_index(name, "suspect")
    op.drop_index("ix_label_question_source_value", "label")
    op.drop_index("ix_listing_ref_start", "listing")
    op.drop_index("ix_listing_title_start", "listing")
    op.drop_column("listing", "title_start")
