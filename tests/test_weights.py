"""Published weights: search order, download and verification."""

import contextlib
import hashlib
import http.server
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

from keras_dropblock import files
from keras_dropblock.hub import weights

ROOT = pathlib.Path(__file__).parents[1]
CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PUBLISHED = {"sha256": SHA256, "size": len(CONTENT)}


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A temporary cache and folder of models."""
    monkeypatch.setenv("KERAS_DROPBLOCK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_DROPBLOCK_MODELS", str(tmp_path / "models"))
    return tmp_path


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        {
            "/right": self.right,
            "/both": self.both,
            "/truncated": lambda: self.send(CONTENT[:9999], len(CONTENT)),
            "/short": lambda: self.send(CONTENT[:-1]),
            "/wrong": lambda: self.send(CONTENT[::-1]),
            "/endless": lambda: self.send(CONTENT * 100),
            "/slow": self.slow,
        }.get(self.path, lambda: self.send_error(404))()

    def right(self):
        self.send(CONTENT)

    def both(self):
        self.server.both_are_here.wait(60)
        self.send(CONTENT)

    def slow(self):
        self.send(CONTENT[:100], len(CONTENT))
        self.server.done.wait(60)

    def send(self, content, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        with contextlib.suppress(
            ConnectionError
        ):  # the client closed the connection
            self.wfile.write(content)
            self.wfile.flush()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    server.done = threading.Event()
    server.both_are_here = threading.Barrier(2)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_places_are_searched_in_order(places, server, monkeypatch):
    monkeypatch.setattr(weights, "PACKAGED", places / "packaged")

    def find():
        return weights.find(
            "net", **PUBLISHED, url=f"{server.url}/right", folder=places / "own"
        )

    downloaded = find()
    assert downloaded.read_bytes() == CONTENT
    assert downloaded.parent == places / "cache"
    assert find() == downloaded and server.requests == ["/right"]
    # From the last place in the search order to the first.
    for place in (
        "packaged/net.weights.h5",
        "models/net/model.weights.h5",
        "own/net/model.weights.h5",
    ):
        path = put(places / place)
        assert find() == path
    assert server.requests == ["/right"]


def test_saved_models_of_the_checkout_is_searched():
    with pytest.raises(weights.WeightsError, match="were not found") as error:
        weights.find("net", **PUBLISHED)
    for place in (
        ROOT / "saved_models" / "net" / "model.weights.h5",
        ROOT / "keras_dropblock" / "hub" / "published" / "net.weights.h5",
    ):
        assert str(place) in str(error.value)
    assert "no URL is known" in str(error.value)


@pytest.mark.parametrize("place", ["models/net", "own/net"])
def test_a_file_that_was_changed_is_not_used(places, place):
    path = put(places / place / "model.weights.h5", CONTENT[:-1] + b"x")
    with pytest.raises(weights.WeightsError, match="not the published file"):
        weights.find("net", **PUBLISHED, folder=places / "own")
    assert path.exists()  # a file of the user is never deleted


def test_a_damaged_file_in_the_cache_is_fetched_again(places, server):
    url = f"{server.url}/right"
    path = weights.find("net", **PUBLISHED, url=url)
    path.write_bytes(b"damaged")
    assert weights.find("net", **PUBLISHED, url=url) == path
    assert path.read_bytes() == CONTENT and len(server.requests) == 2
    path.write_bytes(b"damaged")
    with pytest.raises(weights.WeightsError, match="were not found"):
        weights.find("net", **PUBLISHED)
    assert list((places / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "path, message",
    [
        ("truncated", "(gave 9,999 bytes|Cannot read .*IncompleteRead)"),
        ("short", "gave 255,999 bytes .* Expected: 256,000 bytes"),
        ("wrong", "gave 256,000 bytes with the SHA-256"),
        ("endless", "Expected: 256,000 bytes"),
        ("slow", "Cannot read http://127.0.0.1.*/slow: .*timed out"),
        ("absent", "Cannot download .*: 404 Not Found"),
    ],
)
def test_an_incomplete_or_wrong_download_is_not_kept(
    places, server, monkeypatch, path, message
):
    monkeypatch.setattr(weights, "_SECONDS", 0.3)
    with pytest.raises(weights.WeightsError, match=f"(?s){message}"):
        weights.find("net", **PUBLISHED, url=f"{server.url}/{path}")
    assert list((places / "cache").iterdir()) == []


def test_no_more_is_read_than_was_published(server, tmp_path):
    with open(tmp_path / "file", "wb") as file:
        read = weights._copy(f"{server.url}/endless", file, len(CONTENT))
    assert len(CONTENT) < read <= len(CONTENT) + weights._CHUNK


def test_without_a_network_the_error_says_so(places, server):
    server.server_close()  # the port is closed now
    with pytest.raises(weights.WeightsError, match="Check the network"):
        weights.find("net", **PUBLISHED, url=f"{server.url}/right")
    assert list((places / "cache").iterdir()) == []


def alone(code, *arguments, **options):
    """Run code that uses `weights` in a process without Keras."""
    start = (
        "import sys, types, pathlib\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "for name in ('keras_dropblock', 'keras_dropblock.hub'):\n"
        "    module = sys.modules[name] = types.ModuleType(name)\n"
        "    module.__path__ = [str(root.joinpath(*name.split('.')))]\n"
        "from keras_dropblock.hub import weights\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start + code, ROOT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


FIND = (
    "print(weights.find('net', sha256=sys.argv[2], size=int(sys.argv[3]),"
    " url=sys.argv[4]))"
)


def test_two_processes_can_download_the_same_file_concurrently(places, server):
    published = (SHA256, str(len(CONTENT)), f"{server.url}/both")
    processes = [alone(FIND, *published) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in processes]
    (cached,) = (places / "cache").iterdir()
    assert cached.read_bytes() == CONTENT
    for output, errors in outputs:
        assert output.strip() == str(cached), errors
    assert server.requests == ["/both", "/both"]


@pytest.mark.skipif(os.name == "nt", reason="needs limits of POSIX")
def test_a_full_cache_raises_an_error_and_is_left_clean(places, server):
    limit = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    )
    published = (SHA256, str(len(CONTENT)), f"{server.url}/right")
    _, errors = alone(limit + FIND, *published).communicate(timeout=60)
    assert "WriteError: Cannot write " in errors
    assert f"{places / 'cache'}" in errors and "Free some space" in errors
    assert list((places / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_created_raises_an_error(places, server):
    put(places / "cache", b"a file in its place")
    with pytest.raises(files.WriteError, match="Set KERAS_DROPBLOCK_CACHE"):
        weights.find("net", **PUBLISHED, url=f"{server.url}/right")
    assert server.requests == []


def test_temporary_files_of_interrupted_downloads_are_deleted_after_a_day(
    places, server
):
    old = put(places / "cache" / ".12.net.weights.h5")
    new = put(places / "cache" / ".13.net.weights.h5")
    other = put(places / "cache" / "other.weights.h5")
    long_ago = time.time() - 90_000
    for path in (old, other):
        os.utime(path, (long_ago, long_ago))
    fetched = weights.find("net", **PUBLISHED, url=f"{server.url}/right")
    assert {*(places / "cache").iterdir()} == {new, other, fetched}
