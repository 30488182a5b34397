"""reports of one reason, and questions by state, without reading the others"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index("ix_report_reason_id", "report", ["reason", "id"])
    op.create_index("ix_review_item_question_state", "review_item", ["question", "state", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_review_item_question_state", "review_item")
    op.drop_index("ix_report_reason_id", "report")
