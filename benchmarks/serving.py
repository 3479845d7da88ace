"""Measure the speed of the server against that of its SavedModel.

Serves WRN-16-1 for uint8 images of 32 x 32 pixels. A real client, tritonclient
with binary tensors, sends requests to serving/server.py over the loopback
interface, so server and clients share the cores of this machine. In turn with
that, the SavedModel is called directly on batches of the same size. Needs the
server's environment: see `make bench-serving`.
"""

import contextlib
import itertools
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from absl import app

import records
import shared_flags

CLIENTS = (1, 4, 16)
IMAGES = (1, 16, 64)  # per request
ROUNDS, SECONDS = 5, 3.0
NAME = "wrn_16_1"
SERVER = pathlib.Path(__file__).parents[1] / "serving" / "server.py"


def export(folder):
    """Export a SavedModel with random weights into a folder."""
    from keras_dropblock import data, exports, hub, models

    model = models.WRN(16, 1)
    preprocessing = data.Preprocessing((32, 32), (120.0,) * 3, (60.0,) * 3)
    card = hub.Card(NAME, preprocessing, tuple("abcdefghij"))
    return exports.export(model, folder / NAME, card=card)


def start(path):
    """Start a server, and return (process, address) once it is ready."""
    from tritonclient.http import InferenceServerClient

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [
            sys.executable,
            str(SERVER),
            f"--saved_model={path.parent}",
            f"--port={address.rpartition(':')[2]}",
        ],
        stdout=subprocess.DEVNULL,
    )
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit("The server exited before it was ready.")
        try:
            with InferenceServerClient(address) as client:
                if client.is_model_ready(NAME):
                    return process, address
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise SystemExit("The server was not ready within a minute.")


def call_directly(function, images, seconds):
    """Call a function on images for some time. Returns seconds per call."""
    took, end = [], time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        function(images)
        took.append(time.perf_counter() - before)
    return took


def ask(address, images, clients, seconds):
    """Send requests from several clients for some time.

    Returns:
        A tuple (seconds of each request, total seconds).

    Raises:
        RuntimeError: if a client fails.
    """
    took, ready = [[] for _ in range(clients)], threading.Barrier(clients + 1)
    failed = []

    def client(mine):
        try:
            send(mine)
        except Exception as error:
            failed.append(error)
            ready.abort()  # the others would wait for this client

    def send(mine):
        from tritonclient.http import InferenceServerClient, InferInput

        given = InferInput("images", images.shape, "UINT8")
        given.set_data_from_numpy(images)
        with InferenceServerClient(address) as connection:
            connection.infer(NAME, [given])
            ready.wait()
            mine += call_directly(
                lambda _: connection.infer(NAME, [given]), images, seconds
            )

    threads = [threading.Thread(target=client, args=(mine,)) for mine in took]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait()
    before = time.perf_counter()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - before
    if failed:
        raise RuntimeError(f"A client failed: {failed[0]}") from failed[0]
    return sum(took, []), whole


def measure():
    """The rows of results, one for each number of images and of clients."""
    import tensorflow as tf

    quick = shared_flags.QUICK.value
    rounds, seconds = (1, 0.5) if quick else (ROUNDS, SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        path = export(pathlib.Path(folder))
        loaded = tf.saved_model.load(str(path))
        process, address = start(path)
        try:
            return _measure(loaded.serve_uint8, address, rounds, seconds)
        finally:
            process.terminate()
            process.wait()


def _measure(function, address, rounds, seconds):
    draw = np.random.default_rng(0)
    pixels = {n: draw.integers(0, 256, (n, 32, 32, 3), "uint8") for n in IMAGES}
    cases = [*itertools.product(IMAGES, CLIENTS)]
    direct = {n: [] for n in IMAGES}
    speeds, took = {c: [] for c in cases}, {c: [] for c in cases}
    for _ in range(rounds):
        for n in IMAGES:
            direct[n] += call_directly(function, pixels[n], seconds)
            for clients in CLIENTS:
                times, whole = ask(address, pixels[n], clients, seconds)
                speeds[n, clients].append(n * len(times) / whole)
                took[n, clients] += times
    rows = []
    for n, clients in cases:
        alone = n / statistics.mean(direct[n])
        p50, p99 = np.percentile(took[n, clients], [50, 99]) * 1e3
        speed = statistics.median(speeds[n, clients])
        rows.append(
            {
                "images": n,
                "clients": clients,
                "images_per_second": round(speed),
                "direct_images_per_second": round(alone),
                "ratio": round(speed / alone, 3),
                "p50_ms": round(float(p50), 2),
                "p99_ms": round(float(p99), 2),
                "requests": len(took[n, clients]),
                "rounds": rounds,
            }
        )
    return rows


def show(rows):
    """Markdown table of the rows."""
    lines = [
        "| images per request | clients | images/s | relative to direct calls "
        "of the SavedModel | p50, ms | p99, ms |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row['images']} | {row['clients']} | "
        f"{row['images_per_second']:,} | {row['ratio']:.2f} | "
        f"{row['p50_ms']:.1f} | {row['p99_ms']:.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main(_):
    records.commit()
    rows = measure()
    print(show(rows))
    records.save("serving", rows)


if __name__ == "__main__":
    app.run(main)
