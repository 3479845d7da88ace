"""Cards: all that a user of a model needs besides its weights."""

import dataclasses
import pathlib

from keras_dropblock import files, models, tasks
from keras_dropblock.data import Preprocessing
from keras_dropblock.errors import DataError, RecipeError, WeightsError
from keras_dropblock.hub import card_rules

FILE = "card.json"  # in models/<name>/, in a work directory, below a URL
LICENSE = "Apache-2.0"


@dataclasses.dataclass(frozen=True)
class Card:
    """The description of a trained model: how to use it and how good it is.

    Attributes:
        name: name of the model. For a work directory, the folder's name.
        preprocessing: `Preprocessing` of the model's images.
        class_names: one name for each output; () if outputs have no names.
        network: the network's name in the papers' notation.
        builder: name of a builder in `models.BUILDERS`. `""` for a custom
            model, which can be used and exported but not rebuilt.
        arguments: arguments of the builder, without `weights` and `name`. If
            the task adds a head to that network, `head` has its arguments.
        task: name of the task, as in a recipe.
        dataset: name of the data set the model was trained on.
        data_options: keys of a recipe that select or read the data, if they
            differ from their defaults: `test_split`, `train_split` and
            `ignored_labels`.
        license: SPDX identifier of the weights' license, or `"unknown"`.
        origin: address of the weights that others published and from which
            this model started, such as `hf://owner/name@commit`; else `""`.
        default: whether `weights=DATASET` selects these weights for this
            network and data set.
        metrics: the measurements: `n`, the number of runs, and `scores`, a
            dict from each metric to its `mean` and `std` over these runs. A
            published model also has `parameters` and `weights` (sha256,
            bytes, url). {} until a run is finished.
    """

    name: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    network: str = ""
    builder: str = ""
    arguments: dict = dataclasses.field(default_factory=dict)
    task: str = "classification"
    dataset: str = ""
    data_options: dict = dataclasses.field(default_factory=dict)
    license: str = LICENSE
    origin: str = ""
    default: bool = False
    metrics: dict = dataclasses.field(default_factory=dict)

    @property
    def image_shape(self):
        """(height, width, channels) that the model was trained with."""
        return self.preprocessing.image_shape

    @property
    def published(self):
        """Whether weights with a SHA-256 belong to this card."""
        return "weights" in self.metrics

    def normalize(self, images):
        """Normalize images of 0 to 255. See `Preprocessing.normalize`."""
        return self.preprocessing.normalize(images)

    def preprocessing_for(self, model):
        """The preprocessing, with the model's image size where it is fixed."""
        size = tuple(
            known or usual
            for known, usual in zip(
                models.image_shape(model)[:2],
                self.preprocessing.image_size,
                strict=True,
            )
        )
        return dataclasses.replace(self.preprocessing, image_size=size)

    def build(self):
        """Build the network with random weights, and attach this card.

        The network takes images in Keras's current data format.

        Raises:
            WeightsError: if the card has no builder, or the builder rejects
                the arguments.
        """
        if not self.builder:
            raise WeightsError(
                f"The card of {self.name} has no builder, so the network "
                "cannot be rebuilt. Save the model as a .keras file instead."
            )
        arguments = dict(self.arguments)
        if "input_shape" in arguments:  # a card has (height, width, channels)
            shape = arguments["input_shape"]
            arguments["input_shape"] = models.in_data_format(shape)
        try:
            task = tasks.find(self.task, may_import=False)()
            model = task.build(self.builder, arguments)
        except (ImportError, TypeError, ValueError) as error:
            raise WeightsError(
                f"The card of {self.name} names a network that cannot be "
                f"built: {error}"
            ) from error
        model.card = self
        return model

    def to_dict(self):
        """Convert to a dict of JSON values, for `from_dict`."""
        return {
            **{field.name: getattr(self, field.name) for field in _FIELDS},
            "preprocessing": self.preprocessing.to_dict(),
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_dict(cls, content, source="The card"):
        """Create a card from the result of `to_dict`.

        Args:
            content: dict of JSON values.
            source: name of the card's source, for error messages.

        Raises:
            WeightsError: if a key is missing or unknown, or a value is
                invalid. The message names the source and the key.
        """
        card_rules.check(content, [f.name for f in _FIELDS], source)
        try:
            tasks.find(content.get("task", "classification"), may_import=False)
            preprocessing = Preprocessing.from_dict(content["preprocessing"])
        except (DataError, RecipeError, TypeError) as error:
            raise WeightsError(f"{source}: {error}") from error
        return cls(
            **{
                **content,
                "preprocessing": preprocessing,
                "class_names": tuple(content["class_names"]),
            }
        )

    @classmethod
    def from_text(cls, text, source):
        """Create a card from the text or bytes of a `card.json`."""
        try:
            content = files.parse_json(text)
        except ValueError as error:
            raise WeightsError(f"{source} {error}") from error
        return cls.from_dict(content, source)

    @classmethod
    def from_folder(cls, folder):
        """Read the `card.json` of a folder."""
        path = pathlib.Path(folder) / FILE
        try:
            text = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error}") from error
        return cls.from_text(text, str(path))

    def write(self, folder):
        """Write `card.json` into a folder, atomically."""
        files.write_json(pathlib.Path(folder) / FILE, self.to_dict())


_FIELDS = dataclasses.fields(Card)
