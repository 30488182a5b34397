"""A soak: people work in a real Label Studio while webhooks are lost, late and doubled and our processes are killed.

    python -m tests.soak --minutes 10 --seed 1 --moderators 5 --database sqlite

It ends in a comparison of our ledger with Label Studio's own export, listing by listing.
"""
