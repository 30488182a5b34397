"""One annotation's answer to one question. Label Studio validates none of it, so we do."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curation.errors import PayloadError, shorten
from curation.types import NO_VIOLATION, PATH_SEPARATOR, Origin, Outcome, Question, join_violations

VALUE_KEYS = {Question.CATEGORY: "taxonomy", Question.VIOLATION: "choices"}
"""Where a result item holds the answer."""


MAX_PATH_CHARACTERS = 4_000
"""No category has a longer path."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Answers that exist: leaf paths (and paths that were renamed to one), and violation names."""

    categories: Collection[str]
    violations: Collection[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said. `value` is set only if the outcome is LABEL, `raw_value` only if it could not be taken."""

    outcome: Outcome
    value: str | None = None
    origin: Origin = Origin.UNKNOWN
    raw_value: str | None = None


def read(question: Question, result: Iterable[Mapping[str, Any]], vocabulary: Vocabulary) -> Answer:
    """The answer to `question` in the items of a result; items about anything else are left alone."""
    items = [item for item in result if item.get("from_name") == question.value]
    said = [part for item in items for part in _said(item, VALUE_KEYS[question])]
    if not said:
        return Answer(Outcome.EMPTY)
    found = _category(said, vocabulary) if question is Question.CATEGORY else _violation(said, vocabulary)
    return Answer(found.outcome, found.value, _origin(items), found.raw_value)


def text_of(result: Iterable[Mapping[str, Any]], name: str) -> str:
    """What was written into the free-text field `name`."""
    parts = [part for item in result if item.get("from_name") == name for part in _said(item, "text")]
    return "\n".join(part for part in parts if isinstance(part, str))


def _said(item: Mapping[str, Any], key: str) -> list[Any]:
    value = item.get("value")
    said = value.get(key) if isinstance(value, Mapping) else value
    if said is None:
        return []
    return list(said) if isinstance(said, list) else [said]


def _category(said: list[Any], vocabulary: Vocabulary) -> Answer:
    paths = {PATH_SEPARATOR.join(names) for names in said if _is_path(names)}
    leaves = paths - {above for path in paths for above in _above(path)}
    if len(leaves) > 1:
        return Answer(Outcome.CONTRADICTORY, raw_value=shorten(sorted(leaves), 500))
    if not leaves or not leaves <= set(vocabulary.categories) or not all(_is_path(names) for names in said):
        return Answer(Outcome.UNKNOWN_LABEL, raw_value=shorten(said, 500))
    return Answer(Outcome.LABEL, leaves.pop())


def _above(path: str) -> Iterator[str]:
    """The paths that lead to this one."""
    at = path.find(PATH_SEPARATOR) if len(path) <= MAX_PATH_CHARACTERS else -1
    while at >= 0:
        yield path[:at]
        at = path.find(PATH_SEPARATOR, at + len(PATH_SEPARATOR))


def _is_path(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def _violation(said: list[Any], vocabulary: Vocabulary) -> Answer:
    names = {name for name in said if isinstance(name, str)}
    if len(names) != len({str(part) for part in said}) or not names <= {NO_VIOLATION, *vocabulary.violations}:
        return Answer(Outcome.UNKNOWN_LABEL, raw_value=shorten(said, 500))
    if NO_VIOLATION in names and len(names) > 1:
        return Answer(Outcome.CONTRADICTORY, raw_value=shorten(sorted(names), 500))
    return Answer(Outcome.LABEL, join_violations(names - {NO_VIOLATION}))


def _origin(items: Iterable[Mapping[str, Any]]) -> Origin:
    """The origin of the items; where they differ, the one that shows a person's hand."""
    known = {origin.value: origin for origin in Origin}
    found = {known.get(str(item.get("origin")), Origin.UNKNOWN) for item in items}
    for origin in (Origin.MANUAL, Origin.PREDICTION_CHANGED, Origin.PREDICTION):
        if origin in found:
            return origin
    return Origin.UNKNOWN


def storable(text: str, what: str) -> str:
    """The text, if a database can hold it. Raises PayloadError on NUL and lone surrogates."""
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise PayloadError(f"{what} holds a NUL character or a lone surrogate: {shorten(text)}")
    return text
