"""erased listings leave their ids, and their history outlives them"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        sa.Column("leftover", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
    )
    op.create_table(
        "erased_listing",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("erasure_id", sa.Integer(), nullable=False),
        sa.Column("listing_id", sa.Integer(), nullable=False),
        sa.Column("ref", sa.String(length=200), nullable=False),
        sa.Column("allowed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["erasure_id"], ["erasure.id"], name=op.f("fk_erased_listing_erasure_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erased_listing")),
    )
    for name in ("erasure_id", "listing_id", "ref"):
        op.create_index(op.f(f"ix_erased_listing_{name}"), "erased_listing", [name])
    with op.batch_alter_table("label_history") as table:
        table.drop_constraint(op.f("fk_label_history_listing_id"), type_="foreignkey")


def downgrade() -> None:
    op.execute("DELETE FROM label_history WHERE listing_id NOT IN (SELECT id FROM listing)")
    with op.batch_alter_table("label_history") as table:
        table.create_foreign_key(op.f("fk_label_history_listing_id"), "listing", ["listing_id"], ["id"])
    op.drop_table("erased_listing")
    op.drop_table("erasure")
