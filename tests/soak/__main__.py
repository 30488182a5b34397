"""`python -m tests.soak`: run one soak, print what it saw; exit code 1 if anything differs."""

import argparse
import os
import sys
from pathlib import Path

from curation.console import table
from tests.soak import __doc__ as description
from tests.soak.report import differences, rows
from tests.soak.soak import Options, soak, temporary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=description)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1, help="of moderators, proxy and kills; threads still race")
    parser.add_argument("--moderators", type=int, default=5)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--listings", type=int, default=150)
    parser.add_argument("--keep", type=Path, help="a new folder for databases and logs, which stays")
    chosen = parser.parse_args()
    options = Options(chosen.minutes, chosen.seed, chosen.moderators, chosen.database, chosen.listings)
    with temporary(chosen.keep) as folder:
        found = soak(options, folder)
    print(f"{options.moderators} moderators, {options.database}, seed {options.seed}, {os.cpu_count()} cores")
    print(table(rows(found), ("", "")))
    for line in differences(found):
        print(line)
    return int(not found.is_equal)


if __name__ == "__main__":
    sys.exit(main())
