"""Pictures of the pages, for README and docs: from a generated catalog, in a real browser.

python -m tests.pictures                          # builds a loop that has run for weeks, takes minutes
python -m tests.pictures --home HOME              # … made before by `python -m tests.pages_world HOME`
python -m tests.pictures --all --out FOLDER       # every page, both widths, light and dark, to look at
"""

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from tests import pages_world
from tests.browser import chromium, look, picture, pictures, sign_in
from tests.labelstudio_server import ROOT
from tests.serving import served
from tests.visitor import Visitor

SHOWN = ("overview", "quality", "suspects", "runs/#")
N_COLOURS = 128


def take(home: Path, out: Path, *, whole: bool) -> list[str]:
    """Names of the pictures that were taken of the service over this home."""
    with served(home.parent / "pictures", f"sqlite:///{home / 'refurbish.db'}", home=home) as service, chromium() as browser:
        url = f"http://127.0.0.1:{service.port}"
        with Visitor(url, "engineer", pages_world.PASSWORD) as visitor:
            found = visitor.pages()
        sign_in(browser, url, "engineer", pages_world.PASSWORD)
        named = {kind.replace("/", "-").replace("-#", "-one"): path for kind, path in found.items()}
        if whole:
            pictures(browser, url, named, out)
            return sorted(named)
        shown = {kind.replace("/#", ""): found[kind] for kind in SHOWN}
        for name, path in shown.items():
            look(browser, 1280, "light")
            browser.get(url + path)
            picture(browser, out / f"{name}.png", height_px=1500)
            with Image.open(out / f"{name}.png") as taken:
                small = taken.convert("RGB").quantize(N_COLOURS)
            small.save(out / f"{name}.png", optimize=True)
    return sorted(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a filled home (default: make one)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "img", help="folder of the pictures")
    parser.add_argument("--all", action="store_true", help="every page at each width and in each scheme")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = options.home or Path(folder) / "home"
        if options.home is None:
            pages_world.build(home)
        for name in take(home.resolve(), options.out, whole=options.all):
            print(f"{options.out / name}")


if __name__ == "__main__":
    main()
