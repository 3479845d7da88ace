"""Classify image files with a server.

Works with serving/server.py and with TensorFlow Serving:

    python serving/client.py --model=quickstart --labels=LABELS_TXT IMAGE ...
"""

import argparse
import base64
import json
import pathlib
import sys
import urllib.error
import urllib.request


def classify(url, model, files, timeout=30.0):
    """Classify image files in one request.

    Args:
        url: URL of the server, such as `http://127.0.0.1:8080`.
        model: name of the model on the server.
        files: contents of JPEG or PNG files, as bytes.
        timeout: timeout in seconds.

    Returns:
        A list of dicts with `probabilities` and `status`, one for each file.

    Raises:
        RuntimeError: if the server rejects the request. The message has the
            server's reason.
    """
    instances = [{"b64": base64.b64encode(file).decode()} for file in files]
    request = urllib.request.Request(
        f"{url}/v1/models/{model}:predict",
        json.dumps(
            {"signature_name": "serve_bytes", "instances": instances}
        ).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
        raise RuntimeError(f"HTTP {error.code}: {reason}") from error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model", required=True)
    parser.add_argument("--labels", help="assets/labels.txt of the SavedModel")
    parser.add_argument("images", nargs="+", type=pathlib.Path)
    flags = parser.parse_args()
    labels = None
    if flags.labels:
        labels = pathlib.Path(flags.labels).read_text("utf-8").splitlines()
    contents = [image.read_bytes() for image in flags.images]
    answers = classify(flags.url, flags.model, contents)
    for image, answer in zip(flags.images, answers, strict=True):
        if answer["status"] != "ok":
            print(f"{image}: {answer['status']}")
            continue
        best = max(answer["probabilities"])
        found = answer["probabilities"].index(best)
        print(f"{image}: {labels[found] if labels else found} ({best:.1%})")
    return any(answer["status"] != "ok" for answer in answers)


if __name__ == "__main__":
    sys.exit(main())
