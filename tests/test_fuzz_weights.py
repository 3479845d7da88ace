"""Fuzz tests of weights files: damaged, of other networks, or not weights.

Each kind of file is read in a separate process, since HDF5 may crash it.
"""

import io
import json
import os
import pathlib
import tempfile
import zipfile

import h5py
import keras
import numpy as np
import pytest

from fuzzing import Group, altered, damaged, judged, pick
from keras_dropblock import hub, models
from keras_dropblock.hub import weights
from keras_dropblock.models import torch_weights

pytestmark = [pytest.mark.fuzz, pytest.mark.tensorflow_only]
SENTINEL = 7.0  # no weight in these files has this value


def network(depth=10, width=1, classes=4, **arguments):
    return models.WRN(
        depth,
        width,
        num_classes=classes,
        input_shape=(8, 8, 3),
        **arguments,
    )


def content_of(model, folder):
    path = folder / "valid.weights.h5"
    model.save_weights(path)
    return path.read_bytes()


class Target:
    """A network, and which of its weights have been loaded."""

    def __init__(self):
        self.model = network()
        self._unset = [np.full(v.shape, SENTINEL) for v in self.model.weights]
        self.clear()

    def clear(self):
        self.model.set_weights(self._unset)

    @property
    def loaded(self):
        """Fraction of the variables that were loaded from a file."""
        values = [keras.ops.convert_to_numpy(v) for v in self.model.weights]
        return np.mean([(value != SENTINEL).any() for value in values])


def read_each(suffix, load, allowed, cases, whole_or_none):
    """Load each (content, derived) as a file and yield the outcome."""
    target = Target()
    yield None
    with tempfile.TemporaryDirectory() as folder:
        for number, (content, derived) in enumerate(cases):
            path = pathlib.Path(folder, f"{number}{suffix}")
            path.write_bytes(content)
            result, fault = judged(allowed, load, target.model, path)
            loaded = target.loaded
            if result == "accepted" and loaded < 1:
                fault = f"{loaded:.0%} of the variables were loaded"
            if result != "accepted" and whole_or_none and loaded > 0:
                fault = f"it was rejected, but {loaded:.0%} were loaded"
            if loaded:
                target.clear()
            os.remove(path)
            yield result, derived, fault


# --- .weights.h5


def hdf5(count):
    return read_each(
        ".weights.h5",
        weights.read_into,
        weights.WeightsError,
        hdf5_files(count),
        whole_or_none=False,
    )


def hdf5_files(count):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        keras.utils.set_random_seed(1)
        model = network()
        valid = content_of(model, folder)
        model.set_weights([v + 1 for v in model.get_weights()])
        other = content_of(model, folder)
        # Bytes that are equal in files of different weights are structure.
        structure = [
            i
            for i, (a, b) in enumerate(zip(valid, other, strict=False))
            if a == b
        ]
        others = [
            content_of(model, folder)
            for model in (
                network(16),
                network(10, 2),
                network(classes=5),
                network(block="B(3,1)"),
                models.CifarResNet(8),
            )
        ]
    for i in range(count):
        rng = np.random.default_rng([1, i])
        if i % 10 == 9:
            start = pick(rng, others)
            whole = i // 10 % 4 == 0
            yield (start, False) if whole else (damaged(rng, start), True)
        elif i % 10 >= 7:
            alter = ALTERATIONS[i % len(ALTERATIONS)]
            yield changed_hdf5(rng, valid, alter), True
        elif i % 10 == 6:
            yield damaged(rng, valid), True
        else:
            yield damaged(rng, valid, structure), True


def changed_hdf5(rng, valid, alter):
    """A well-formed HDF5 file with one change."""
    file = io.BytesIO(valid)
    with h5py.File(file, "r+") as opened:
        datasets = []
        opened.visititems(
            lambda name, item: (
                datasets.append(name)
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
        alter(opened, pick(rng, datasets))
    return file.getvalue()


def in_place(make):
    """Replace one dataset by the result of `make`."""

    def alter(file, name):
        shape = file[name].shape
        del file[name]
        make(file, name, shape)

    return alter


ALTERATIONS = [
    in_place(lambda f, n, s: None),
    in_place(lambda f, n, s: f.create_dataset(n, (*s, 1), "f4")),
    in_place(lambda f, n, s: f.create_dataset(n, s[::-1], "f4")),
    in_place(lambda f, n, s: f.create_dataset(n, (), "f4")),
    in_place(lambda f, n, s: f.create_dataset(n, (0,), "f4")),
    in_place(lambda f, n, s: f.create_dataset(n, s, "f8", fillvalue=1)),
    in_place(lambda f, n, s: f.create_dataset(n, s, "i8", fillvalue=1)),
    in_place(lambda f, n, s: f.create_dataset(n, s, "c8")),
    in_place(lambda f, n, s: f.create_dataset(n, s, "S3")),
    in_place(lambda f, n, s: f.create_dataset(n, s, h5py.string_dtype())),
    in_place(lambda f, n, s: f.create_dataset(n, s, [("a", "f4")])),
    in_place(lambda f, n, s: f.create_dataset(n, s, h5py.ref_dtype)),
    in_place(lambda f, n, s: f.create_dataset(n, data=h5py.Empty("f4"))),
    # A dataset of terabytes that takes no space in the file.
    in_place(lambda f, n, s: f.create_dataset(n, (2**40,), "f4", chunks=(9,))),
    in_place(
        lambda f, n, s: f.create_dataset(
            n, (*s[:-1], 2**38), "f4", chunks=(1,) * len(s)
        )
    ),
    in_place(lambda f, n, s: f.create_group(n)),
    in_place(lambda f, n, s: f.__setitem__(n, h5py.SoftLink(f"/{n}"))),
    in_place(lambda f, n, s: f.__setitem__(n, h5py.SoftLink("/nowhere"))),
    in_place(
        lambda f, n, s: f.__setitem__(n, h5py.ExternalLink("/etc/passwd", "/"))
    ),
    in_place(
        lambda f, n, s: f.create_dataset(
            n, s, "f4", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
        )
    ),
    lambda f, n: f.move(n, f"{n}_"),
    lambda f, n: f.move(n.split("/vars")[0], "elsewhere"),
    lambda f, n: f.__delitem__("layers"),
    lambda f, n: f.move("layers", "_layer_checkpoint_dependencies"),
    lambda f, n: f[n].attrs.__setitem__("dtype", "bfloat16"),
    lambda f, n: f.attrs.__setitem__("layer_names", [b"stem"]),
]


# --- files of safetensors and of torch.save


def states(count, suffix):
    return read_each(
        suffix,
        torch_weights.load,
        torch_weights.WeightsError,
        state_files(count, suffix),
        whole_or_none=True,
    )


def state_files(count, suffix):
    import safetensors.torch
    import torch

    from test_torch_weights import wrn_tensors

    tensors = wrn_tensors(blocks=1, width=1, classes=4)

    def write(content, **options):
        if suffix == ".safetensors":
            return safetensors.torch.save(
                {k: v.contiguous() for k, v in content.items()}
            )
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    legacy = {"_use_new_zipfile_serialization": False}
    starts = [write(tensors)]
    if suffix != ".safetensors":
        starts += [write({"state_dict": tensors}), write(tensors, **legacy)]
    for i in range(count):
        rng = np.random.default_rng([2, i])
        start = starts[i % len(starts)]
        kind = i % 10
        if kind < 4:  # anywhere
            yield damaged(rng, start), True
        elif kind < 8:  # in the part with names, shapes and offsets
            ends = [*range(min(8000, len(start)))]
            ends += range(max(len(start) - 8000, 0), len(start))
            yield damaged(rng, start, ends), True
        elif kind == 9 and suffix != ".safetensors":
            yield write(pick(rng, no_states(torch, tensors))), False
        else:
            changed = dict(tensors)
            name = pick(rng, [*tensors])
            changed[name] = other_tensor(torch, rng, tensors[name], suffix)
            if i % 4 == 0:
                changed[f"{name}s"] = changed.pop(name)
            try:
                yield write(changed), True
            except Exception:  # values that this kind of file cannot hold
                yield damaged(rng, start), True


def no_states(torch, tensors):
    """Files of `torch.save` that do not hold a state dict."""
    one = tensors["conv0"]
    return [
        None,
        1,
        2.5,
        "text",
        b"bytes",
        [],
        {},
        one,
        [one],
        (one, one),
        {1: one},
        {None: one},
        {b"conv0": one},
        {("conv0",): one},
        tensors | {1: one, "x": one},
        tensors | {None: 1},
        {"conv0": 1},
        {"state_dict": one},
        {"state_dict": None},
        {"params": [tensors]},
        {"state_dict": {"params": tensors}},
        {"params": {"params": 1}},
        torch.Size([3]),
        torch.float32,
        {"x" * 100_000: one},
        {f"x{i}": one for i in range(5000)},
    ]


def other_tensor(torch, rng, tensor, suffix):
    odd = [
        tensor.double(),
        tensor.half(),
        tensor.bfloat16(),
        tensor.int(),
        tensor.bool(),
        tensor.to(torch.complex64),
        tensor[None],
        tensor.flatten()[:1],
        tensor.flatten()[:0],
        torch.tensor(1.0),
        tensor.to(torch.float8_e4m3fn),
    ]
    if suffix != ".safetensors":
        odd += [
            None,
            1,
            "text",
            [1.0],
            {},
            {"a": tensor},
            b"x",
            (tensor,),
            # A tensor of terabytes that repeats one number.
            torch.ones(1, dtype=torch.float64).expand(2**40),
            torch.ones(1).expand(2**20, 2**20),
            tensor.to_sparse(),
            tensor.to("meta"),
            tensor.requires_grad_(),
            torch.nn.Parameter(tensor),
        ]
    return pick(rng, odd)


# --- .keras


def whole_models(count):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "model.keras")
        network().save(path)
        valid = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        yield None
        for i in range(count):
            rng = np.random.default_rng([3, i])
            if i % 4 == 0:
                path.write_bytes(damaged(rng, valid))
            else:
                with zipfile.ZipFile(path, "w") as archive:
                    for name, content in changed_parts(rng, parts).items():
                        archive.writestr(name, content)
            result, fault = judged(weights.WeightsError, hub.load, path)
            yield result, True, fault


def changed_parts(rng, parts):
    """A zipped model with one file damaged, changed or removed."""
    parts = dict(parts)
    name = pick(rng, sorted(parts))
    if name == "config.json" and rng.random() < 0.8:
        config = altered(rng, json.loads(parts[name]), deep=0.98)
        parts[name] = json.dumps(config).encode()
    elif rng.random() < 0.1:
        del parts[name]
    else:
        parts[name] = damaged(rng, parts[name])
    return parts


def test_hdf5_files_are_loaded_completely_or_rejected(record_property):
    group = Group("weights: HDF5", record_property)
    group.apart(hdf5, 450)
    group.close(at_least=450)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torch_files_are_loaded_completely_or_rejected(suffix, record_property):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    group = Group(f"weights: {suffix}", record_property)
    group.apart(states, 400, suffix)
    group.close(at_least=400)


def test_keras_files_are_loaded_or_rejected(record_property):
    group = Group("weights: .keras", record_property)
    group.apart(whole_models, 60)
    group.close(at_least=60)
