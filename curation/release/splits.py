"""Which part of a dataset a near-duplicate group belongs to: stable, and never split."""

import hashlib

from curation.types import Split

TRAIN_SHARE = 0.65
VALIDATION_SHARE = 0.10
"""The rest, 25 %, is test: moderators decide on few listings, and the gate needs enough of them."""

SALT = "refurbish-split-1:"
"""Changing it moves every group; listings would leak from one model's test into the next one's training."""


def split_of(group_key: str) -> Split:
    """The split of a group of near-duplicates, by a hash of its key: the same today and in a year."""
    digest = hashlib.sha256((SALT + group_key).encode("utf-8", "surrogatepass")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < TRAIN_SHARE:
        return Split.TRAIN
    return Split.VALIDATION if share < TRAIN_SHARE + VALIDATION_SHARE else Split.TEST
