"""Settings of layers that hold at inference for as long as a context lasts.

The settings belong to the contexts, not to the layers: a context that ends
takes its own away, whatever began or ended meanwhile.

A compiled function keeps what its layers read when it was traced. A variable
would reach it, but then every graph for inference would hold the random
operations of layers that may drop. Functions are therefore traced anew under
other settings:

- JAX has a context for this purpose, which is part of the key of its caches.
  What was traced before is used again after. New functions would not do: as
  long as the old ones live, JAX takes two `jit` of one method for the same.
- On TensorFlow every model that contains one of the layers gets new
  functions. Keras keeps no list of these models, which may lie inside of each
  other or be subclassed: Python's garbage collector knows them.
- torch runs eagerly, and `torch.compile` guards what it read.
"""

import contextlib
import functools
import gc
import weakref

import keras

# One dict from layer to setting for each context; the last one precedes.
_contexts = []


def current(layer):
    """The setting of a layer in the innermost context that has one, or None."""
    for settings in reversed(_contexts):
        if layer in settings:
            return settings[layer]
    return None


@contextlib.contextmanager
def override(settings):
    """Let settings hold for some layers until the context ends.

    Args:
        settings: dict from layer to its setting, a hashable value, which the
            layer reads by `current` when it is called.
    """
    replaced = {}
    _contexts.append(settings)
    try:
        replaced = _trace_anew(settings)
        yield
    finally:
        # By identity, because contexts need not end in the order they began.
        place = [x is settings for x in _contexts].index(True)
        del _contexts[place]
        _trace_anew(settings, replaced)


def _trace_anew(layers, replaced=None):
    """Let compiled functions read the settings of these layers again.

    Args:
        layers: container of layers.
        replaced: what was returned when the context began; at its end.

    Returns:
        What to give back at the end of the context.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _replace_functions(layers, replaced or {})
    if backend == "jax":
        _change_key_of_jax()
    return {}


def _replace_functions(layers, earlier):
    """Give models that contain one of the layers new compiled functions.

    They are traced when they are called. Never None: a `fit` or `evaluate`
    that is under way calls the next one.

    Args:
        layers: container of layers.
        earlier: what this function returned when the context began, or {}. A
            function that it made, and that is still there, is replaced by the
            one from before the context, which need not be traced again.

    Returns:
        Dict from (model, name of the function) to the functions (old, new).
    """
    replaced = {}
    for model, name in _compiled_functions(layers):
        function = getattr(model, name)
        old, new = earlier.get((model, name), (None, None))
        setattr(model, name, old if function is new else None)
        getattr(model, f"make_{name}")()  # does nothing to the old one
        replaced[model, name] = function, getattr(model, name)
    return replaced


def _compiled_functions(layers):
    """All (model, name) of functions that may have one of the layers inside.

    The train function too: it may call a frozen model with training=False.
    """
    models = [
        thing
        for thing in gc.get_objects()
        # Not `isinstance`, which asks proxies for the class they stand for.
        if issubclass(type(thing), keras.Model)
    ]
    return [
        (model, name)
        for model in models
        for name in ("train_function", "test_function", "predict_function")
        if getattr(model, name, None) is not None
        and any(layer in layers for layer in model._flatten_layers())
    ]


_key_of_jax = contextlib.ExitStack()


def _change_key_of_jax():
    """Tell JAX which settings hold now."""
    merged = {}
    for settings in _contexts:
        merged |= settings
    # Weak, because JAX keeps its keys; references to one layer are equal.
    key = {(weakref.ref(layer), setting) for layer, setting in merged.items()}
    _key_of_jax.close()
    if key:
        _key_of_jax.enter_context(_context_of_jax()(frozenset(key)))


@functools.cache
def _context_of_jax():
    import jax

    return jax.make_user_context()
