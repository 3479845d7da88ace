"""Networks as the training command makes and compiles them."""

STEPS_PER_EPOCH = 391  # CIFAR's, in batches of 128


def compiled(notation, **recipe):
    """A network for images of 32 x 32, ready for `fit`.

    Args:
        notation: the paper's, as in a recipe's `model`.
        **recipe: further keys of a recipe; the rest is the paper's. The
            learning rate stays.
    """
    from keras_dropblock import assembly
    from keras_dropblock.recipes import Recipe

    recipe = Recipe(model=notation, learning_rate_drops=(), **recipe)
    with assembly.policy(recipe.dtype):
        model = assembly.build(recipe, (32, 32, 3), 10)
        assembly.compile_model(model, recipe, STEPS_PER_EPOCH)
    return model


def batch(size):
    """Random images and labels, these one-hot; float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.normal(size=(size, 32, 32, 3)).astype("float32")
    labels = np.eye(10, dtype="float32")[rng.integers(0, 10, size)]
    return images, labels
