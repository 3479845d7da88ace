"""The built documentation in Chromium, from files: `make test-browser`."""

import pathlib

import pytest

import browser

pytestmark = pytest.mark.browser
SITE = pathlib.Path(__file__).parents[1] / "build" / "docs"


@pytest.fixture(scope="module")
def chromium():
    if not (SITE / "searchindex.js").exists():
        pytest.skip(f"{SITE} is missing: run `make docs`")
    with browser.chromium() as driver:
        yield driver


def results(driver, word):
    """The titles of pages that the search finds, from a file: address."""
    from selenium.webdriver.support.ui import WebDriverWait

    address = (SITE / "search.html").as_uri()
    driver.get(f"{address}?q={word}")

    def is_done(driver):
        # The summary is empty until all results are shown.
        found = driver.find_elements("css selector", "p.search-summary")
        return found and found[0].text.strip()

    WebDriverWait(driver, 30, 0.05).until(is_done)
    found = driver.find_elements("css selector", "#search-results li a")
    return [element.text for element in found]


def test_the_search_works_from_files(chromium):
    assert "Looking into a network" in results(chromium, "calibration")
    assert "Serving" in results(chromium, "kserve")
    assert results(chromium, "zyzzyva") == []
