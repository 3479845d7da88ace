"""Send image files to a server and print its answers.

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
    """Send image files in one request, to a model of any task.

    Args:
        url: URL of the server, such as `http://127.0.0.1:8080`.
        model: name of the model on the server.
        files: contents of JPEG or PNG files, as bytes.
        timeout: timeout in seconds.

    Returns:
        A list of dicts with `status` and the model's answer, one for each
        file: `probabilities` of a classifier, `mask_bytes` of a segmentation
        network, or `boxes`, `scores`, `labels` and `num_detections`.

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


def described(answer, labels=None):
    """An answer as text: the most likely class, or else the answer as JSON.

    Args:
        answer: see `classify`.
        labels: names of the classes, or None.
    """
    if "probabilities" not in answer:
        return json.dumps({k: v for k, v in answer.items() if k != "status"})
    best = max(answer["probabilities"])
    found = answer["probabilities"].index(best)
    return f"{labels[found] if labels else found} ({best:.1%})"


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
        print(f"{image}: {described(answer, labels)}")
    return any(answer["status"] != "ok" for answer in answers)


if __name__ == "__main__":
    sys.exit(main())
