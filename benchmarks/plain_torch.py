"""A Wide ResNet in plain PyTorch, written as usual, for comparison."""

import torch
from torch import nn
from torch.nn import functional as F


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, bias=False
    )


class Block(nn.Module):
    """A block B(3,3). A 1x1 shortcut reads the tensor after BN and ReLU."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = conv(inputs, outputs, 3, stride)
        self.conv2 = conv(outputs, outputs, 3)
        self.shortcut = None
        if inputs != outputs or stride != 1:
            self.shortcut = conv(inputs, outputs, 1, stride)

    def forward(self, inputs):
        x = F.relu(self.bn1(inputs), inplace=True)
        skip = inputs if self.shortcut is None else self.shortcut(x)
        x = F.relu(self.bn2(self.conv1(x)), inplace=True)
        return self.conv2(x) + skip


def wrn(depth, width, num_classes=10):
    layers, channels = [conv(3, 16, 3)], 16
    for group in range(3):
        for i in range((depth - 4) // 6):
            outputs = 16 * width * 2**group
            stride = 2 if group and i == 0 else 1
            layers.append(Block(channels, outputs, stride))
            channels = outputs
    return nn.Sequential(
        *layers,
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, num_classes),
    )


def training_step(model, images, labels, channels_last, autocast=False):
    """A function without arguments that runs one step of SGD.

    With `autocast`, the forward pass is in bfloat16 where PyTorch allows it.
    """
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    # Torch needs (images, channels, height, width). `permute` does not copy.
    images = images.permute(0, 3, 1, 2)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    else:
        images = images.contiguous()
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
    )

    def step():
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
