"""an index of the votes that count, in place of one that says true or false of every annotation"""

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.drop_index("ix_annotation_is_current", "annotation")
    op.create_index(
        "ix_annotation_votes",
        "annotation",
        ["question", "listing_ref", "outcome", "annotator"],
        sqlite_where=text("is_current IS 1"),
        postgresql_where=text("is_current IS true"),
    )


def downgrade() -> None:
    op.drop_index("ix_annotation_votes", "annotation")
    op.create_index("ix_annotation_is_current", "annotation", ["is_current"])
