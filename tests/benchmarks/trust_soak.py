"""Nothing lost between Label Studio and the ledger: the soak's figures (`tests/soak`).

python -m tests.benchmarks.trust_soak            # 10 minutes of traffic
python -m tests.benchmarks.trust_soak --short    # one minute
"""

import argparse
import sys

from curation.console import table
from tests.soak.report import differences, rows
from tests.soak.soak import Options, soak, temporary

MINUTES, SHORT_MINUTES = 10.0, 1.0


def run(short: bool) -> list[tuple[str, str]]:
    """(what, figure) of one soak; the differences as well, if there are any."""
    with temporary(None) as folder:
        found = soak(Options(minutes=SHORT_MINUTES if short else MINUTES, n=60 if short else 150), folder)
    return rows(found) + [("difference", line) for line in differences(found)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one minute instead of ten")
    found = run(parser.parse_args().short)
    print(table(found, ("soak", "")))
    return int(any(name == "difference" for name, _ in found))


if __name__ == "__main__":
    sys.exit(main())
