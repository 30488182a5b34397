"""Every page in a real browser, over a loop that has run for weeks: accessible, light, steady, and hostile text inert."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import browser as look_at
from tests import pages_world
from tests.serving import Served, served
from tests.visitor import Visitor

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not look_at.HAS_BROWSER, reason="needs chromium and chromedriver")]

MAX_BYTES = 150_000
LEAST_PAGES = 10
"""Fewer would mean that the walk over the links has lost its way."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The real service over a filled workspace."""
    home = tmp_path_factory.mktemp("pages") / "home"
    pages_world.build(home, n=400)
    with served(home.parent, f"sqlite:///{home / 'refurbish.db'}", home=home) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with look_at.chromium() as made:
        yield made


@pytest.fixture(scope="module")
def pages(browser: Any, service: Served) -> dict[str, str]:
    """One address of each kind of page that a person reaches by links; the browser is signed in."""
    url = f"http://127.0.0.1:{service.port}"
    look_at.sign_in(browser, url, "admin", pages_world.PASSWORD)
    with Visitor(url, "admin", pages_world.PASSWORD) as visitor:
        return visitor.pages()


def test_every_page_is_accessible_light_and_steady(browser: Any, service: Served, pages: dict[str, str]) -> None:
    """axe-core finds nothing in light and in dark, nothing moves while it loads, it is small, and the console is silent."""
    assert len(pages) >= LEAST_PAGES, pages
    wrong = []
    for kind, path in pages.items():
        for scheme in look_at.SCHEMES:
            look_at.look(browser, 1280, scheme)
            browser.get(f"http://127.0.0.1:{service.port}{path}")
            wrong += [f"{kind} ({scheme}): {words}" for words in look_at.audit(browser) + look_at.complaints(browser)]
        if look_at.shift(browser) > 0.01 or look_at.weight_bytes(browser) > MAX_BYTES:
            wrong.append(f"{kind}: moves by {look_at.shift(browser)}, {look_at.weight_bytes(browser)} bytes")
    assert wrong == []


def test_no_page_is_wider_than_a_telephone(browser: Any, service: Served, pages: dict[str, str]) -> None:
    """Wide tables scroll inside themselves."""
    look_at.look(browser, 390, "light")
    wide = []
    for kind, path in pages.items():
        browser.get(f"http://127.0.0.1:{service.port}{path}")
        if (width := browser.execute_script("return document.documentElement.scrollWidth")) > 390:
            wide.append(f"{kind}: {width} px")
    assert wide == []


def test_the_keyboard_reaches_the_content_first(browser: Any, service: Served, pages: dict[str, str]) -> None:
    """The first stop of the tab key skips the navigation."""
    from selenium.webdriver.common.keys import Keys

    browser.get(f"http://127.0.0.1:{service.port}/")
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("class") == "skip"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.current_url.endswith("#main")


def test_pictures_of_the_pages(browser: Any, service: Served, pages: dict[str, str], tmp_path: Path) -> None:
    """Each page at both widths and in both schemes, drawn: not an empty sheet."""
    look_at.pictures(browser, f"http://127.0.0.1:{service.port}", {"overview": "/"}, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        f"overview-{width}-{scheme}.png" for width in look_at.WIDTHS_PX for scheme in look_at.SCHEMES
    )
    assert all(file.stat().st_size > 10_000 for file in tmp_path.iterdir())
