"""Lists a wheel and fails if it holds more than the package: `make wheel`."""

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
    if missing or f"{info}/entry_points.txt" not in names:
        sys.exit(f"{path} lacks {missing or 'entry_points.txt'}")
    print(f"{len(names)} files, keras_dropblock alone")


if __name__ == "__main__":
    main(*sys.argv[1:])
