"""The networks that need KerasHub, an extra, behind one clear error."""

from keras_dropblock.errors import MissingExtraError


def DeepLab(backbone, num_classes, **options):
    """DeepLabV3+ of KerasHub: see `tasks.hub_models.DeepLab`."""
    _require()
    from keras_dropblock.tasks import hub_models

    return hub_models.DeepLab(backbone, num_classes, **options)


def RetinaNet(backbone, num_classes, **options):
    """RetinaNet of KerasHub: see `tasks.retinanet.RetinaNet`."""
    _require()
    from keras_dropblock.tasks import retinanet

    return retinanet.RetinaNet(backbone, num_classes, **options)


def _require():
    try:
        import keras_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "RetinaNet and DeepLab need the extra `vision`, KerasHub. Run: "
            f"pip install 'keras-dropblock[vision]'. ({error})"
        ) from error
