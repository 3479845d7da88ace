"""Networks that others published have their published accuracy, exactly."""

import pathlib

import numpy as np
import pytest

from keras_dropblock import data, load, predict
from keras_dropblock.errors import WeightsError
from keras_dropblock.models import CifarResNet

pytest.importorskip("torch")
FOLDER = pathlib.Path(__file__).parents[2] / "shared/data/published_weights"

# chenyaofo/pytorch-cifar-models: mean and std of pixels in [0, 1].
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}


def published(name):
    path = FOLDER / f"{name}.pth"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in ../shared/data")
    return path


def images_and_labels(dataset):
    tensorflow_datasets = pytest.importorskip("tensorflow_datasets")
    from keras_dropblock.data import tfds

    if not tfds.is_prepared(tensorflow_datasets.builder(dataset)):
        pytest.skip(f"{dataset} is not prepared")
    return data.load(dataset).arrays["test"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "dataset, depth, right",
    [
        ("cifar10", 20, 9260),  # published: 92.60 %
        ("cifar10", 56, 9437),  # 94.37 %
        ("cifar100", 20, 6883),  # 68.83 %
    ],
)
def test_the_published_accuracy_is_found_on_all_test_images(
    dataset, depth, right
):
    path = published(f"{dataset}_resnet{depth}")
    images, labels = images_and_labels(dataset)
    model = CifarResNet(
        depth,
        shortcut="projection",
        num_classes=int(dataset.removeprefix("cifar")),
        keep_prob=0.9,  # does not change a prediction
        weights=path,
    )
    mean, std = (
        tuple(255 * x for x in channels) for channels in STATISTICS[dataset]
    )
    normalize = data.Preprocessing((32, 32), mean, std).normalize
    logits = model.predict(normalize(images), batch_size=500, verbose=0)
    assert len(labels) == 10_000
    assert np.sum(logits.argmax(1) == labels) == right


def test_the_network_is_found_from_the_file_alone():
    path = published("cifar100_resnet20")
    model = load(path)
    assert model.name == "cifar_resnet_20_b"
    assert model.output.shape == (None, 100)
    assert model.card is None  # a file says nothing about its preprocessing
    with pytest.raises(WeightsError, match="has no card"):
        predict(model, [np.zeros((32, 32, 3), "uint8")])
    with pytest.raises(WeightsError, match="unexpected: layer2.0.downsample"):
        CifarResNet(20, num_classes=100, weights=path)
