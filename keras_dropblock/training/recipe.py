"""Recipes: everything that defines a training run, in one flat TOML file."""

import dataclasses
import json
import pathlib

from keras_dropblock import files, keys, tasks
from keras_dropblock.errors import RecipeError
from keras_dropblock.training.recipe_keys import RecipeKeys


@dataclasses.dataclass(frozen=True)
class Recipe(RecipeKeys):
    """A training run. The defaults are those of the Wide ResNet paper.

    `RecipeKeys` lists the keys. A key that is None gets its value from the
    data set or the network. The `recipe.toml` of a run holds the values taken
    from the data set. Each task adds keys of its own: see its class in
    `tasks`.
    """

    @property
    def is_streamed(self):
        """Whether images are read from disk during training."""
        return self.augmentation == "resized_crop_flip"

    @property
    def crop_fraction(self):
        """Fraction of a test image's shorter side that is cropped."""
        return 0.875 if self.is_streamed else 1.0  # 224 of 256 pixels

    @property
    def network_options(self):
        """Arguments of builders for regularization and initialization."""
        options = {
            name: getattr(self, name)
            for name in (
                "dropout",
                "spatial_dropout",
                "survival_prob",
                "keep_prob",
                "block_size",
                "dropblock_skip",
            )
        }
        if self.dropblock_groups is not None:
            options["dropblock_groups"] = list(self.dropblock_groups)
        if self.zero_init:  # only post-activation ResNets have this argument
            options["zero_init"] = True
        if self.shortcut_dropout:  # only pre-activation networks have it
            options["shortcut_dropout"] = self.shortcut_dropout
        return options

    @classmethod
    def from_toml(cls, path):
        """Read a recipe file.

        Raises:
            RecipeError: if the file cannot be read, or a key is unknown, has
                the wrong type or is out of range. The message names the file
                and the key and, for an unknown key, the nearest valid one.
        """
        recipe, _ = cls.from_toml_with(path, None)
        return recipe

    @classmethod
    def from_toml_with(cls, path, table):
        """Read a file that may have a table besides the keys of a recipe.

        Args:
            path: file to read.
            table: name of the table. None: there is none.

        Returns:
            (`Recipe`, the table as a dict, empty if there is none).
        """
        source = f"Recipe {path}"
        try:
            text = pathlib.Path(path).read_text("utf-8")
        except (OSError, UnicodeError) as error:
            raise RecipeError(f"{source}: {error}") from error
        values = keys.parse(text, source)
        found = values.pop(table, {})
        if not isinstance(found, dict):
            raise RecipeError(
                f"{source}: `{table}` must be a table, [{table}]. Received: "
                f"{table}={keys.shown(found)}."
            )
        return cls().replaced(values, source), found

    def override(self, assignments):
        """A copy with some keys changed.

        Args:
            assignments: strings `key=value`. See `keys.key_and_value`.
        """
        values = dict(keys.key_and_value(text, "--set") for text in assignments)
        return self.replaced(values, source="--set")

    def replaced(self, values, source):
        """A copy with the values of a flat dict. Errors name the source."""
        try:
            return self._replaced(dict(values))
        except RecipeError as error:
            raise RecipeError(f"{source}: {error}") from error

    def _replaced(self, values):
        task = self.task
        if "task" in values:
            name = values.pop("task")
            if not isinstance(name, str):
                raise RecipeError(
                    f"`task` must be a text. Received: task={keys.shown(name)}."
                )
            kind = tasks.find(name)
            task = task if kind is type(task) else kind()
        own = {field.name for field in dataclasses.fields(self)} - {"task"}
        of_task = {field.name for field in dataclasses.fields(task)}
        for name in values:
            if name not in own | of_task:
                raise _unknown(name, task, own | of_task)
        changed = {k: v for k, v in values.items() if k in of_task}
        return dataclasses.replace(
            self,
            task=dataclasses.replace(task, **changed),
            **{k: v for k, v in values.items() if k in own},
        )

    def flat(self):
        """All keys with their values, including the task's, in file order."""
        values = {"task": self.task.name()}
        for field in dataclasses.fields(self):
            if field.name != "task":
                values[field.name] = getattr(self, field.name)
        return {**values, **vars(self.task)}

    def to_toml(self):
        """The recipe as TOML. `from_toml` reads it back to an equal recipe."""
        lines = []
        for name, value in self.flat().items():
            if value is not None:
                if isinstance(value, tuple):
                    value = list(value)
                # JSON and TOML write strings, numbers, booleans and lists
                # alike, except for one character: DEL.
                text = json.dumps(value, ensure_ascii=False)
                text = text.replace("\x7f", "\\u007f")
                lines.append(f"{name} = {text}\n")
        return "".join(lines)

    def write(self, path):
        files.write_text(path, self.to_toml())


def defaults(task):
    """All keys of a recipe for a task with their default values, as a dict.

    Args:
        task: name of the task, as in a recipe.
    """
    return Recipe().replaced({"task": task}, "The run").flat()


def _unknown(name, task, known):
    """The error for a key that is unknown to a recipe of this task."""
    for other in tasks.TASKS:
        if name in {f.name for f in dataclasses.fields(tasks.find(other))}:
            return RecipeError(
                f"`{name}` is a key of task {other}, but the task of this "
                f"recipe is {task.name()}."
            )
    return RecipeError(
        f"unknown key `{name[: keys.LONGEST]}`. Did you mean "
        f"`{keys.nearest(name, known)}`?"
    )
