"""One hostile delivery or small file each: what is read, what is refused, and the exact words."""

import json
import re
from pathlib import Path

import pytest

from curation.errors import PayloadError
from curation.labelstudio import payloads
from curation.types import LabelEvent
from tests.parser_paths import CATEGORIES, VIOLATIONS
from tests.parsers import PARSERS, attempt
from tests.unit.test_catalog_corpus import CORPUS, files, name

REFUSED: dict[str, str] = json.loads((CORPUS / "reject" / "payload_messages.json").read_text("utf-8"))
READ: dict[str, list[str]] = json.loads((CORPUS / "accept" / "payload_outcomes.json").read_text("utf-8"))

DEEP = re.compile("maximum recursion depth exceeded[^;']*(?='|;|$)")
"""Python's own words, which differ from version to version."""


def parsed(path: Path) -> payloads.Parsed:
    """What the receiver's parser makes of the file."""
    return payloads.parse(path.read_bytes(), "labelstudio:1", CATEGORIES, VIOLATIONS)


@pytest.mark.parametrize("path", files("reject/payloads"), ids=name)
def test_a_delivery_is_quarantined_with_the_reason(path: Path) -> None:
    """One trick, one sentence (faults 14, 15, 16)."""
    with pytest.raises(PayloadError) as caught:
        parsed(path)
    assert str(caught.value) == REFUSED[path.name]


@pytest.mark.parametrize("path", files("accept/payloads"), ids=name)
def test_an_odd_delivery_is_read_and_no_label_is_guessed(path: Path) -> None:
    """Every answer has a named outcome, and what is unknown is ignored by name (fault 16)."""
    found = parsed(path)
    outcomes = [
        f"{event.question}: {event.outcome} {event.value or ''}".strip()
        if isinstance(event, LabelEvent)
        else type(event).__name__
        for event in found.events
    ]
    assert outcomes + [found.note] * bool(found.note) == READ[path.name]


@pytest.mark.parametrize("path", files("reject/small"), ids=name)
def test_a_small_file_is_refused_with_the_reason(path: Path, tmp_path: Path) -> None:
    """Mappings, taxonomies, settings, genotypes, sidecars and their like: one trick, one sentence (fault 16)."""
    said = attempt(PARSERS[path.name.partition(".")[0].replace("-", " ")], tmp_path, path.read_bytes())
    assert DEEP.sub("nested too deeply", (said or "it was read").replace(str(tmp_path), "FOLDER")) == REFUSED[path.name]
