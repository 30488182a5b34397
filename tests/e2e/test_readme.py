"""The README's commands for one's own listings, typed as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from curation.catalog import sample
from tests.labelstudio_server import ROOT

pytestmark = pytest.mark.slow
SHORTER = {"--budget 45": "--budget 1"}
"""Searching for 45 minutes is for catalogs that are worth it."""

MAPPING = """
ref = "id"
title = "title"
description = "description"
price = "price"
currency = "currency"
category = "category"
attributes = ["brand", "condition"]
[photos]
column = "photos"
separator = "|"
[flags]
column = "flags"
"""


def own_listings() -> list[str]:
    """The commands of the section, without what is installed before and connected after."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"### With your own listings.*?```sh\n(.*?)```", text, flags=re.S)
    assert block is not None
    found = [line.partition(" #")[0].strip() for line in block[1].splitlines() if line.startswith("refurbish ")]
    for long, short in SHORTER.items():
        found = [line.replace(long, short) for line in found]
    return found


def test_the_commands_for_own_listings_work_in_their_order(tmp_path: Path) -> None:
    """On a folder with listings.csv and photos, in an empty directory, each ends with exit code 0."""
    sample.generate(tmp_path / "catalog", n=400, seed=3)
    shutil.copy(tmp_path / "catalog" / "listings.csv", tmp_path / "listings.csv")
    shutil.move(tmp_path / "catalog" / "images", tmp_path / "photos")
    (tmp_path / "mapping.toml").write_text(MAPPING)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REFURBISH_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for line in own_listings():
        done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert {"suspects.csv", "vectors.parquet", "cells.json"} <= {file.name for file in tmp_path.iterdir()}
