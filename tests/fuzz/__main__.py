"""Fuzz for a bounded time: ``payloads`` and ``photos`` by atheris, ``api`` by schemathesis. Exit code 0: nothing was found."""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def fuzz(name: str, seconds: int, seed: int) -> None:
    """Run atheris; it ends the process. An input that fails is printed by libFuzzer and kept beside the corpus."""
    import atheris

    from tests.fuzz.targets import LIMIT_BYTES, TARGETS

    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed_file in enumerate(target.seeds):
        shutil.copy(seed_file, corpus / f"{number:03}")
    options = {
        "max_total_time": seconds,
        "max_len": LIMIT_BYTES,
        "seed": seed,
        "artifact_prefix": f"{folder}/",
        "timeout": 20,
        "rss_limit_mb": 2048,
        "print_final_stats": 1,
    }
    given = {"custom_mutator": target.mutate} if target.mutate else {}
    atheris.Setup([name, *(f"-{key}={value}" for key, value in options.items()), str(corpus)], target.try_one, **given)
    atheris.Fuzz()


def ask(seconds: int) -> int:
    """Ask the API as each role in turn, other things each time, until the time is over; how much was wrong."""
    from tests import api_fuzz
    from tests.conftest import make_workspace

    ends_s = time.monotonic() + seconds
    statuses: Counter[int] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-api-") as name:
        workspace = make_workspace(Path(name), f"sqlite:///{name}/refurbish.db", api_limit=api_fuzz.GENEROUS)
        with api_fuzz.served(workspace) as (app, tokens):
            while not failures and time.monotonic() < ends_s:
                for token in tokens.values():
                    found = api_fuzz.ask(app, token, n_examples=20, explore=True)
                    statuses += found.statuses
                    failures += found.failures
        workspace.close()
    n_errors = sum(n for status, n in statuses.items() if status >= 500 and status != 503)
    print(*failures, sep="\n\n")
    print("by status:", dict(sorted(statuses.items())))
    print(f"{statuses.total()} requests, {n_errors} server errors, {len(failures)} failures")
    return len(failures) + n_errors


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("what", choices=["payloads", "photos", "api"])
    options.add_argument("--seconds", type=int, default=60, help="how long (default 60)")
    options.add_argument("--seed", type=int, default=0, help="0: another one each time")
    said = options.parse_args()
    if said.what == "api":
        sys.exit(min(1, ask(said.seconds)))
    fuzz(said.what, said.seconds, said.seed)


if __name__ == "__main__":
    main()
