"""Networks, built and compiled as by the training command."""

STEPS_PER_EPOCH = 390  # CIFAR in batches of 128; the last one is left out


def compiled(notation, **recipe):
    """A compiled network for images of 32 x 32 pixels.

    The learning rate is constant.

    Args:
        notation: name of the network, as in the key `model` of a recipe.
        **recipe: further keys of a recipe. Missing keys have their defaults.
    """
    from keras_dropblock import models
    from keras_dropblock.training import compilation
    from keras_dropblock.training.recipe import Recipe

    recipe = Recipe(model=notation, learning_rate_drops=(), **recipe)
    with compilation.policy(recipe.dtype):
        model = models.from_notation(notation, **recipe.network_options)
        compilation.compile_model(model, recipe, STEPS_PER_EPOCH)
    return model


def batch(size):
    """Random float32 images and one-hot float32 labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, 32, 32, 3)).astype("float32")
    labels = np.eye(10, dtype="float32")[rng.integers(0, 10, size)]
    return images, labels
