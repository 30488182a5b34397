"""The two ways in that anybody on the network may try, from bytes to what is stored."""

from pathlib import Path

from curation.catalog import images
from curation.labelstudio import payloads, redact
from curation.labelstudio.answers import Vocabulary

CATEGORIES = frozenset({"Home / Tools", "Home / Garden", "Toys"})
VIOLATIONS = frozenset({"counterfeit", "unsafe_product"})
WORDS = Vocabulary(CATEGORIES, VIOLATIONS)


def payload(_folder: Path, data: bytes) -> None:
    """A body of the hook, as far as the database: what the events hold can be stored."""
    found = payloads.parse(redact.redact(data), "labelstudio:1", CATEGORIES, VIOLATIONS)
    for event in found.events:
        text = repr(event)
        text.encode()
        assert "\x00" not in text


def photo(_folder: Path, data: bytes) -> None:
    """A picture, as far as the file store."""
    made = images.thumbnail(data)
    assert made.jpeg.startswith(b"\xff\xd8") and max(made.width_px, made.height_px) <= images.MAX_SIDE_PX
