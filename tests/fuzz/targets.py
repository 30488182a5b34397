"""What is fuzzed, imported under instrumentation, and how its inputs are changed."""

import json
import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import atheris

from curation.errors import RefurbishError

with atheris.instrument_imports(include=["curation.labelstudio", "curation.catalog", "json", "PIL"]):
    from tests import parser_paths

CORPUS = Path(__file__).parent.parent / "corpus"

INSTEAD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    1e308,
    "",
    "\x00",
    "\ud800",
    "x" * 300,
    "../../x",
    "none",
    "Toys",
    [],
    {},
    [[]],
    [["Toys"]],
    ["none", "counterfeit"],
    {"id": 1},
    {"taxonomy": [["Home", "Tools"]]},
    {"choices": ["none"]},
    "2026-02-28T09:15:02Z",
    "prediction",
)
"""Values that mean something somewhere in a payload, or do harm anywhere."""

LIMIT_BYTES = 16 * 1024

Mutator = Callable[[bytes, int, int], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """One way in under the fuzzer. `mutate`: how an input is changed; None leaves it to libFuzzer."""

    read: Callable[[Path, bytes], None]
    seeds: tuple[Path, ...]
    mutate: Mutator | None = None

    def try_one(self, data: bytes) -> None:
        """A result or an error of ours; everything else is a find."""
        try:
            self.read(CORPUS, data)
        except RefurbishError as error:
            if not str(error).isprintable():
                raise ValueError(f"a message that could steer a terminal: {error!r}") from error


def _changed_json(data: bytes, limit: int, seed: int) -> bytes:
    """Half of the time one value of the document is another, dropped or doubled; else bytes are changed as libFuzzer likes."""
    dice = random.Random(seed)
    try:
        document = json.loads(data) if dice.random() < 0.5 else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict | list) or not document:
        return bytes(atheris.Mutate(data, limit))
    for _ in range(dice.randint(1, 3)):
        _change(document, dice)
    changed = json.dumps(document).encode()
    return changed if len(changed) <= limit else bytes(atheris.Mutate(data, limit))


def _change(node: Any, dice: random.Random) -> None:
    """Walk down some way and change what is there."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = dice.choice(keys)
        below = node[key]
        if not isinstance(below, dict | list) or not below or dice.random() < 0.2:
            break
        node = below
    way = dice.randrange(4)
    if way == 0:
        del node[key]
    elif way == 1 and isinstance(node, list):
        node.insert(key, deepcopy(below))
    else:
        node[key] = deepcopy(dice.choice(INSTEAD))


TARGETS = {
    "payloads": Target(parser_paths.payload, tuple(CORPUS.glob("labelstudio/*.json")), _changed_json),
    "photos": Target(parser_paths.photo, tuple(CORPUS.glob("*/photos/*"))),
}
