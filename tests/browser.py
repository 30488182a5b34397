"""A headless Chromium on our own pages: signing in, looking, and what a machine can see of accessibility."""

import base64
import importlib.resources
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
HAS_BROWSER = bool(CHROMIUM and DRIVER)
WIDTHS_PX = (1280, 390)
SCHEMES = ("light", "dark")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1280,900"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def sign_in(browser: Any, url: str, name: str, password: str) -> None:
    """By the form, as a person would."""
    browser.get(f"{url}/login")
    browser.find_element("id", "name").send_keys(name)
    browser.find_element("id", "password").send_keys(password)
    browser.find_element("css selector", "main button").click()


def look(browser: Any, width_px: int, scheme: str) -> None:
    """As on a screen of this width, in this colour scheme."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    size = {"width": width_px, "height": 900, "deviceScaleFactor": 1, "mobile": width_px < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def picture(browser: Any, file: Path, *, height_px: int = 4000) -> None:
    """The whole page, or its top."""
    width, height = browser.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, height_px), "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_bytes(base64.b64decode(shot["data"]))
    os.replace(part, file)


def pictures(browser: Any, url: str, paths: dict[str, str], folder: Path) -> None:
    """Each page (name → path) at every width and in every scheme, as ``NAME-1280-light.png``."""
    for name, path in paths.items():
        for width_px in WIDTHS_PX:
            for scheme in SCHEMES:
                look(browser, width_px, scheme)
                browser.get(f"{url}{path}")
                picture(browser, folder / f"{name}-{width_px}-{scheme}.png")


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def audit(browser: Any) -> list[str]:
    """What axe-core finds wrong with the page that is open: ``rule: first element``, for WCAG 2.2 AA and good practice."""
    axe = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    browser.execute_script(axe.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[1]; axe.run(document, {runOnly: arguments[0], resultTypes: ['violations']})"
        ".then(r => done(r.violations), e => done([{id: String(e), nodes: []}]))",
        RULES,
    )
    return [f"{one['id']}: {one['nodes'][0]['html'][:200] if one['nodes'] else ''}" for one in found]


def shift(browser: Any) -> float:
    """Cumulative layout shift of the page so far; 0 = nothing moved."""
    found: float = browser.execute_async_script(
        "const done = arguments[0]; let sum = 0; new PerformanceObserver(l => l.getEntries().forEach(e => sum += e.value))"
        ".observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(sum), 50)"
    )
    return found


def weight_bytes(browser: Any) -> int:
    """Bytes of the page and what it loads, without photos."""
    found: int = browser.execute_script(
        "return performance.getEntries().filter(e => e.encodedBodySize !== undefined && !e.name.includes('/media/'))"
        ".reduce((sum, e) => sum + e.encodedBodySize, 0)"
    )
    return found


def complaints(browser: Any) -> list[str]:
    """What the browser's console has to say: errors of scripts and of the content security policy among them."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
