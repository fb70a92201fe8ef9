"""Which leaves moved between two trees, and a check for your own tests: does a training step move what it should?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainability.masks import _check_mask, _check_structure, _dtype, _is_deleted, _is_key, _rebuild, path_of

PyTree = Any
_MOST_PATHS = 10  # that a message lists


def moved(before: PyTree, after: PyTree) -> PyTree:
    """Which leaves changed between two trees, compared bit for bit.

    The bytes are compared. So a ``-0.0`` that became ``0.0`` has moved. A NaN or a random key has moved only if
    its bytes changed. A leaf whose shape or dtype changed has moved, too.

    Args:
      before: a pytree of arrays of any shapes and dtypes, or of Python numbers.
      after: a pytree with the same structure.

    Returns:
      A pytree with that structure that has, like a mask, a Python bool for each leaf. It is True if the leaf moved.

    Raises:
      ValueError: the trees differ in structure (the message names the first place); or an array was donated or deleted,
        so there is nothing left to compare.
      TypeError: a leaf is neither an array nor a number, or it is traced; or a container changes the bools that are put
        into it.

    >>> before = {"a": jnp.array([1.0, jnp.nan]), "b": jnp.array(0.0)}
    >>> moved(before, {"a": jnp.array([1.0, jnp.nan]), "b": jnp.array(-0.0)})
    {'a': False, 'b': True}
    """
    _check_structure(before, after, ("the tree before", "the tree after"))
    pairs, structure = jax.tree_util.tree_flatten_with_path(before)
    flags = [
        leaf is not other and _bits(keys, leaf, "before") != _bits(keys, other, "after")
        for (keys, leaf), other in zip(pairs, jax.tree.leaves(after), strict=True)
    ]
    return _rebuild(structure, flags, "bools in place of the leaves")


def _bits(keys: tuple[Any, ...], leaf: Any, when: str) -> tuple[Any, ...]:
    """What is compared of a leaf: its dtype, shape and bytes."""
    dtype = leaf.dtype if hasattr(leaf, "dtype") else _dtype(path_of(keys), leaf)
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError(
            f"{path_of(keys) or 'the leaf'} is traced, so its bytes are not known. Call moved outside the jitted "
            f"function."
        )
    if _is_deleted(leaf):
        raise ValueError(
            f"{path_of(keys) or 'the leaf'} of the tree {when} was donated or deleted, so its values are gone. Make a "
            f"copy before that: jax.tree.map(jnp.copy, params)."
        )
    if _is_key(dtype):
        leaf = jax.random.key_data(leaf)
    known = np.asarray(leaf) if hasattr(leaf, "dtype") else np.asarray(leaf, dtype)
    return dtype, known.shape, known.tobytes()


def check_step(
    step: Callable[..., tuple[Any, ...]],
    params: PyTree,
    trainable: PyTree,
    state: PyTree,
    *args: Any,
    steps: int = 3,
) -> None:
    """Run a training step a few times, and raise an error if a fixed leaf moved or a trainable one did not.

    Call it in your own tests. One step is not enough: in the first step of a warm-up the learning rate is zero, and
    nothing moves. Run as many steps as your schedule needs to reach a rate that is not zero, and at least as many as
    ``optax.MultiSteps`` accumulates. In low precision it may take many steps until a small weight decay changes a
    parameter, so test in float32, or with a larger decay.

    Args:
      step: your training step, jitted or not. ``step(params, state, *args)`` returns a tuple of the new parameters, the
        new state, and anything else.
      params: the parameters, a pytree of arrays or Python numbers. The step gets a copy, so it may donate them.
      trainable: a static mask of what the step should train.
      state: what the step carries along with the parameters, such as the optimizer's state. It is copied, too.
      *args: further arguments of each step, such as a batch.
      steps: how many steps to run, at least 1.

    Raises:
      AssertionError: after all steps, a fixed leaf has changed, or a trainable leaf is bit for bit what it was. The
        message lists the paths of both.
      ValueError: ``params`` differs in structure from the mask, or from the parameters that the step returns; nothing
        trains; ``steps`` is not a positive integer.
      TypeError: the mask is not static, or the step does not return a tuple of two or more.

    >>> def step(params, velocity):  # momentum: the gradient of a is zero, but its velocity may not be
    ...     gradient = {"a": 0.0, "b": 1.0}
    ...     velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, gradient)
    ...     return jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity), velocity
    >>> params, mask = {"a": 1.0, "b": 1.0}, {"a": False, "b": True}
    >>> check_step(step, params, mask, {"a": 0.0, "b": 0.0})
    >>> check_step(step, params, mask, {"a": 1.0, "b": 0.0})
    Traceback (most recent call last):
    ...
    AssertionError: after 3 steps fixed leaves have moved: a.
    """
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be a positive integer, not {steps!r}.")
    _check_mask(params, trainable)
    if not any(jax.tree.leaves(trainable)):
        raise ValueError("nothing trains: every leaf of the mask is False, or there are no parameters.")
    now, state = jax.tree.map(_copied, (params, state))
    for _ in range(steps):
        result = step(now, state, *args)
        if not isinstance(result, tuple) or len(result) < 2:
            raise TypeError(f"the step must return a tuple (params, state, ...), not {type(result)}.")
        now, state = result[:2]
    pairs = zip(jax.tree.leaves_with_path(trainable), jax.tree.leaves(moved(params, now)), strict=True)
    flags = [(path_of(keys) or "the parameter", train, has_moved) for (keys, train), has_moved in pairs]
    fixed = [path for path, train, has_moved in flags if has_moved and not train]
    stuck = [path for path, train, has_moved in flags if train and not has_moved]
    faults = [f"fixed leaves have moved: {_some(fixed)}"] if fixed else []
    faults += [f"trainable leaves have not moved: {_some(stuck)}"] if stuck else []
    if faults:
        raise AssertionError(f"after {steps} step{'s' * (steps > 1)} {'; '.join(faults)}.")


def _copied(leaf: Any) -> Any:
    """A copy that a step may donate. Only arrays are copied: a state may contain other objects."""
    return jnp.copy(leaf) if isinstance(leaf, jax.Array) else leaf


def _some(paths: list[str]) -> str:
    """The first few paths, and how many more there are."""
    more = f" and {len(paths) - _MOST_PATHS} more" if len(paths) > _MOST_PATHS else ""
    return ", ".join(paths[:_MOST_PATHS]) + more
