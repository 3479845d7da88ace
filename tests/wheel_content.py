"""List a wheel, and fail if it has more than the package: `make wheel`."""

import sys
import zipfile


def main(path):
    names = zipfile.ZipFile(path).namelist()
    print(*names, sep="\n")
    roots = {name.split("/")[0] for name in names}
    (info,) = [root for root in roots if root.endswith(".dist-info")]
    if roots != {"keras_dropblock", info}:
        sys.exit(f"{path} holds more than keras_dropblock: {sorted(roots)}")
    needed = ["__init__", "layers/masks", "models/wide_resnet", "cli/train"]
    missing = [x for x in needed if f"keras_dropblock/{x}.py" not in names]
    registry = "keras_dropblock/hub/published.json"
    template = "keras_dropblock/report/page.html"
    classes = "keras_dropblock/hub/imagenet_classes.txt"
    missing += [
        name for name in (registry, template, classes) if name not in names
    ]
    if missing or f"{info}/entry_points.txt" not in names:
        sys.exit(f"{path} lacks {missing or 'entry_points.txt'}")
    # Besides code, the wheel has only published weights, at most 2 MB.
    weights = [x for x in zipfile.ZipFile(path).infolist() if x.file_size > 1e5]
    if any(".weights.h5" not in x.filename for x in weights) or (
        sum(x.file_size for x in weights) > 2e6
    ):
        sys.exit(f"{path} has large files: {[x.filename for x in weights]}")
    print(f"{len(names)} files, keras_dropblock alone")


if __name__ == "__main__":
    main(*sys.argv[1:])
