"""Compare our networks with Torch networks, written here from the papers."""

import keras
import numpy as np
import pytest

from keras_dropblock import load, models
from keras_dropblock.errors import WeightsError
from keras_dropblock.models import torch_weights

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
nn, relu = torch.nn, torch.nn.functional.relu


def conv(ins, outs, size, stride=1):
    return nn.Conv2d(ins, outs, size, stride, (size - 1) // 2, bias=False)


class TorchBlock(nn.Module):
    """A post-activation block of convs (kernel, channels)."""

    def __init__(self, ins, layers, stride):
        super().__init__()
        self.count = len(layers)
        strided = [k for k, _ in layers].index(3)
        before = ins
        for i, (k, outs) in enumerate(layers):
            s = stride if i == strided else 1
            self.add_module(f"conv{i + 1}", conv(before, outs, k, s))
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(outs))
            before = outs
        self.downsample = None
        if stride > 1 or ins != before:
            self.downsample = nn.Sequential(
                conv(ins, before, 1, stride), nn.BatchNorm2d(before)
            )

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(y))
            y = relu(y) if i < self.count else y
        return relu(y + (self.downsample(x) if self.downsample else x))


class TorchResNet(nn.Module):
    def __init__(self, counts, bottleneck, width, classes):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        ins = 64
        for g, count in enumerate(counts):
            c = 64 * 2**g
            layers = [(1, c * width), (3, c * width), (1, 4 * c)]
            layers = layers if bottleneck else [(3, c * width)] * 2
            blocks = []
            for i in range(count):
                stride = 2 if g > 0 and i == 0 else 1
                blocks.append(TorchBlock(ins, layers, stride))
                ins = layers[-1][1]
            self.add_module(f"layer{g + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(ins, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for g in range(1, 5):
            x = self.get_submodule(f"layer{g}")(x)
        return self.fc(x.mean((2, 3)))


def torch_wrn(tensors, x, blocks):
    """A Wide ResNet as a function of tensors with the original names."""

    def bn(name, x):
        keys = ("running_mean", "running_var", "weight", "bias")
        return nn.functional.batch_norm(
            x, *(tensors[f"{name}.{k}"] for k in keys)
        )

    x = nn.functional.conv2d(x, tensors["conv0"], padding=1)
    for g in range(3):
        for i in range(blocks):
            name = f"group{g}.block{i}"
            stride = 2 if g > 0 and i == 0 else 1
            o = relu(bn(f"{name}.bn0", x))
            y = nn.functional.conv2d(
                o, tensors[f"{name}.conv0"], stride=stride, padding=1
            )
            y = relu(bn(f"{name}.bn1", y))
            y = nn.functional.conv2d(y, tensors[f"{name}.conv1"], padding=1)
            skip = x
            if f"{name}.convdim" in tensors:
                skip = nn.functional.conv2d(
                    o, tensors[f"{name}.convdim"], stride=stride
                )
            x = y + skip
    x = relu(bn("bn", x)).mean((2, 3))
    return nn.functional.linear(x, tensors["fc.weight"], tensors["fc.bias"])


def wrn_tensors(blocks, width, classes):
    """Random weights under the original names."""
    tensors, ins = {"conv0": (16, 3, 3, 3)}, 16

    def norm(name, c):
        for key in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{key}"] = (c,)

    for g in range(3):
        outs = 16 * width * 2**g
        for i in range(blocks):
            name = f"group{g}.block{i}"
            norm(f"{name}.bn0", ins)
            norm(f"{name}.bn1", outs)
            tensors[f"{name}.conv0"] = (outs, ins, 3, 3)
            tensors[f"{name}.conv1"] = (outs, outs, 3, 3)
            if ins != outs:
                tensors[f"{name}.convdim"] = (outs, ins, 1, 1)
            ins = outs
    norm("bn", ins)
    tensors |= {"fc.weight": (classes, ins), "fc.bias": (classes,)}
    return randomized({k: torch.zeros(shape) for k, shape in tensors.items()})


def randomized(tensors):
    """He-scaled kernels, and batch statistics that differ from 0 and 1."""
    torch.manual_seed(0)
    result = {}
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            fan_in = tensor[0].numel()
            result[name] = torch.randn(tensor.shape) * (2 / fan_in) ** 0.5
        elif name.endswith("num_batches_tracked"):
            result[name] = tensor
        else:
            result[name] = 0.5 + torch.rand(tensor.shape)
            if name.endswith(("bias", "running_mean")):
                result[name] = 0.3 * torch.randn(tensor.shape)
    return result


def assert_parity(model, expected, x):
    y = model.predict(x.permute(0, 2, 3, 1).numpy(), verbose=0)
    expected = expected.detach().numpy()
    assert np.isfinite(expected).all() and expected.std() > 0.01
    assert abs(y - expected).max() < 1e-4 * abs(expected).max()


RESNETS = {
    "resnet18": ((18, 1), ((2, 2, 2, 2), False, 1)),
    "resnet50": ((50, 1), ((3, 4, 6, 3), True, 1)),
    "wide_resnet50_2": ((50, 2), ((3, 4, 6, 3), True, 2)),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name[:4] == "wide"))
        for name in RESNETS
    ],
)
def test_imagenet_networks_give_the_logits_of_torch(name, tmp_path):
    ours, theirs = RESNETS[name]
    network = TorchResNet(*theirs, classes=11).eval()
    network.load_state_dict(randomized(network.state_dict()))
    safetensors.save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = models.ResNet(
        *ours, num_classes=11, input_shape=(64, 96, 3), keep_prob=0.9
    )
    torch_weights.load(model, tmp_path / "w.safetensors")
    x = torch.randn(2, 3, 64, 96)
    assert_parity(model, network(x), x)


def test_a_wide_resnet_gives_the_logits_of_the_original_release(tmp_path):
    tensors = wrn_tensors(blocks=2, width=2, classes=10)
    torch.save({"params": tensors, "epoch": 200}, tmp_path / "model.pt")
    model = models.WRN(16, 2)
    torch_weights.load(model, tmp_path / "model.pt")
    x = torch.randn(3, 3, 32, 32)
    assert_parity(model, torch_wrn(tensors, x, blocks=2), x)


def test_a_file_is_loaded_without_naming_its_network(tmp_path):
    tensors = wrn_tensors(blocks=1, width=2, classes=7)
    torch.save(tensors, tmp_path / "model.pth")
    model = load(tmp_path / "model.pth")
    assert model.name == "wrn_10_2" and model.output.shape == (None, 7)
    named = models.WRN(10, 2, num_classes=7, weights=tmp_path / "model.pth")
    for a, b in zip(model.weights, named.weights, strict=True):
        assert np.array_equal(a, b)


def test_a_file_of_an_unknown_or_unbelievable_network_is_refused(tmp_path):
    torch.save({"embed.weight": torch.ones(3)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="ResNet with torch.*embed.weight"):
        load(tmp_path / "a.pth")
    # The file declares a head of 8 terabytes. All its values are the same.
    tensors = wrn_tensors(blocks=1, width=1, classes=10)
    tensors["fc.weight"] = torch.ones(1).expand(2**35, 64)
    torch.save(tensors, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="at least 4,398,.* bytes for the"):
        load(tmp_path / "b.pth")


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path):
    tensors = wrn_tensors(blocks=1, width=1, classes=10)
    del tensors["conv0"], tensors["bn.bias"]
    tensors["group0.block0.conv2"] = torch.zeros(1)
    tensors["fc.bias"] = torch.zeros(7)
    safetensors.save_file(tensors, tmp_path / "w.safetensors")
    model = models.WRN(10, 1)
    before = model.get_weights()
    with pytest.raises(torch_weights.WeightsError) as error:
        torch_weights.load(model, tmp_path / "w.safetensors")
    message = str(error.value)
    assert "2 missing: bn.bias, conv0" in message
    assert "1 unexpected: group0.block0.conv2" in message
    assert "fc.bias (7,) instead of (10,)" in message
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_files_that_are_not_weights_are_refused(tmp_path):
    class Code:
        def __reduce__(self):
            return (print, ("run",))

    model = models.WRN(10, 1)
    torch.save(Code(), tmp_path / "code.pt")
    (tmp_path / "text.safetensors").write_text("weights")
    (tmp_path / "text.pt").write_text("weights")
    for name in ("code.pt", "text.safetensors", "text.pt", "absent.pt"):
        with pytest.raises(torch_weights.WeightsError, match="cannot be read"):
            torch_weights.load(model, tmp_path / name)


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "state dict, which maps names to tensors. Received: NoneType"),
        ([torch.ones(3)], "Received: list. Save `network.state_dict"),
        ({1: torch.ones(3)}, "must hold a state dict"),
        ({"conv0": 1.5}, "must hold a state dict"),
        ({"state_dict": torch.ones(3)}, "Received: Tensor"),
        ({"x" * 100_000: torch.ones(3)}, f"1 unexpected: {'x' * 80}[.]"),
    ],
    ids=lambda content: str(content)[:20],
)
def test_files_without_a_state_dict_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(torch_weights.WeightsError, match=message):
        torch_weights.load(models.WRN(10, 1), tmp_path / "w.pt")


@pytest.mark.parametrize(
    "change, message",
    [
        # The error comes before the conversion, which would need 8 terabytes.
        (lambda t: t[:1].double().expand(2**40), r"fc.bias \(1099511627776,\)"),
        (lambda t: t.to(torch.complex64), "fc.bias torch.complex64"),
        (lambda t: t.int(), "1 not floating-point: fc.bias torch.int32"),
        (lambda t: t.to("meta"), "cannot be read as Torch weights"),
        (lambda t: t.to_sparse(), "cannot be read as Torch weights"),
    ],
    ids=["huge", "complex", "int", "meta", "sparse"],
)
def test_a_tensor_that_is_not_a_weight_is_refused_and_nothing_is_loaded(
    tmp_path, change, message
):
    tensors = wrn_tensors(blocks=1, width=1, classes=10)
    tensors["fc.bias"] = change(tensors["fc.bias"])
    torch.save(tensors, tmp_path / "w.pt")
    model = models.WRN(10, 1)
    before = model.get_weights()
    with pytest.raises(torch_weights.WeightsError, match=message):
        torch_weights.load(model, tmp_path / "w.pt")
    for a, b in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_biases_and_statistics_are_not_confused():
    model = models.WRN(10, 1)
    places = torch_weights._places(model)
    assert len(places) == len(model.weights)
    assert len({id(v) for v in places.values()}) == len(places)
    assert keras.ops.shape(places["group1.block0.convdim"]) == (1, 1, 16, 32)
