"""Settings that apply to layers at inference while a context is active.

The settings are stored with the contexts, not with the layers. A context
that ends removes only its own settings, even if other contexts began or ended
in the meantime.

A compiled function keeps the settings that its layers read when it was
traced. A variable could change them later, but then every inference graph
would contain the random operations of these layers. Compiled functions are
therefore traced again when the settings change:

- JAX has a user context, which is part of the key of its caches. Functions
  that were traced before the context are reused after it. New functions would
  not help: JAX treats two `jit` of the same method as equal while the old one
  exists.
- On TensorFlow, every model that contains one of the layers gets new
  functions. Keras has no list of these models, which may be nested or
  subclassed, so they are found through Python's garbage collector.
- torch runs eagerly, and `torch.compile` recompiles when a value that it read
  has changed.
"""

import contextlib
import functools
import gc
import weakref

import keras

# One dict from layer to setting for each active context, innermost last.
_contexts = []


def current(layer):
    """The setting of a layer in the innermost context that has one, or None."""
    for settings in reversed(_contexts):
        if layer in settings:
            return settings[layer]
    return None


@contextlib.contextmanager
def override(settings):
    """A context in which the given settings apply to some layers.

    Args:
        settings: dict from layer to its setting, a hashable value. The layer
            reads it with `current` when it is called.
    """
    replaced = {}
    _contexts.append(settings)
    try:
        replaced = _retrace(settings)
        yield
    finally:
        # Search by identity: contexts may end in any order.
        place = [x is settings for x in _contexts].index(True)
        del _contexts[place]
        _retrace(settings, replaced)


def _retrace(layers, replaced=None):
    """Make compiled functions read the settings of these layers again.

    Args:
        layers: container of layers.
        replaced: at the end of a context, the value that this function
            returned at its beginning.

    Returns:
        Value to pass as `replaced` at the end of the context.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _replace_functions(layers, replaced or {})
    if backend == "jax":
        _change_key_of_jax()
    return {}


def _replace_functions(layers, earlier):
    """Give models that contain one of the layers new compiled functions.

    The new functions are traced when they are called. They are created here,
    not set to None, because a `fit` or `evaluate` that is running calls them
    in its next step.

    Args:
        layers: container of layers.
        earlier: at the end of a context, the value that this function
            returned at its beginning, otherwise {}. If the model still has
            the function that was made at the beginning, it gets the old
            function back, which need not be traced again.

    Returns:
        Dict from (model, name of the function) to the functions (old, new).
    """
    replaced = {}
    for model, name in _compiled_functions(layers):
        function = getattr(model, name)
        old, new = earlier.get((model, name), (None, None))
        setattr(model, name, old if function is new else None)
        getattr(model, f"make_{name}")()  # no effect if the old one is back
        replaced[model, name] = function, getattr(model, name)
    return replaced


def _compiled_functions(layers):
    """(model, name) of each compiled function that may call these layers.

    Train functions are included: they may call a frozen model with
    `training=False`.
    """
    models = [
        thing
        for thing in gc.get_objects()
        # Not `isinstance`: it would also evaluate the targets of proxies.
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
    """Put the current settings into the key of JAX's caches."""
    merged = {}
    for settings in _contexts:
        merged |= settings
    # Weak references, because JAX keeps its keys. Weak references to
    # the same layer are equal.
    key = {(weakref.ref(layer), setting) for layer, setting in merged.items()}
    _key_of_jax.close()
    if key:
        _key_of_jax.enter_context(_context_of_jax()(frozenset(key)))


@functools.cache
def _context_of_jax():
    import jax

    return jax.make_user_context()
