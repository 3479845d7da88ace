"""SavedModels: equal to the model, on their own, clear about bad bytes."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_dropblock import data, exporting, models

pytestmark = pytest.mark.tensorflow_only
NORMALISE = data.Normalise((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return models.WRN(10, 1, keep_prob=0.9, dropout=0.1, num_classes=4)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return exporting.export(model, tmp_path_factory.mktemp("out"), NORMALISE)


@pytest.fixture(scope="module")
def loaded(exported):
    import tensorflow as tf

    return tf.saved_model.load(str(exported))


@pytest.fixture(scope="module")
def photos():
    """Smooth images, as JPEG keeps them."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 4, 4, 3), "uint8")
    return coarse.repeat(8, 1).repeat(8, 2)


def probabilities(model, images):
    logits = model.predict(NORMALISE(images), verbose=0)
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


def test_every_endpoint_gives_the_models_probabilities(model, loaded, photos):
    import tensorflow as tf

    expected = probabilities(model, photos)
    assert np.allclose(expected.sum(1), 1)
    pngs = tf.stack([tf.io.encode_png(image) for image in photos])
    for endpoint, images in (
        (loaded.serve, NORMALISE(photos)),
        (loaded.serve_uint8, photos),
        (loaded.serve_bytes, pngs),
    ):
        assert np.allclose(endpoint(images), expected, atol=1e-5)


def test_jpegs_are_decoded_as_tensorflow_decodes_them(model, loaded, photos):
    import tensorflow as tf

    jpegs = [tf.io.encode_jpeg(image, quality=90) for image in photos]
    pixels = np.stack([tf.io.decode_jpeg(file).numpy() for file in jpegs])
    expected = probabilities(model, pixels)
    assert np.allclose(loaded.serve_bytes(tf.stack(jpegs)), expected, atol=1e-5)


def test_files_of_any_size_and_mode_are_resized(model, loaded, photos):
    import tensorflow as tf

    large = photos.repeat(3, 1).repeat(3, 2)
    grey = large[..., :1]
    files = [tf.io.encode_png(large[0]), tf.io.encode_png(grey[1])]
    out = loaded.serve_bytes(tf.stack(files)).numpy()
    assert out.shape == (2, 4) and np.allclose(out.sum(1), 1)
    # Blocks of 24 pixels shrink to blocks of 8; antialiasing blurs the seams.
    assert abs(out[0] - probabilities(model, photos[:1])[0]).max() < 0.1


def test_an_oblong_file_is_fitted_as_in_training(model, loaded, photos):
    import tensorflow as tf

    oblong = np.pad(photos[0], [(0, 0), (9, 9), (0, 0)])
    out = loaded.serve_bytes(tf.stack([tf.io.encode_png(oblong)]))
    assert np.allclose(out, probabilities(model, photos[:1]), atol=1e-5)


def test_a_file_is_cropped_as_the_recipe_says(model, photos, tmp_path):
    import tensorflow as tf

    path = exporting.export(model, tmp_path, NORMALISE, central_part=0.8)
    # 40 pixels, of which the central 32 are seen.
    framed = np.pad(photos[0], [(4, 4), (4, 4), (0, 0)], mode="reflect")
    loaded = tf.saved_model.load(str(path))
    out = loaded.serve_bytes(tf.stack([tf.io.encode_png(framed)]))
    assert np.allclose(out, probabilities(model, photos[:1]), atol=1e-5)


@pytest.mark.parametrize(
    "garbage", [b"", b"garbage", b"GIF89a" + b"\0" * 40, b"\x89PN"]
)
def test_bytes_that_are_no_image_are_a_clear_error(loaded, photos, garbage):
    import tensorflow as tf

    good = tf.io.encode_png(photos[0]).numpy()
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        loaded.serve_bytes(tf.constant([good, garbage]))
    message = str(error.value)
    assert "each of `images` must be a whole JPEG or PNG file" in message
    # And the next request is answered as if nothing had happened.
    assert loaded.serve_bytes(tf.constant([good])).shape == (1, 4)


def test_a_truncated_file_is_an_error(loaded, photos):
    import tensorflow as tf

    for encode in (tf.io.encode_png, tf.io.encode_jpeg):
        file = encode(photos[0]).numpy()
        with pytest.raises(tf.errors.InvalidArgumentError):
            loaded.serve_bytes(tf.constant([file[: len(file) // 2]]))


def test_no_random_operation_is_left(loaded):
    for name in ("serve", "serve_uint8", "serve_bytes"):
        graph = loaded.signatures[name].graph.as_graph_def()
        ops = {node.op for node in graph.node}
        for function in graph.library.function:
            ops |= {node.op for node in function.node_def}
        assert not [op for op in ops if "Random" in op or "Rng" in op]
    assert set(loaded.signatures) == {
        *("serve", "serve_uint8", "serve_bytes", "serving_default")
    }


def test_a_process_without_this_package_serves_it(
    model, exported, photos, tmp_path
):
    np.save(tmp_path / "photos.npy", photos)
    program = """
        import sys
        sys.modules["keras_dropblock"] = None  # importing it is an error
        sys.modules["keras"] = None
        import numpy as np, tensorflow as tf
        model = tf.saved_model.load(sys.argv[1])
        out = model.serve_uint8(np.load(sys.argv[2] + "/photos.npy"))
        np.save(sys.argv[2] + "/out.npy", out)
    """
    subprocess.run(
        [
            *(sys.executable, "-c", textwrap.dedent(program)),
            *(str(exported), str(tmp_path)),
        ],
        check=True,
        cwd=tmp_path,
    )
    out = np.load(tmp_path / "out.npy")
    assert np.allclose(out, probabilities(model, photos), atol=1e-5)


def test_versions_count_up_in_the_layout_of_tensorflow_serving(
    model, exported, tmp_path
):
    assert exported.name == "1" and (exported / "saved_model.pb").exists()
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    path = exporting.export(model, tmp_path, NORMALISE)
    assert path == tmp_path / "8"
    assert {p.name for p in tmp_path.iterdir()} == {"7", "8", "notes"}


def test_a_savedmodel_that_differs_is_not_kept(model, tmp_path, monkeypatch):
    predict = model.predict_on_batch
    monkeypatch.setattr(
        type(model),
        "predict_on_batch",
        lambda self, x: predict(x) + x.mean() * np.arange(4),
    )
    with pytest.raises(RuntimeError, match="differs from the model by"):
        exporting.export(model, tmp_path, NORMALISE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(None, None, 3), (8, 8, 2)])
def test_images_that_no_file_can_hold_are_refused(tmp_path, shape):
    model = models.WRN(10, 1, input_shape=shape)
    with pytest.raises(exporting.ExportError, match="`model` must have a"):
        exporting.export(model, tmp_path, NORMALISE)
