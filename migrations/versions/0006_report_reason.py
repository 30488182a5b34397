"""reports of one reason, newest first, without reading the others"""

from alembic import op

revision = "0006"
down_revision = "0004"


def upgrade() -> None:
    op.create_index("ix_report_reason_id", "report", ["reason", "id"])


def downgrade() -> None:
    op.drop_index("ix_report_reason_id", "report")
