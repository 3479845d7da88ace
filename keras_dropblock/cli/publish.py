"""keras-dropblock-publish: turn finished runs into a published model.

Writes the card models/NAME/, the weights, the registry's entry, the tables of
the models and the head of the recipe, all in a checkout. Refuses runs that are
not done, were trained with uncommitted changes, or differ in more than the
seed.
"""

from absl import flags

from keras_dropblock import cli

_RUNS = flags.DEFINE_multi_string(
    "run",
    [],
    "Work directory of a run; repeated for more seeds. The first's weights are "
    "published.",
)
_NAME = flags.DEFINE_string(
    "name", None, "Of the model; None: <model>_<dataset>_<method>."
)
_CHECKOUT = flags.DEFINE_string(
    "checkout", ".", "Root of the checkout to write to."
)
_IN_WHEEL = flags.DEFINE_bool(
    "in_wheel", False, "Whether the weights travel in the wheel: up to 2 MB."
)
_URL = flags.DEFINE_string(
    "url", None, "From where the weights will be fetched, if need be."
)
_REFRESH = flags.DEFINE_bool(
    "refresh", False, "Publish nothing; make registry and tables anew."
)


def publish():
    from keras_dropblock import publishing

    if _REFRESH.value:
        publishing.refresh(_CHECKOUT.value)
        return
    folder = publishing.publish(
        _RUNS.value,
        _CHECKOUT.value,
        name=_NAME.value,
        in_wheel=_IN_WHEEL.value,
        url=_URL.value,
    )
    print(
        f"Card: {folder / 'README.md'}. Read it, run the tests of "
        "tests/test_published.py, and commit it with all that git status shows."
    )


def main():
    cli.run(publish)
