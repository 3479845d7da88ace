"""Measure the speed of a detector against KerasHub's own.

Trains and runs RetinaNet with ResNet-50 on images of 256 x 256 pixels with 8
objects each: of this package, with and without DropBlock, and of KerasHub as
it comes. Needs the extra `vision`: run it in the environment of `make
test-vision`.
"""

from absl import app

import measurement
import processes
import shared_flags
from markdown_table import markdown

SIDE, BATCH, OBJECTS, CLASSES = 256, 4, 8, 80
QUICK_SIDE, QUICK_BATCH = 64, 1
KERAS_HUB, PLAIN, DROPBLOCK = "KerasHub", "ours", "ours, DropBlock"


def ours(side, **options):
    """RetinaNet of this package. `options`: of the backbone."""
    import keras_dropblock as kdb

    backbone = kdb.models.ResNet(
        50, input_shape=(side, side, 3), num_classes=1, **options
    )
    return kdb.tasks.RetinaNet(backbone, CLASSES)


def keras_hub_as_it_comes(side):
    """KerasHub's RetinaNet on its own ResNet-50, with its own losses."""
    import keras_hub

    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[3, 4, 6, 3],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="bottleneck_block",
        image_shape=(side, side, 3),
    )
    body = keras_hub.models.RetinaNetBackbone(
        image_encoder=encoder,
        min_level=3,
        max_level=7,
        use_p5=False,
        image_shape=(side, side, 3),
    )
    return keras_hub.models.RetinaNetObjectDetector(
        body, num_classes=CLASSES, bounding_box_format="yxyx"
    )


def data(side, count):
    """Random images, and targets with objects of a quarter of the side."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, side, side, 3)).astype("float32")
    corners = rng.uniform(0, 0.7 * side, (count, OBJECTS, 2))
    boxes = np.concatenate([corners, corners + side / 4], -1)
    labels = rng.integers(0, CLASSES, (count, OBJECTS))
    return images, {
        "boxes": boxes.astype("float32"),
        "labels": labels.astype("int32"),
    }


def measure(seconds, side, count, dtypes):
    import keras

    images, targets = data(side, count)

    # KerasHub's `train_on_batch` and `predict_on_batch` raise errors.
    def train(model):
        keras.Model.train_on_batch(model, images, targets)

    def predict(model):
        model.predict(images, batch_size=count, verbose=0)

    rows = []
    for dtype in dtypes:
        policy = {"bfloat16": "mixed_bfloat16"}.get(dtype, dtype)
        keras.config.set_dtype_policy(policy)
        models = {
            KERAS_HUB: keras_hub_as_it_comes(side),
            PLAIN: ours(side),
            DROPBLOCK: ours(side, keep_prob=0.9),
        }
        for model in models.values():
            model.compile(optimizer=keras.optimizers.SGD(1e-6))
        for mode, act in (("training", train), ("inference", predict)):
            functions, skipped = measurement.runnable(
                {
                    name: lambda model=model, act=act: act(model)
                    for name, model in models.items()
                },
                KERAS_HUB,
            )
            times = measurement.interleave(functions, seconds)
            rows.append(
                {
                    "mode": mode,
                    "dtype": dtype,
                    "side": side,
                    "batch": count,
                    "rounds": len(times[PLAIN]),
                    "ms": measurement.medians(times),
                    "skipped": skipped,
                }
            )
    return rows


def show(rows):
    """The table, and the reasons for missing rows."""
    heads = ["", "dtype", "images", "detector", "ms", "images/s"]
    table = [[*heads, "speed relative to KerasHub"]]
    left_out = ""
    for row in rows:
        reference = row["ms"].get(KERAS_HUB)
        for name, ms in row["ms"].items():
            table.append(
                [
                    row["mode"],
                    row["dtype"],
                    f"{row['batch']} x {row['side']} x {row['side']}",
                    name,
                    f"{ms:.0f}",
                    f"{row['batch'] / ms * 1e3:.2f}",
                    f"{reference / ms:.2f}" if reference else "-",
                ]
            )
        for name, why in row["skipped"].items():
            left_out += f"- {row['mode']}, {row['dtype']}, no {name}: `{why}`\n"
    return "\n".join([markdown(table), left_out])


def main(_):
    default = ["float32"]
    if shared_flags.has_bfloat16():
        default.append("bfloat16")
    dtypes = shared_flags.DTYPES.value or default
    seconds, side, count = 60, SIDE, BATCH
    if shared_flags.QUICK.value:
        seconds, side, count, dtypes = 1, QUICK_SIDE, QUICK_BATCH, dtypes[:1]
    processes.run_on_tensorflow(
        "detection", lambda: measure(seconds, side, count, dtypes), show
    )


if __name__ == "__main__":
    app.run(main)
