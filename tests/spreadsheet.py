"""A real spreadsheet program, told to run whatever formula it finds in a CSV file."""

import re
import shutil
import subprocess
from pathlib import Path

SOFFICE = shutil.which("soffice")
SEPARATORS = {"comma": 44, "semicolon": 59, "tab": 9}
"""What a program takes for the separator depends on where its user lives."""


def opened(folder: Path, *files: Path, separator: str = "comma") -> list[str]:
    """The files as LibreOffice holds them, as flat XML.

    The filter's options: separator, quote, UTF-8, from line 1, no column formats, no language, quoted cells are no text by
    that alone, numbers are detected, and formulas are evaluated (https://wiki.documentfoundation.org/Documentation/CSV_Filter).
    """
    options = f"CSV:{SEPARATORS[separator]},34,76,1,,0,false,true,false,false,false,0,true"
    command = [str(SOFFICE), f"-env:UserInstallation=file://{folder}/profile", "--headless", f"--infilter={options}"]
    command += ["--convert-to", "fods", "--outdir", str(folder), *map(str, files)]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return [(folder / file.with_suffix(".fods").name).read_text(encoding="utf-8") for file in files]


def formulas(sheet: str) -> list[str]:
    """Every formula in it."""
    return re.findall(r'table:formula="([^"]*)"', sheet)


def n_rows(sheet: str) -> int:
    """Rows with something in them."""
    rows = re.findall(r"<table:table-row.*?</table:table-row>", sheet, flags=re.S)
    return sum("<text:p" in row for row in rows)
