"""KeepProbScheduler: the values it sets, and their effect in training."""

import csv

import keras
import numpy as np
import pytest

from keras_dropblock import DropBlock2D, KeepProbScheduler, schedules
from keras_dropblock.layers import dropblock_layers
from keras_dropblock.training import callbacks

STEPS = 8  # in an epoch of 64 images in batches of 8
DATA = np.ones((64, 4, 4, 16), "float32")


def zeros(y_true, y_pred):
    return keras.ops.mean(keras.ops.cast(y_pred == 0, "float32"))


def model_with_drop_rate_metric(keep_probs=(0.5,), **compile_arguments):
    """A model whose metric `zeros` is the fraction of dropped units."""
    inputs = keras.Input(DATA.shape[1:])
    x = keras.layers.Conv2D(16, 1, kernel_initializer="ones")(inputs)
    for seed, keep_prob in enumerate(keep_probs):
        x = DropBlock2D(keep_prob=keep_prob, block_size=1, seed=seed)(x)
    model = keras.Model(inputs, x)
    model.compile(
        keras.optimizers.SGD(0.0), "mse", metrics=[zeros], **compile_arguments
    )
    return model


def fit(model, *callbacks, epochs=2, **arguments):
    history = model.fit(
        DATA,
        DATA,
        batch_size=8,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,
        **arguments,
    )
    return history.history


class Probe(keras.callbacks.Callback):
    """Records keep_prob at the beginning of each optimizer step."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def on_train_batch_begin(self, batch, logs=None):
        step = int(self.model.optimizer.iterations)
        self.seen[step] = self.model.layers[-1].keep_prob


def test_keep_prob_falls_linearly_over_the_whole_fit():
    model, probe = model_with_drop_rate_metric(), Probe()
    fit(model, KeepProbScheduler(), probe, epochs=2)
    total = 2 * STEPS
    assert probe.seen == {
        step: pytest.approx(1 - 0.5 * step / total, abs=1e-4)
        for step in range(total)
    }
    assert probe.seen[0] == 1.0 and probe.seen[total // 2] == 0.75
    assert model.layers[-1].keep_prob == 0.5  # at step `total`


def test_keep_prob_depends_only_on_the_step_wherever_a_fit_begins():
    # With 3,000 steps, keep_prob changes by 1.7e-4 in each step. With 10,000
    # steps it changes by 5e-5, which is less than `TOLERANCE`.
    for total_steps in (3000, 10_000):
        seen = []
        for start in (0, 1, 3):
            model, probe = model_with_drop_rate_metric(), Probe()
            model.optimizer.build(model.trainable_variables)
            model.optimizer.iterations.assign(start)
            fit(model, KeepProbScheduler(total_steps=total_steps), probe)
            seen.append(probe.seen)
        values = [
            {probe[step] for probe in seen if step in probe}
            for step in range(16)
        ]
        assert all(len(value) == 1 for value in values), total_steps
        assert seen[0][15] == pytest.approx(
            1 - 0.5 * 15 / total_steps, abs=KeepProbScheduler.TOLERANCE / 2
        )


def test_epoch_logs_hold_keep_prob():
    history = fit(model_with_drop_rate_metric(), KeepProbScheduler(), epochs=4)
    assert history["keep_prob"] == pytest.approx([0.875, 0.75, 0.625, 0.5])


def test_the_log_is_of_the_layers_that_drop_most():
    model = model_with_drop_rate_metric(keep_probs=(0.9, 0.6))
    history = fit(model, KeepProbScheduler(), epochs=2)
    assert history["keep_prob"] == pytest.approx([0.8, 0.6])
    assert [layer.keep_prob for layer in model.layers[-2:]] == [0.9, 0.6]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_compiled_steps_drop_what_the_schedule_says(
    jit_compile, steps_per_execution
):
    if keras.backend.backend() == "torch" and steps_per_execution > 1:
        pytest.skip("Keras on torch joins no steps")
    late = schedules.piecewise_constant([0.5], [0.0, 1.0])
    history = fit(
        model_with_drop_rate_metric(
            jit_compile=jit_compile, steps_per_execution=steps_per_execution
        ),
        KeepProbScheduler(late),
    )
    # 16,384 independent units an epoch: standard error .004
    assert history["zeros"][0] == 0.0
    assert abs(history["zeros"][1] - 0.5) < 5 * 0.004


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras on torch joins no steps"
)
def test_steps_per_execution_does_not_slow_the_schedule():
    probe = Probe()
    model = model_with_drop_rate_metric(steps_per_execution=4)
    history = fit(model, KeepProbScheduler(), probe, epochs=2)
    assert probe.seen == {
        step: pytest.approx(1 - 0.5 * step / 16) for step in (0, 4, 8, 12)
    }
    assert history["keep_prob"] == pytest.approx([0.75, 0.5])


def test_a_resumed_run_continues_the_schedule(tmp_path):
    whole = fit(model_with_drop_rate_metric(), KeepProbScheduler(), epochs=4)
    model = model_with_drop_rate_metric()
    fit(model, KeepProbScheduler(total_steps=4 * STEPS), epochs=2)
    model.save(tmp_path / "model.keras")

    for total_steps in (None, 4 * STEPS):
        resumed = keras.models.load_model(
            tmp_path / "model.keras", custom_objects={"zeros": zeros}
        )
        assert resumed.layers[-1].keep_prob == 0.5  # not loaded, but scheduled
        history = fit(
            resumed,
            KeepProbScheduler(total_steps=total_steps),
            epochs=4,
            initial_epoch=2,
        )
        assert history["keep_prob"] == pytest.approx(whole["keep_prob"][2:])


def test_a_second_fit_restarts_the_schedule():
    model, scheduler = model_with_drop_rate_metric(), KeepProbScheduler()
    first = fit(model, scheduler, epochs=2)
    probe = Probe()
    second = fit(model, scheduler, probe, epochs=2)
    assert first["keep_prob"] == second["keep_prob"]
    assert probe.seen[2 * STEPS] == 1.0


def test_total_steps_spans_several_fits():
    model = model_with_drop_rate_metric()
    scheduler = KeepProbScheduler(total_steps=4 * STEPS)
    kept = [fit(model, scheduler, epochs=1)["keep_prob"][0] for _ in range(6)]
    assert kept == pytest.approx([0.875, 0.75, 0.625, 0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    "total_steps, kept",
    [
        # 8 batches in an epoch; the optimizer has done 2, 5, 8 and 10 steps.
        (10, [1 - 0.5 * step / 10 for step in (2, 5, 8, 10)]),
        (None, [0.875, 0.75, 0.625, 0.5]),
    ],
)
@pytest.mark.parametrize("scaled", [False, True])
def test_total_steps_are_optimizer_steps_and_by_default_batches_count(
    scaled, total_steps, kept
):
    model = model_with_drop_rate_metric()
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=3)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "mse")
    history = fit(model, KeepProbScheduler(total_steps=total_steps), epochs=4)
    assert history["keep_prob"] == pytest.approx(kept)


def compile_modes():
    """Values of jit_compile and steps_per_execution for this backend."""
    backend = keras.backend.backend()
    modes = [(False, 1), (True, 1)]
    if backend != "torch":
        modes = [(False, 2), (True, 3), *modes]
    # Modes that are not the default of the backend are slow.
    return [
        pytest.param(
            *mode, marks=[pytest.mark.slow] * (mode[0] != (backend == "jax"))
        )
        for mode in modes
    ]


@pytest.mark.parametrize("jit_compile, steps_per_execution", compile_modes())
@pytest.mark.parametrize("accumulated", [None, 3])
@pytest.mark.parametrize(
    "dtype", ["float32", "mixed_bfloat16", "mixed_float16"]
)
def test_the_last_value_is_the_target_in_every_mode(
    dtype, accumulated, jit_compile, steps_per_execution
):
    keras.config.set_dtype_policy(dtype)
    optimizer = keras.optimizers.SGD(
        0.01, gradient_accumulation_steps=accumulated
    )
    if dtype == "mixed_float16":
        # The gradients overflow until the loss scale has been halved a few
        # times.
        optimizer = keras.optimizers.LossScaleOptimizer(
            optimizer, initial_scale=2.0**21
        )
    model = model_with_drop_rate_metric()
    model.compile(
        optimizer,
        "mse",
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    history = fit(model, KeepProbScheduler(), epochs=2)
    assert history["keep_prob"] == [0.75, 0.5]
    assert model.layers[-1].keep_prob == 0.5
    updates = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
    most = 2 * STEPS // (accumulated or 1)
    assert 0 < updates < most if dtype == "mixed_float16" else updates == most


def test_csv_holds_keep_prob(tmp_path):
    path = tmp_path / "history.csv"
    fit(
        model_with_drop_rate_metric(),
        KeepProbScheduler(),
        keras.callbacks.CSVLogger(str(path)),
    )
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [float(row["keep_prob"]) for row in rows] == [0.75, 0.5]


@pytest.mark.tensorflow_only
def test_tensorboard_holds_keep_prob(tmp_path):
    import tensorflow as tf

    fit(
        model_with_drop_rate_metric(),
        KeepProbScheduler(),
        keras.callbacks.TensorBoard(str(tmp_path)),
    )
    (path,) = (tmp_path / "train").iterdir()
    values = {
        event.step: float(tf.make_ndarray(value.tensor))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "epoch_keep_prob"
    }
    assert values == {0: 0.75, 1: 0.5}


@pytest.mark.tensorflow_only
def test_the_schedule_reaches_every_replica(two_replicas):
    with two_replicas.scope():
        model = model_with_drop_rate_metric(jit_compile=False)
    late = schedules.piecewise_constant([0.5], [0.0, 1.0])
    history = fit(model, KeepProbScheduler(late))
    assert history["zeros"][0] == 0.0
    assert abs(history["zeros"][1] - 0.5) < 5 * 0.004


class LateBlock(keras.Layer):
    """Creates its DropBlock layer when it is first called."""

    def build(self, input_shape):
        self.dropblock = DropBlock2D(keep_prob=0.5, block_size=1, seed=0)

    def call(self, x, training=False):
        return self.dropblock(x, training=training)


class LateModel(keras.Model):
    """Creates its layers in `build`. One of these layers does the same."""

    def __init__(self, dropblock=True):
        super().__init__()
        self.dropblock = dropblock

    def build(self, input_shape):
        self.conv = keras.layers.Conv2D(16, 1, kernel_initializer="ones")
        self.conv.build(input_shape)
        self.late = LateBlock() if self.dropblock else keras.layers.ReLU()

    def call(self, x, training=False):
        return self.late(self.conv(x), training=training)


def test_layers_made_in_build_join_the_schedule():
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            seen.append([x.keep_prob for x in dropblock_layers(self.model)])

    model = LateModel()
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[zeros])
    late = schedules.piecewise_constant([0.5], [0.0, 1.0])
    history = fit(model, KeepProbScheduler(late), Watch(), epochs=4)
    # On TensorFlow, the layer is created in the first step.
    assert seen[0] in ([], [1.0])
    assert seen[1:] == [[1.0]] * 15 + [[0.5]] * 16
    assert history["keep_prob"] == [1.0, 0.5, 0.5, 0.5]
    # 16,384 independent units an epoch: standard error .004
    assert history["zeros"][1] == 0.0
    assert abs(history["zeros"][3] - 0.5) < 5 * 0.004


@pytest.mark.parametrize("steps", [1, 8])
def test_layers_made_in_build_reach_the_target(steps):
    model = LateModel()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = DATA[: 8 * steps]
    history = model.fit(
        x, x, 8, epochs=2, verbose=0, callbacks=[KeepProbScheduler()]
    )
    assert history.history["keep_prob"] == [0.75, 0.5]
    assert [x.keep_prob for x in dropblock_layers(model)] == [0.5]


@pytest.mark.parametrize("steps", [1, 8])
def test_a_late_model_without_dropblock_is_refused_after_a_step(steps):
    model = LateModel(dropblock=False)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = DATA[: 8 * steps]
    with pytest.raises(ValueError, match="found no DropBlock layer"):
        model.fit(x, x, 8, verbose=0, callbacks=[KeepProbScheduler()])
    # The error comes before the second step.
    updates = keras.ops.convert_to_numpy(model.optimizer.iterations)
    assert updates <= 1


def test_a_model_without_dropblock_is_refused():
    inputs = keras.Input(DATA.shape[1:])
    model = keras.Model(inputs, keras.layers.Conv2D(16, 1)(inputs))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="found no DropBlock layer"):
        fit(model, KeepProbScheduler())


def test_an_epoch_of_unknown_length_needs_total_steps():
    def batches():
        while True:
            yield DATA[:8], DATA[:8]

    scheduler = KeepProbScheduler()
    scheduler.set_model(model_with_drop_rate_metric())
    scheduler.set_params({"epochs": 2, "steps": None})
    with pytest.raises(ValueError, match="`total_steps` must not be None"):
        scheduler.on_train_begin()
    model = model_with_drop_rate_metric()
    history = model.fit(
        batches(),
        steps_per_epoch=4,
        epochs=2,
        verbose=0,
        shuffle=False,
        callbacks=[KeepProbScheduler()],
    )
    assert history.history["keep_prob"] == pytest.approx([0.75, 0.5])


def test_a_schedule_that_leaves_the_unit_interval_is_refused():
    for schedule in (lambda progress: -0.1, lambda progress: 1.1):
        with pytest.raises(ValueError, match="`schedule` must give strengths"):
            fit(model_with_drop_rate_metric(), KeepProbScheduler(schedule))


@pytest.mark.parametrize("total_steps", [0, -5, 2.5, "10", True])
def test_total_steps_must_be_a_positive_integer(total_steps):
    with pytest.raises(ValueError, match="`total_steps` must be"):
        KeepProbScheduler(total_steps=total_steps)


def test_the_logs_of_a_batch_hold_the_values_of_its_step():
    seen = []
    tell = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(dict(logs))
    )
    others = [
        KeepProbScheduler(),
        callbacks.LogLearningRate(),
        callbacks.LogSpeed(batch_size=8),
    ]
    model = model_with_drop_rate_metric()
    fit(model, *others, callbacks.ShowOnBar(others), tell, epochs=2)
    assert [logs["keep_prob"] for logs in seen] == pytest.approx(
        [1 - 0.5 * step / 16 for step in range(16)], abs=1e-4
    )
    assert {logs["learning_rate"] for logs in seen} == {0.0}
    # The first step of each epoch compiles or waits, so its speed is not
    # measured. The speed of the second step is in the logs of the third one.
    speeds = [logs["images_per_second"] for logs in seen]
    assert [speed > 0 for speed in speeds] == [False, False, *[True] * 6] * 2
