"""Setup that must run before a backend initializes its devices; fixtures."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
from absl import flags

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Two logical devices, so that distribution can be tested without a GPU.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )


def pytest_collection_modifyitems(items):
    backend = keras.backend.backend()
    skip = pytest.mark.skip(reason=f"TensorFlow only; the backend is {backend}")
    for item in items:
        if "tensorflow_only" in item.keywords and backend != "tensorflow":
            item.add_marker(skip)
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if backend == "torch" and parameters.get("jit_compile"):
            # torch.compile warns about code in torch and Keras. It fails if
            # warnings are errors.
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(autouse=True)
def fresh_keras():
    """Start every test with the same seed, policy and layer names."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    # Without `gc.collect()`, which takes 0.2 s with all libraries imported.
    keras.utils.clear_session(free_memory=False)


@pytest.fixture
def imagenette():
    """Name of a data set of 1,500 + 500 photographs; skip if it is missing."""
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
    from keras_dropblock.data import tfds

    name = "imagenette/160px-v2"
    builder = tensorflow_datasets.builder(name)
    if not tfds.is_prepared(builder):
        pytest.skip(f"{name} is not prepared in {builder.data_path}")
    return name


@pytest.fixture
def camvid():
    """Folder of CamVid's 701 frames with masks; skip if it is missing."""
    root = pathlib.Path(__file__).parents[1] / "build/vision/CamVid"
    if not root.is_dir():
        pytest.skip(f"CamVid is not prepared in {root}")
    return root


@pytest.fixture
def coco_sample():
    """Folder of 128 + 64 images of COCO 2017; skip if it is missing."""
    root = pathlib.Path(__file__).parents[1] / "build/vision/coco"
    if not root.is_dir():
        pytest.skip(f"The sample of COCO is not prepared in {root}")
    return root


@pytest.fixture
def penn_fudan():
    """Name of the data set of 170 photographs; skip if it is missing."""
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
    try:
        tensorflow_datasets.builder("penn_fudan_ped")
    except tensorflow_datasets.core.DatasetNotFoundError:
        pytest.skip("penn_fudan_ped is not prepared")
    return "penn_fudan_ped"


@pytest.fixture
def two_replicas():
    """MirroredStrategy over the two logical devices."""
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"],
        # The default uses collectives, which keep shapes from test to test.
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


@pytest.fixture(scope="session")
def npz(tmp_path_factory):
    """Path of a file with a small data set: see `write_quadrants`."""
    from small_runs import write_quadrants

    path = tmp_path_factory.mktemp("data") / "quadrants.npz"
    write_quadrants(path)
    return str(path)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout without published models, which `load` searches."""
    from keras_dropblock.hub import registry, weights

    root = tmp_path / "checkout"
    for folder in ("docs", "models", "training/recipes", "keras_dropblock/hub"):
        (root / folder).mkdir(parents=True)
    for page in ("README.md", "docs/zoo.md", "models/README.md"):
        text = "a\n<!-- models -->\n<!-- /models -->\nb\n"
        (root / page).write_text(text)
    path = root / "keras_dropblock" / "hub" / "published.json"
    path.write_text("{}")
    monkeypatch.setattr(registry, "REGISTRY", path)
    monkeypatch.setattr(weights, "PACKAGED", path.with_name("published"))
    monkeypatch.setenv("KERAS_DROPBLOCK_MODELS", str(root / "saved_models"))
    return root


@pytest.fixture
def deterministic():
    """Make TensorFlow deterministic: the same steps give the same bits."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    # The public function can only enable it, not disable it.
    from tensorflow.python.framework import config

    config.enable_op_determinism()
    yield
    config.disable_op_determinism()


@pytest.fixture
def parsed_flags():
    """Flags have their defaults, until a test sets some with `flagsaver`."""
    # They are not parsed, because other tests import commands that have
    # required flags.
    flags.FLAGS.mark_as_parsed()
    yield
    flags.FLAGS.unparse_flags()


def pytest_terminal_summary(terminalreporter):
    """Print the counts of the fuzz tests: each test, then each group."""
    totals = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for key, value in report.user_properties:
                if key == "fuzz_line":
                    terminalreporter.write_line(value)
                if key == "fuzz":
                    group, *counts = value
                    before = totals.get(group, (0, 0))
                    totals[group] = [
                        sum(pair) for pair in zip(before, counts, strict=True)
                    ]
    for group, (cases, derived) in totals.items():
        terminalreporter.write_line(
            f"fuzz, all {group}: {cases:,} cases, {derived:,} from valid input"
        )
