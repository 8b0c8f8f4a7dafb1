"""A headless Chromium for tests of pages: Debian's, driven by Playwright; tests are skipped, and say so, without it."""

import contextlib
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def chromium():
    """A browser that is started once for a module's tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium, such as Debian's package of that name")
    with playwright.sync_playwright() as driver:
        # As root, as CI is, it has no sandbox; the pages are our own.
        quiet = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


@contextlib.contextmanager
def opened(browser, path, width=1200, **context):
    """The page of a file, `width` pixels wide; at its end it must have said nothing on its console."""
    said = []
    with contextlib.closing(browser.new_context(viewport={"width": width, "height": 900}, **context)) as inside:
        page = inside.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        yield page
    assert said == []
