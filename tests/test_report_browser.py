"""The page about runs in Chromium: `make test-browser`."""

import pathlib
import shutil

import pytest

import browser
from keras_dropblock.report import page
from test_report import (
    runs,  # noqa: F401  (a fixture)
    write_run,
)

pytestmark = pytest.mark.browser
# Has pictures of the analysis, 1,140 and 1,512 pixels wide.
DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def url(runs, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("page")
    wide = "a very long name of a class".replace(" ", "_") * 8
    table = ",".join(f"{wide}{i}" for i in range(9))
    (runs[0] / "analysis" / "wide.csv").write_text(f"{table}\n{table}\n")
    shutil.copy(DOCS / "analysis_maps.png", runs[0] / "analysis")
    search = folder / "search"
    for i, block_size in enumerate((5, 7)):
        change = f"block_size={block_size}"
        write_run(search / f"trial_{i}", (0.2, 0.3, 0.4), change)
    (search / "trials.csv").write_text(f"trial,{wide}\n0,0.4\n1,0.4\n")
    shutil.copy(DOCS / "analysis_robustness.png", search / "history.png")
    return page.write([*runs, search], folder / "report.html").as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_loads_and_is_without_errors(chromium, url, width, dark):
    browser.set_screen(chromium, width, dark=dark)
    chromium.get(url)
    # Closed parts must fit too.
    chromium.execute_script(
        "document.querySelectorAll('details').forEach(x => x.open = true)"
    )
    assert browser.errors(chromium) == []
    assert browser.unloaded_pictures(chromium) == []
    assert browser.overflow(chromium) == []
    sizes = chromium.execute_script(
        "return [...document.images].map(x => [x.naturalWidth, x.width])"
    )
    # four curves, one confusion matrix, one map of each run, and two pictures
    # of the analysis
    assert len(sizes) == 4 + 1 + 4 + 2
    wide = [shown for natural, shown in sizes if natural > 1100]
    assert len(wide) >= 2 and all(shown <= width for shown in wide)


def test_text_contrasts_with_the_page_in_light_and_dark(chromium, url):
    for dark in (False, True):
        browser.set_screen(chromium, 360, dark=dark)
        chromium.get(url)
        text, background = map(brightness, browser.colors(chromium))
        assert text - background > 150 if dark else background - text > 150


def brightness(color):
    numbers = color[color.index("(") + 1 : -1].split(",")[:3]
    return sum(map(float, numbers)) / 3
