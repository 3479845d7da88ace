"""Gradients with respect to the output of a layer, on each backend."""

import keras

from keras_dropblock.analysis import interception


def output_and_gradient(model, images, layer, total):
    """The output of a layer, and the gradient with respect to this output.

    Args:
        model: `keras.Model`.
        images: the inputs of the model.
        layer: a layer of the model with an output of 4 axes. If it is called
            several times, its last call counts.
        total: function from the model's outputs to a scalar tensor, whose
            gradient is computed.

    Returns:
        Two float32 NumPy arrays of the same shape.

    Raises:
        ValueError: if the output does not have 4 axes, or does not influence
            the scalar (on JAX, the gradient is 0 instead).
    """
    ways = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
    backend = keras.backend.backend()
    if backend not in ways:
        raise ValueError(
            "Grad-CAM needs gradients: the backend must be one of "
            f"{', '.join(ways)}. Received: {backend}."
        )
    found = ways[backend](model, images, layer, total)
    return _as_arrays(layer, *found)


def _on_tensorflow(model, images, layer, total):
    import tensorflow as tf

    kept = None

    def watch(_, output):
        nonlocal kept
        kept = output
        tape.watch(output)
        return output

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        with interception.intercepted([layer], watch):
            result = total(model(images, training=False))
    return kept, None if kept is None else tape.gradient(result, kept)


def _on_torch(model, images, layer, total):
    import torch

    kept = None

    def watch(_, output):
        nonlocal kept
        kept = output.detach().requires_grad_()
        return kept

    with torch.enable_grad(), interception.intercepted([layer], watch):
        result = total(model(images, training=False))
    if kept is None or not result.requires_grad:
        return kept, None
    (gradient,) = torch.autograd.grad(result, kept, allow_unused=True)
    return kept.detach(), gradient


def _on_jax(model, images, layer, total):
    """A change that is added to the output has the gradient of the output."""
    import jax

    def run(change):
        kept = None

        def add(_, output):
            nonlocal kept
            kept = output
            return output + change

        with interception.intercepted([layer], add), keras.StatelessScope():
            result = total(model(images, training=False))
        return result, kept

    _, kept = jax.eval_shape(run, 0.0)
    if kept is None:
        return None, None
    zeros = jax.numpy.zeros(kept.shape, kept.dtype)
    gradient, kept = jax.grad(run, has_aux=True)(zeros)
    return kept, gradient


def _as_arrays(layer, features, gradient):
    """Check two tensors or None, and convert them to float32 arrays."""
    if features is None or gradient is None:
        raise ValueError(
            "`layer` must influence the score of the class. Received: "
            f"{layer.name}, which does not."
        )
    if len(features.shape) != 4:
        raise ValueError(
            "`layer` must have an output with 4 axes. Received: "
            f"{layer.name}, with outputs of shape {tuple(features.shape)}."
        )
    return tuple(
        keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
        for x in (features, gradient)
    )
