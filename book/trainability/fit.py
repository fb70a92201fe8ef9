"""Training what trains: Optax in a scan, or scipy's L-BFGS-B, each over the trainable half alone.

The fixed half is an argument of what is compiled, so it is never baked in. Everything is compiled anew in each call: a
loss may use what it likes from outside, and sees it as it is at the time of the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from trainability.entries import entry_names
from trainability.masks import _can_train, _cannot_train, _check_state, _dtype, combine, partition, path_of

PyTree = Any


class Fit(NamedTuple):
    """What a training run returns.

    Attributes:
      params: the parameters, a pytree like those given. Fixed leaves are the very objects that were given.
      losses: the loss before each step (:func:`fit`, shape ``(steps,)``, the loss's dtype), or at the start and after
        each iteration (:func:`fit_lbfgs`, shape ``(iterations + 1,)``, float64).
      state: the state of the optimizer over the half that trains (:func:`fit`), or scipy's ``OptimizeResult``
        (:func:`fit_lbfgs`), whose ``x`` are the numbers that train and whose ``names`` say which is which.
    """

    params: PyTree
    losses: Any
    state: Any


def _check_number(name: str, number: Any) -> None:
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{name} is a whole number from 1 on, not {number!r}.")


def _halves(params: PyTree, trainable: PyTree) -> tuple[PyTree, PyTree]:
    """The half that trains, as arrays of its own, and the fixed half as it is."""

    def as_array(keys, leaf):
        path = path_of(keys)
        if not _can_train(path, leaf):
            raise _cannot_train(path, leaf)
        return jnp.array(leaf, _dtype(path, leaf))

    train, fixed = partition(params, trainable)
    train = jax.tree.map_with_path(as_array, train)
    if not jax.tree.leaves(train):
        raise ValueError("nothing trains: every leaf of the mask is False, or there are no parameters.")
    return train, fixed


def _check_loss(loss: Callable[..., Any], params: PyTree, *batch: PyTree) -> float:
    """The loss at the start; an error if it is no finite number."""
    shape = jax.eval_shape(loss, params, *batch)
    if not isinstance(shape, jax.ShapeDtypeStruct) or shape.shape != ():
        found = f"has the shape {shape.shape}" if isinstance(shape, jax.ShapeDtypeStruct) else f"is {type(shape)}"
        raise ValueError(f"the loss must be one number, of shape (), and it {found}. Return its mean or its sum.")
    if not jnp.issubdtype(shape.dtype, jnp.floating):
        raise TypeError(f"the loss must be a floating point number, and it is {shape.dtype}.")
    start = float(jax.jit(loss)(params, *batch))
    if not np.isfinite(start):
        raise ValueError(f"the loss is {start} at the start. Look at it there before you train: loss(params).")
    return start


def fit(
    loss: Callable[..., Any],
    params: PyTree,
    trainable: PyTree,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    state: PyTree | None = None,
    batches: PyTree | None = None,
    progress: Callable[[int, float], Any] | None = None,
) -> Fit:
    """Train with an Optax optimizer that sees only what trains.

    Args:
      loss: a function of ``params``, or of ``params`` and a batch if ``batches`` is given, that returns a
        floating point number of shape ``()``.
      params: a pytree of arrays or numbers. It is not changed, and none of its arrays is given away (donated).
      trainable: a static mask.
      optimizer: an Optax optimizer. It is given the half that trains, with None in place of what is fixed, and whatever
        else it may ask for: value, gradient and function, as ``optax.lbfgs`` does.
      steps: how many steps, at least 1.
      state: the state to go on from, of an earlier ``Fit`` or of :func:`~trainability.masks.move_state`. By default, a
        fresh one.
      batches: a pytree of arrays with a leading axis of length ``steps``; step ``i`` is given the slices ``[i]``.
      progress: called after each step with its number, from 1 on, and the loss before it. By default nothing is said.

    Returns:
      A :class:`Fit`. ``losses[i]`` is the loss before step ``i + 1``, on its batch if there are any, so the first is
      that of ``params``. A loss that becomes NaN on the way raises nothing: look at the last one.

    Raises:
      ValueError: nothing trains; the mask, or the state, differs in structure or shape from what it is for; ``steps``
        or the leading axis of a batch is wrong; the loss is not of shape ``()``, or not finite at the start.
      TypeError: the mask is not static; a leaf that should train has no gradient; the loss is no floating point number.

    >>> def loss(params):
    ...     return (params["a"] * params["b"] - 3) ** 2
    >>> params = {"a": jnp.array(1.0), "b": jnp.array(1.0)}
    >>> fitted = fit(loss, params, {"a": False, "b": True}, optax.sgd(0.1), 30)
    >>> print(fitted.params["a"], round(float(fitted.params["b"]), 2))
    1.0 3.0
    """
    _check_number("steps", steps)
    for keys, leaf in jax.tree.leaves_with_path(batches):
        if np.shape(leaf)[:1] != (steps,):
            raise ValueError(
                f"each array of batches has a leading axis of {steps}, one slice for each step, and "
                f"{path_of(keys) or 'the array'} has the shape {np.shape(leaf)}."
            )
    train, fixed = _halves(params, trainable)
    if state is None:
        state = optimizer.init(train)
    else:
        expected = jax.eval_shape(optimizer.init, train)
        _check_state(expected, state, ("the state for this mask", "the one given"))
    with_batch = () if batches is None else (jax.tree.map(lambda leaf: leaf[0], batches),)
    _check_loss(loss, combine(train, fixed), *with_batch)
    update = optax.with_extra_args_support(optimizer).update

    @jax.jit
    def run(train, fixed, state, batches):
        def step(carry, number_and_batch):
            train, state = carry
            number, batch = number_and_batch
            arguments = () if batches is None else (batch,)

            def loss_of(train):
                return loss(combine(train, fixed), *arguments)

            value, gradient = jax.value_and_grad(loss_of)(train)
            gradient = jax.tree.map(jnp.conj, gradient)  # JAX gives the conjugate of the way up, for complex numbers
            updates, state = update(gradient, state, train, value=value, grad=gradient, value_fn=loss_of)
            if progress is not None:
                jax.debug.callback(lambda *said: progress(int(said[0]), float(said[1])), number, value, ordered=True)
            return (optax.apply_updates(train, updates), state), value

        return jax.lax.scan(step, (train, state), (jnp.arange(1, steps + 1), batches))

    (train, state), losses = run(train, fixed, state, batches)
    jax.effects_barrier()  # every call of progress has been made
    return Fit(combine(train, fixed), losses, state)


def fit_lbfgs(
    loss: Callable[[PyTree], Any],
    params: PyTree,
    trainable: PyTree,
    *,
    maxiter: int = 1000,
    progress: Callable[[int, float], Any] | None = None,
) -> Fit:
    """Minimise with scipy's L-BFGS-B, over a vector of only those numbers that train.

    Args:
      loss: a function of ``params`` that returns a floating point number of shape ``()``.
      params: a pytree of arrays or numbers. Use 64-bit floats where you can: the line search compares losses that
        differ little.
      trainable: a static mask.
      maxiter: the largest number of iterations, at least 1.
      progress: called after each iteration with its number, from 1 on, and the loss there. By default nothing is said.

    Returns:
      A :class:`Fit`. ``losses[0]`` is the loss at the start. ``state`` is scipy's ``OptimizeResult``: look at
      ``state.success`` and ``state.message``; ``state.names`` has the name of each number in ``state.x``.

    Raises:
      ValueError: nothing trains; the mask and the parameters differ in structure; ``maxiter`` is wrong; the loss is not
        of shape ``()``, or not finite at the start.
      TypeError: the mask is not static; a leaf that should train has no gradient or is complex; the loss is no floating
        point number.

    After ``gpflow.optimizers.Scipy``, which also gives scipy only the variables that train.

    >>> def loss(params):
    ...     return (1 - params["x"]) ** 2 + 100 * (params["y"] - params["x"] ** 2) ** 2
    >>> fitted = fit_lbfgs(loss, {"x": -1.2, "y": 1.0}, {"x": False, "y": True})
    >>> print(fitted.params["x"], round(float(fitted.params["y"]), 2), fitted.state.names)
    -1.2 1.44 ['y']
    """
    import scipy.optimize  # half a second, for those alone who call this

    _check_number("maxiter", maxiter)
    train, fixed = _halves(params, trainable)
    for keys, leaf in jax.tree.leaves_with_path(train):
        if jnp.iscomplexobj(leaf):
            raise TypeError(f"{path_of(keys) or 'the parameter'} is {leaf.dtype}, and scipy's numbers are real.")
    losses = [_check_loss(loss, combine(train, fixed))]
    start, as_tree = ravel_pytree(train)

    @jax.jit
    def value_and_gradient(vector, fixed):
        return jax.value_and_grad(lambda vector: loss(combine(as_tree(vector), fixed)))(vector)

    def for_scipy(vector):
        value, gradient = value_and_gradient(jnp.asarray(vector, start.dtype), fixed)
        return float(value), np.asarray(gradient, np.float64)

    def after_iteration(intermediate_result):  # scipy looks at the argument's name
        losses.append(float(intermediate_result.fun))
        if progress is not None:
            progress(len(losses) - 1, losses[-1])

    result = scipy.optimize.minimize(
        for_scipy,
        np.asarray(start, np.float64),
        jac=True,
        method="L-BFGS-B",
        callback=after_iteration,
        options={"maxiter": maxiter},
    )
    result.names = entry_names(train)
    fitted = as_tree(jnp.asarray(result.x, start.dtype))
    return Fit(combine(fitted, fixed), np.array(losses), result)
