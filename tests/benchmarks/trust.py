"""What is promised about loss, load and hostile input, measured on real processes: one table of figures.

    python -m tests.benchmarks.trust [exactly-once] [soak] [load] [fuzz] [--short]

Without a name all sections run, minutes each; `--short` is enough to see that each works.
"""

import argparse
import importlib
from collections.abc import Sequence

SECTIONS = {
    "exactly-once": "tests.benchmarks.trust_exactly_once",
    "soak": "tests.benchmarks.trust_soak",
    "load": "tests.benchmarks.trust_load",
    "fuzz": "tests.benchmarks.trust_fuzz",
}
"""Name of a section → the module whose `run(short)` gives its rows, (what, figure)."""


def main(asked: Sequence[str] | None = None) -> None:
    """Run the sections that were asked for and print their rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.trust", description=__doc__.partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--short", action="store_true", help="a small run of each")
    chosen = parser.parse_args(asked)
    if unknown := sorted(set(chosen.sections) - set(SECTIONS)):
        parser.error(f"unknown section {', '.join(unknown)}; known: {', '.join(SECTIONS)}")
    for name in chosen.sections or SECTIONS:
        rows: list[tuple[str, str]] = importlib.import_module(SECTIONS[name]).run(chosen.short)
        width = max(len(what) for what, _ in rows)
        print(f"\n{name}")
        for what, figure in rows:
            print(f"  {what:<{width}}  {figure}", flush=True)


if __name__ == "__main__":
    main()
