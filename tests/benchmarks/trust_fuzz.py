"""How much hostile input was tried, and what came of it: ``python -m tests.benchmarks.trust_fuzz [--short]``."""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.parsers import PARSERS, attempt
from tests.property.test_parsers import TRICKS, changed

SHORT_S, LONG_S = 10, 60
FUZZED = ("payloads", "photos")


def run(short: bool) -> list[tuple[str, str]]:
    """What was tried and what was found, as (name, figure). Raises RuntimeError where a fuzzer found something."""
    seconds = SHORT_S if short else LONG_S
    asked = _run("api", seconds, r"(\d+ requests, \d+ server errors, \d+ failures)")
    rows = [("requests by schemathesis, as each role", asked)]
    rows += [(f"executions of atheris, {what}", _run(what, seconds, r"Done (\d+ runs)") + ", 0 finds") for what in FUZZED]
    n_examples = 20 if short else 400
    n_tried = sum(_examples(name, n_examples) for name in PARSERS)
    rows.append((f"changed bytes into {len(PARSERS)} parsers, by hypothesis", f"{n_tried} examples, 0 errors that are not ours"))
    return [*rows, ("tricks put into each parser's input by hand", f"{len(TRICKS)}")]


def _run(what: str, seconds: int, pattern: str) -> str:
    command = [sys.executable, "-m", "tests.fuzz", what, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    said = done.stdout + done.stderr
    found = re.findall(pattern, said)
    if done.returncode or not found:
        raise RuntimeError(f"fuzzing {what} found something: {(done.stdout or done.stderr)[-3000:]}")
    return str(found[-1])


def _examples(name: str, n_examples: int) -> int:
    """How many different inputs the parser read or refused."""
    tried: set[bytes] = set()
    with tempfile.TemporaryDirectory() as folder:

        @seed(1)
        @settings(max_examples=n_examples, deadline=None, database=None)
        @given(data=st.data())
        def each(data: st.DataObject) -> None:
            drawn = data.draw(changed(PARSERS[name].seeds))
            tried.add(drawn)
            attempt(PARSERS[name], Path(folder), drawn)

        each()
    return len(tried)


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--short", action="store_true", help="seconds instead of minutes")
    for name, figure in run(options.parse_args().short):
        print(f"{name:55} {figure}")


if __name__ == "__main__":
    main()
