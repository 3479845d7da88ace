"""Headless Chromium, for tests with the mark `browser`."""

import contextlib
import functools
import http.server
import shutil
import threading

import pytest

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def chromium():
    """Yield a Selenium driver; skip the test if the browser is missing."""
    selenium = pytest.importorskip("selenium", reason="selenium is missing")
    from selenium import webdriver

    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("Chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        "--headless=new",
        "--no-sandbox",  # root in a container has no sandbox
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    assert selenium
    browser = webdriver.Chrome(
        options, webdriver.ChromeService(executable_path=driver)
    )
    try:
        browser.set_script_timeout(60)
        browser.set_page_load_timeout(60)
        yield browser
    finally:
        browser.quit()


def set_screen(browser, width, height=800, *, dark=False):
    """Give the page a viewport, in CSS pixels, and a color scheme."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 500,
        },
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [scheme] if dark else []}
    )


def errors(browser):
    """Messages of the console that are errors or warnings."""
    return [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING")
    ]


def unloaded_pictures(browser):
    """Descriptions of pictures that have no pixels."""
    return browser.execute_script(
        "return [...document.images].filter(x => !x.complete || "
        "!x.naturalWidth).map(x => x.alt)"
    )


def overflow(browser):
    """Elements that are wider than the viewport, outside what scrolls."""
    return browser.execute_script(
        """
        const width = document.documentElement.clientWidth;
        const wide = document.documentElement.scrollWidth > width;
        return [...document.querySelectorAll("body *")].filter(x =>
            !x.closest(".scroll") && x.getBoundingClientRect().right > width + 1
        ).map(x => x.tagName + " " + x.textContent.slice(0, 40))
        .concat(wide ? ["page"] : []);
        """
    )


def colors(browser):
    """(color of the text, color of the page) as CSS texts."""
    return browser.execute_script(
        "const s = getComputedStyle(document.body);"
        "return [s.color, s.backgroundColor]"
    )


@contextlib.contextmanager
def served(folder):
    """Yield the URL of a folder, served on the loopback interface."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
