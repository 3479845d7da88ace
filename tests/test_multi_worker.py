"""Keras 3's `fit` does not run under MultiWorkerMirroredStrategy.

The README says so. When a Keras release fixes this, the test fails. Then
`strategy = "multi_worker_mirrored"` can be added, and the README changed.
"""

import json
import os
import socket
import subprocess
import sys

import pytest

WORKER = """
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
import keras
import numpy as np

with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
x = np.ones((32, 4), "float32")
model.fit(x, x[:, :2], batch_size=8, verbose=0)
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("localhost", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.mark.slow
@pytest.mark.tensorflow_only
def test_fit_still_fails_on_two_workers():
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": workers}, "task": task}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER],
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        try:
            _, stderr = process.communicate(timeout=180)
        finally:
            process.kill()
        assert process.returncode != 0, "It works now: see the module's head."
        assert "PerReplica) to a Tensor" in stderr.replace("'>", ""), stderr
