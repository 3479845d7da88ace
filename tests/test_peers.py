"""Cases in which KerasCV's DropBlock2D fails and this one works.

These tests need `keras-cv`: `pip install '.[peers]'`.
"""

import keras
import numpy as np
import pytest

import doc_blocks
import keras_dropblock

pytestmark = [
    pytest.mark.tensorflow_only,
    pytest.mark.filterwarnings("ignore"),  # warnings of KerasCV
]


@pytest.fixture
def kerascv():
    return pytest.importorskip("keras_cv").layers.DropBlock2D


def fit(layer, jit_compile):
    inputs = keras.Input((20, 10, 2))
    outputs = keras.layers.Conv2D(1, 1)(layer(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse", jit_compile=jit_compile)
    x = np.ones((8, 20, 10, 2), "float32")
    return model.fit(x, x[..., :1], verbose=0).history["loss"][0]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_in_graph_mode(kerascv, jit_compile):
    assert np.isfinite(
        fit(
            keras_dropblock.DropBlock2D(keep_prob=0.9, block_size=3),
            jit_compile,
        )
    )
    with pytest.raises(TypeError, match="SymbolicTensor"):
        fit(kerascv(0.1, 3), jit_compile)


def test_rectangular_maps(kerascv):
    x = np.ones((64, 20, 10, 64), "float32")
    ours = keras_dropblock.DropBlock2D(keep_prob=0.9, block_size=3, seed=1)(
        x, training=True
    )
    theirs = kerascv(0.1, 3, seed=1)(x, training=True)
    ours, theirs = ((np.asarray(y) == 0) for y in (ours, theirs))
    assert ours.mean() == pytest.approx(0.095, abs=0.005)
    assert ours[:, 10:].mean() == pytest.approx(0.095, abs=0.01)
    assert theirs[:, 10:].mean() == 0  # the lower half is never dropped
    assert theirs.mean() < 0.05


def test_blocks_larger_than_the_map(kerascv):
    x = np.ones((8, 6, 6, 16), "float32")
    ours = keras_dropblock.DropBlock2D(keep_prob=0.9, block_size=7, seed=1)(
        x, training=True
    )
    assert np.isfinite(ours).all()
    assert np.isnan(kerascv(0.1, 7)(x, training=True)).all()


def test_a_file_saved_with_kerascv_is_read_as_documented(
    kerascv, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((8, 8, 3))
    x = kerascv(0.25, 5)(keras.layers.Conv2D(4, 3)(inputs))
    old = keras.Model(inputs, keras.layers.Conv2D(2, 3)(x))
    old.save("old.keras")
    # As in a process without KerasCV.
    known = keras.saving.get_custom_objects()
    monkeypatch.delitem(known, "keras_cv>DropBlock2D")
    page = doc_blocks.ROOT / "docs" / "migration.md"
    (block,) = doc_blocks.blocks(page)
    names = {}
    exec(block.code, names)  # noqa: S102
    (layer,) = keras_dropblock.layers.dropblock_layers(names["model"])
    assert (layer.final_keep_prob, layer.block_size) == (0.75, 5)
    x = np.ones((1, 8, 8, 3), "float32")
    np.testing.assert_array_equal(names["model"](x), old(x))
