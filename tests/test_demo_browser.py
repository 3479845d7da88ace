"""The demo in Chromium, against Python: `make test-browser`."""

import json
import pathlib
import statistics

import keras
import numpy as np
import pytest

import browser
from keras_dropblock import hub
from keras_dropblock.analysis import cam
from keras_dropblock.layers import masks

pytestmark = [pytest.mark.browser, pytest.mark.tensorflow_only]
DEMO = pathlib.Path(__file__).parents[1] / "build" / "demo"
TOLERANCE = 1e-4  # of probabilities


@pytest.fixture(scope="module")
def model():
    return hub.load("wrn_16_1_cifar10_dropblock")


@pytest.fixture(scope="module")
def url():
    if not (DEMO / "model.onnx").exists():
        pytest.skip(f"{DEMO} is missing: run `make demo`")
    with browser.served(DEMO) as address:
        yield address


@pytest.fixture(scope="module")
def page(url):
    """The driver, with the page open and its first sample shown."""
    with browser.chromium() as driver:
        driver.get(url)
        wait_for(driver, "airplane")
        yield driver


def wait_for(driver, name):
    """Wait until the page shows a picture, or an error about it."""
    from selenium.webdriver.support.ui import WebDriverWait

    def is_done(driver):
        status = driver.find_element("id", "status").text
        return status.startswith((f"{name}:", f"{name} cannot"))

    WebDriverWait(driver, 30, 0.05).until(is_done)


def classes(driver):
    """(label, probability) of the classes on the page, in their order."""
    buttons = driver.find_elements("css selector", "#classes button")
    return [
        (
            button.get_dom_attribute("data-class"),
            float(button.get_dom_attribute("data-probability")),
        )
        for button in buttons
    ]


def assert_same_classes(driver, model, path):
    (expected,) = hub.predict(model, [path], top=5)
    found = classes(driver)
    assert [label for label, _ in found] == [label for label, _ in expected]
    for (_, share), (_, probability) in zip(found, expected, strict=True):
        assert abs(share - probability) < TOLERANCE


def call(driver, module, expression, *arguments):
    """Evaluate JavaScript in which `m` is a module of the demo."""
    return driver.execute_async_script(
        f"""
        const [a, done] = [arguments[0], arguments[1]];
        import('./{module}.js').then(async m => {expression})
            .then(done, error => done("error: " + error));
        """,
        arguments,
    )


def move(driver, slider, value):
    """Set a slider, as a hand that moves it would."""
    driver.execute_script(
        "const x = document.getElementById(arguments[0]);"
        "x.value = arguments[1];"
        "x.dispatchEvent(new Event('input', {bubbles: true}));",
        slider,
        value,
    )


def number(driver, name):
    element = driver.find_element("id", name)
    return float(element.get_dom_attribute("data-value"))


def test_each_sample_gets_the_probabilities_of_python(page, model):
    samples = sorted(DEMO.glob("samples/*.png"))
    assert len(samples) >= 5
    for path in samples:
        page.find_element("css selector", f"[data-sample={path.stem}]").click()
        wait_for(page, path.stem)
        assert_same_classes(page, model, path)
        if path.stem != "rocket":  # not a class of the network
            assert classes(page)[0][0] == path.stem


@pytest.mark.parametrize("height, width", [(97, 61), (20, 45), (64, 64)])
def test_a_picture_of_any_size_gets_the_probabilities_of_python(
    page, model, tmp_path, height, width
):
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), "uint8")
    image = np.repeat(np.repeat(coarse, 20, 0), 14, 1)[:height, :width]
    path = tmp_path / f"{height}x{width}.png"
    keras.utils.save_img(path, image, scale=False)
    page.find_element("id", "file").send_keys(str(path))
    wait_for(page, path.name)
    assert_same_classes(page, model, path)


def test_a_file_that_is_no_picture_is_named(page, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a picture")
    page.find_element("id", "file").send_keys(str(path))
    wait_for(page, path.name)
    status = page.find_element("id", "status").text
    assert status.startswith("notes.txt cannot be shown:")
    assert browser.errors(page) == []


def test_the_activation_map_is_that_of_python(page, model):
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), "uint8")
    found = call(
        page,
        "network",
        """{
            const network = await m.load();
            const {maps} = await m.run(network, Uint8Array.from(a[0]));
            return [...m.activationMap(maps.last, network.kernel, 3)];
        }""",
        image.ravel().tolist(),
    )
    normalized = model.card.normalize(image[None])
    (expected,) = cam.class_activation_maps(model, normalized, [3])
    assert np.allclose(np.reshape(found, (8, 8)), expected, atol=1e-3)


@pytest.mark.parametrize(
    "block_size, height, width", [(1, 5, 5), (3, 8, 6), (4, 5, 9), (7, 4, 6)]
)
def test_the_mask_is_that_of_python(page, block_size, height, width):
    blocks = masks.clamp_block(block_size, (height, width))
    positions = [
        size - block + 1
        for size, block in zip((height, width), blocks, strict=True)
    ]
    seeds = np.random.default_rng(0).random((1, *positions, 1)) < 0.2
    dropped = masks.grow_blocks(
        keras.ops.convert_to_tensor(seeds), block_size, (1, 2), (height, width)
    )
    expected = np.broadcast_to(
        keras.ops.convert_to_numpy(dropped), (1, height, width, 1)
    )
    found, gamma = call(
        page,
        "mask",
        "[[...m.growBlocks(Uint8Array.from(a[0]), ...a.slice(1, 4))],"
        " m.seedRate(0.9, ...a.slice(1, 4))]",
        seeds.astype(int).ravel().tolist(),
        block_size,
        height,
        width,
    )
    assert found == expected.astype(int).ravel().tolist()
    exact = masks.seed_rate(0.9, blocks, (height, width))
    assert gamma == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    "group, keep_prob, block_size",
    [
        ("group1", 0.9, 7),
        ("group1", 0.6, 3),
        ("group1", 0.8, 1),
        ("group2", 0.75, 4),
        ("group3", 0.9, 15),  # larger than the map
    ],
)
def test_the_sliders_set_the_share_of_dropped_units(
    page, group, keep_prob, block_size
):
    side, channels = {"group1": (32, 16), "group2": (16, 32)}.get(
        group, (8, 64)
    )
    page.execute_script(
        "const x = document.getElementById('group'); x.value = arguments[0];"
        "x.dispatchEvent(new Event('input'));",
        group,
    )
    move(page, "keep_prob", keep_prob)
    move(page, "block_size", block_size)
    draws = []
    for _ in range(25):
        page.find_element("id", "again").click()
        draws.append(number(page, "dropped"))
    assert len({*draws}) > 1
    block = min(block_size, side)
    gamma = masks.seed_rate(keep_prob, (block, block), (side, side))
    assert number(page, "gamma") == pytest.approx(gamma, rel=1e-9)
    # Efron-Stein: a seed changes at most block^2 of the n units, and there
    # are `positions` seeds, so the variance of the share is at most
    # positions * gamma * (1 - gamma) * (block^2 / n)^2 / draws.
    n = side * side * channels
    positions = (side - block + 1) ** 2 * channels
    variance = positions * gamma * (1 - gamma) * (block**2 / n) ** 2
    tolerance = 5 * (variance / len(draws)) ** 0.5
    expected = number(page, "expected")
    assert abs(statistics.fmean(draws) - expected) < tolerance < 0.04
    assert expected <= 1 - keep_prob + 1e-12


def test_no_drop_at_keep_prob_1(page):
    move(page, "keep_prob", 1)
    assert number(page, "dropped") == number(page, "expected") == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_loads_and_is_without_errors(page, url, width, dark):
    browser.set_screen(page, width, dark=dark)
    page.get(url)
    wait_for(page, "airplane")
    assert browser.errors(page) == []
    assert browser.unloaded_pictures(page) == []
    assert browser.overflow(page) == []


def test_the_page_asks_no_other_server(page, url):
    loaded = page.execute_script(
        "return performance.getEntriesByType('resource').map(x => x.name)"
    )
    assert any(name.endswith(".wasm") for name in loaded)
    assert all(name.startswith((url, "blob:", "data:")) for name in loaded)


def test_the_model_of_the_demo_is_the_published_one(model):
    description = json.loads((DEMO / "model.json").read_text("utf-8"))
    assert description["name"] == model.card.name
    kernel = np.asarray(model.get_layer("logits").kernel)
    assert np.array_equal(np.float32(description["kernel"]), kernel)
