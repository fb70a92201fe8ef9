"""Training loops for the trainable part of the parameters, with Optax or with scipy's L-BFGS-B.

The fixed part and the data are arguments of the compiled program, so they are never baked in. Each call traces the loss
and the optimizer again, so the loss uses the current values of the variables that it closes over. Compiled programs are
cached, and a cached program is used only if JAX lowers the new trace to exactly the same program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from trainability.entries import entry_names
from trainability.masks import (
    _can_train,
    _cannot_train,
    _check_state,
    _check_structure,
    _dtype,
    _is_hole,
    combine,
    partition,
    path_of,
)

PyTree = Any


class Fit(NamedTuple):
    """What :func:`fit` returns.

    Attributes:
      params: the parameters after training, a pytree like ``params``. Fixed leaves are the same objects as before.
      losses: the loss before each step, of shape ``(steps,)`` and with the dtype of the loss. If ``progress`` stopped
        the training, there are fewer.
      state: the state of the optimizer for the trainable part.
      aux: with ``has_aux``, the second value that the loss returned before each step, with a leading axis as long as
        ``losses``; otherwise None.
    """

    params: PyTree
    losses: jax.Array
    state: PyTree
    aux: PyTree = None


class LbfgsFit(NamedTuple):
    """What :func:`fit_lbfgs` returns.

    Attributes:
      params: the parameters after training, a pytree like ``params``. Fixed leaves are the same objects as before.
      losses: the loss at the start and after each iteration, of shape ``(iterations + 1,)`` and dtype float64.
      result: scipy's ``OptimizeResult``. Check ``result.success`` and ``result.message``. ``result.x`` holds the
        trained numbers, and ``result.names`` their names.
    """

    params: PyTree
    losses: np.ndarray
    result: Any


# ---- checks ----------------------------------------------------------------------------------------------------------


def _check_number(name: str, number: Any) -> None:
    if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or number < 1:
        raise ValueError(f"{name} must be a positive integer, not {number!r}.")


def _check_args(args: Any) -> None:
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple, such as (data,), not a {type(args).__name__}.")


def _parts(params: PyTree, trainable: PyTree) -> tuple[PyTree, PyTree]:
    """The trainable part, converted to arrays, and the fixed part, unchanged."""

    def as_array(keys, leaf):
        path = path_of(keys)
        if not _can_train(path, leaf):
            error = _cannot_train(path, leaf)
            if jnp.issubdtype(_dtype(path, leaf), jnp.integer):
                raise TypeError(f"{error} To train it, start from a floating point number, such as 1.0 instead of 1.")
            raise error
        return jnp.asarray(leaf)  # a Python number stays weakly typed, as in a call of the loss

    train, fixed = partition(params, trainable)
    train = jax.tree.map_with_path(as_array, train)
    if not jax.tree.leaves(train):
        raise ValueError("nothing trains: every leaf of the mask is False, or there are no parameters.")
    return train, fixed


def _check_loss(loss: Callable[..., Any], has_aux: bool, params: PyTree, *rest: PyTree) -> tuple[Any, PyTree]:
    """Shapes and dtypes of the loss and of the aux; an error if the loss is not one floating point number."""
    found = jax.eval_shape(lambda *given: loss(*given), params, *rest)  # new: JAX caches by function
    value, aux = found, None
    if has_aux:
        if not isinstance(found, tuple) or len(found) != 2:
            raise ValueError(f"with has_aux=True the loss must return a pair (loss, aux), not {type(found)}.")
        value, aux = found
    if not isinstance(value, jax.ShapeDtypeStruct) or value.shape != ():
        was = f"has the shape {value.shape}" if isinstance(value, jax.ShapeDtypeStruct) else f"is {type(value)}"
        way_out = "Return its mean or its sum."
        if isinstance(found, tuple) and not has_aux:
            way_out = "If it also returns something else, use fit(…, has_aux=True)."
        raise ValueError(f"the loss must be a scalar, of shape (), but it {was}. {way_out}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"the loss must be a floating point number, but it is {value.dtype}.")
    return value, aux


def _check_start(value: float) -> None:
    if not np.isfinite(value):
        raise ValueError(f"the loss is {value} at the start. Evaluate loss(params) before you train.")


def _is_traced(*trees: PyTree) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


# ---- cached programs -------------------------------------------------------------------------------------------------

_KEPT: dict[bytes, Callable[..., Any]] = {}
_MOST_KEPT = 32


class _Program:
    """A function, traced now for these arguments. Call it with them, or with others of the same types.

    ``jax.jit`` caches the trace of a function, and cannot know that a variable has changed that the function closes
    over. This class traces each time, and turns the arrays that are closed over into arguments. JAX lowers the trace to
    a text, which is all that XLA compiles. A compiled program is used again if its text is the same.
    """

    def __init__(self, function: Callable[..., Any], *arguments: PyTree):
        # make_jaxpr, too, caches by function, and the lambda is a new one.
        closed, shape = jax.make_jaxpr(lambda *given: function(*given), return_shape=True)(*arguments)
        self.structure: Any = jax.tree.structure(shape)
        self.outside = closed.consts
        self.is_traced = _is_traced(self.outside)  # then it is part of another program, and must not be compiled
        if self.is_traced:
            return
        jaxpr = closed.jaxpr
        # Unused arguments are kept: the text would not show which of two arguments of one type was removed.
        compiled: Any = jax.jit(lambda outside, leaves: jax.core.eval_jaxpr(jaxpr, outside, *leaves), keep_unused=True)
        text = compiled.lower(self.outside, jax.tree.leaves(arguments)).as_text()
        # The text identifies a Python callback by a number only, so a program with a callback is not cached.
        if not closed.effects and "callback" not in text and "host_transfer" not in text:
            types = [variable.aval for variable in (*jaxpr.constvars, *jaxpr.invars)], closed.out_avals
            key = hashlib.sha256(f"{types}{text}".encode()).digest()  # types: random keys, weakly typed numbers
            compiled = _KEPT.pop(key, compiled)
            _KEPT[key] = compiled  # the most recently used is removed last
            while len(_KEPT) > _MOST_KEPT:
                del _KEPT[next(iter(_KEPT))]
        self.compiled = compiled

    def __call__(self, *arguments: PyTree) -> PyTree:
        return self.structure.unflatten(self.compiled(self.outside, jax.tree.leaves(arguments)))


# ---- Optax -----------------------------------------------------------------------------------------------------------


def fit(
    loss: Callable[..., Any],
    params: PyTree,
    trainable: PyTree,
    optimizer: optax.GradientTransformation,
    steps: int,
    *,
    args: tuple[Any, ...] = (),
    state: PyTree | None = None,
    batches: PyTree | None = None,
    has_aux: bool = False,
    progress: Callable[[int, float], Any] | None = None,
    chunk: int = 100,
) -> Fit:
    """Train with an Optax optimizer that gets only the trainable part of the parameters.

    Args:
      loss: a function that returns a floating point number of shape ``()``. It is called as ``loss(params, *args)``,
        or as ``loss(params, *args, batch)`` if there are ``batches``.
      params: a pytree of arrays or numbers. It is not changed, and none of its arrays is donated.
      trainable: a static mask.
      optimizer: an Optax optimizer. It gets the trainable part, with None in place of fixed leaves, and the keyword
        arguments ``value``, ``grad`` and ``value_fn`` if it takes them, as ``optax.lbfgs`` does.
      steps: how many steps, at least 1.
      args: a tuple of pytrees of arrays or numbers, such as the data. They are arguments of the compiled program, not
        part of it.
      state: the optimizer state to continue from, of an earlier ``Fit`` or from
        :func:`~trainability.move_state`. By default, a fresh one.
      batches: a pytree of arrays with a leading axis of length ``steps``. Step ``i + 1`` uses the slices ``[i]``.
      has_aux: whether the loss returns a pair: its value and a pytree of arrays.
      progress: a function that is called for each step with the number of the step, counted from 1, and the loss before
        it. The calls are made from Python, after each chunk of steps. If it raises ``StopIteration``, training ends
        with that step, as in ``scipy.optimize.minimize``. Any other exception reaches you unchanged.
      chunk: how many steps run before ``progress`` is called for them. The first step runs alone. The result does not
        depend on ``chunk``. Choose a small number if your steps are slow. After ``StopIteration``, the last chunk is
        run again up to the step where training ends.

    Returns:
      A :class:`Fit`. ``losses[i]`` is the loss before step ``i + 1``, on its batch if there are batches, so
      ``losses[0]`` is the loss of ``params``. A loss that becomes NaN during training raises no error: check
      ``losses[-1]``.

    Raises:
      ValueError: nothing trains; the mask and ``params`` differ in structure; the state does not belong to this mask;
        ``steps``, ``chunk`` or the leading axis of a batch is wrong; the loss does not have the shape ``()``, or is not
        finite at the start; with ``has_aux``, the loss does not return a pair; ``progress`` is given under a
        transformation of JAX.
      TypeError: the mask is not static; a leaf that should train has no gradient; the loss is not a floating point
        number; ``args`` is not a tuple.

    The loss and the optimizer are traced in each call, so the values that they close over are the current ones. The
    exception is a loss that is jitted or calls a jitted function, for which JAX may use an earlier trace. Then ``fit``
    gives what ``loss(params)`` gives, which may be stale: pass values that change as arguments.

    A second call with the same program compiles nothing. The number of steps is not part of the program, unless there
    are ``batches``. A program that calls back into Python (``jax.debug.print``, ``jax.pure_callback``) is compiled in
    each call.

    ``fit`` works under ``jax.vmap``, ``jax.jit``, ``jax.lax.map`` and ``jax.grad``, where it checks only structure,
    shapes and dtypes. To train from many starting points at once, use
    ``jax.vmap(lambda params: fit(loss, params, …).params)(starts)``.

    >>> def loss(params, target):
    ...     return (params["a"] * params["b"] - target) ** 2
    >>> params = {"a": jnp.array(1.0), "b": jnp.array(1.0)}
    >>> fitted = fit(loss, params, {"a": False, "b": True}, optax.sgd(0.1), 30, args=(3.0,))
    >>> print(fitted.params["a"], round(float(fitted.params["b"]), 2))
    1.0 3.0
    """
    _check_number("steps", steps)
    _check_number("chunk", chunk)
    _check_args(args)
    for keys, leaf in jax.tree.leaves_with_path(batches):
        if np.shape(leaf)[:1] != (steps,):
            raise ValueError(
                f"each array of batches must have a leading axis of {steps}, one slice for each step, but "
                f"{path_of(keys) or 'the array'} has the shape {np.shape(leaf)}."
            )
    train, fixed = _parts(params, trainable)
    if state is None:
        state = optimizer.init(train)
    else:
        expected = jax.eval_shape(lambda train: optimizer.init(train), train)
        _check_state(expected, state, ("the state for this mask", "the one given"))
    with_batch = () if batches is None else (jax.tree.map(lambda leaf: leaf[0], batches),)
    said = _check_loss(loss, has_aux, combine(train, fixed), *args, *with_batch)
    update = optax.with_extra_args_support(optimizer).update

    def one_step(train, state, number, fixed, args, batches):
        """Part and state after a step, and what the loss returned before it: its value, and the aux or None."""
        with_batch = () if batches is None else (jax.tree.map(lambda leaf: leaf[number], batches),)

        def value_and_aux(train):
            value = loss(combine(train, fixed), *args, *with_batch)
            return value if has_aux else (value, None)

        (value, aux), gradient = jax.value_and_grad(value_and_aux, has_aux=True)(train)
        gradient = jax.tree.map(jnp.conj, gradient)  # for complex numbers, JAX returns the conjugate of the ascent
        updates, state = update(
            gradient, state, train, value=value, grad=gradient, value_fn=lambda train: value_and_aux(train)[0]
        )
        return optax.apply_updates(train, updates), state, jax.tree.map(jnp.asarray, (value, aux))

    def first_step(train, state, start, count, *rest):
        train, state, now = one_step(train, state, 0, *rest)
        return train, state, jax.tree.map(lambda leaf: leaf[None], now)

    def steps_from(train, state, start, count, length, *rest):
        """Run `count` steps. What the loss returned at each is in the first `count` of `length` places."""

        def body(number, carry):
            train, state, record = carry
            train, state, now = one_step(train, state, number, *rest)
            return train, state, jax.tree.map(lambda all, leaf: all.at[number - start].set(leaf), record, now)

        record = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), said)
        return jax.lax.fori_loop(start, start + count, body, (train, state, record))

    def a_chunk(train, state, start, count, *rest):
        return steps_from(train, state, start, count, chunk, *rest)

    def all_steps(train, state, *rest):  # the number of steps is known, so jax.grad works
        if not weak:
            return steps_from(train, state, 0, steps, steps, *rest)
        train, state, first = first_step(train, state, 0, 1, *rest)
        if steps == 1:
            return train, state, first
        train, state, others = steps_from(train, state, 1, steps - 1, steps - 1, *rest)
        return train, state, jax.tree.map(lambda *parts: jnp.concatenate(parts), first, others)

    # Types cannot change in a loop, but a Python number is weakly typed before the first step and not after it. So the
    # first step is a program of its own, with the types that were given, as in a loop by hand: a jitted loss may have a
    # stale trace for one type and not for the other.
    weak = any(jax.typeof(leaf).weak_type for leaf in jax.tree.leaves(train))
    rest, program = jax.tree.map(jnp.asarray, (fixed, args, batches)), None  # to the device once, not for each chunk
    if not _is_traced(train, state, rest):
        program = _Program(first_step if weak else a_chunk, train, state, 0, 1, *rest)
    if program is None or program.is_traced:
        if progress is not None:
            raise ValueError(
                "progress is called from Python between steps, which does not work under a transformation such as "
                "jax.vmap or jax.jit. Leave it out there, and look at losses afterwards."
            )
        train, state, (losses, aux) = all_steps(train, state, *rest)
        return Fit(combine(train, fixed), losses, state, aux)

    losses, beside, done, stopped = [], [], 0, False
    while done < steps and not stopped:
        if weak and done == 1:
            program = _Program(a_chunk, train, state, done, 1, *rest)
        count, before = min(chunk, steps - done) if done else 1, (train, state)
        train, state, (values, aux) = program(*before, done, count, *rest)
        values = np.asarray(values)[:count]  # waits: several devices can hang if many steps are in flight
        if not done:
            _check_start(float(values[0]))
        told, stopped = _tell(progress, done, values)
        if told < count:
            train, state, _ = program(*before, done, told, *rest)
        losses.append(values[:told])
        beside.append(jax.tree.map(lambda leaf, told=told: leaf[:told], aux))
        done += told
    aux = jax.tree.map(lambda *parts: jnp.concatenate(parts), *beside)
    return Fit(combine(train, fixed), jax.device_put(np.concatenate(losses)), state, aux)


def _tell(progress: Callable[..., Any] | None, done: int, values: np.ndarray) -> tuple[int, bool]:
    """Call progress for each loss. Return how many steps to keep, and whether progress stopped the training."""
    if progress is None:
        return len(values), False
    for number, value in enumerate(values, start=1):
        try:
            progress(done + number, float(value))
        except StopIteration:
            return number, True
    return len(values), False


# ---- L-BFGS-B --------------------------------------------------------------------------------------------------------


def _bound(bound: PyTree, name: str, train: PyTree, default: float) -> np.ndarray:
    """One bound for each number that trains, in the order of ``ravel_pytree(train)``. None means ``default``."""
    if bound is None or isinstance(bound, (int, float)):
        bound = jax.tree.map(lambda leaf: bound, train, is_leaf=_is_hole)
    _check_structure(train, bound, ("the tree of parameters", f"the {name} bound"), _is_hole)

    def for_leaf(keys, leaf, limit):
        if leaf is None:
            return None
        limit = np.asarray(default if limit is None else limit, np.float64)
        if limit.shape not in ((), leaf.shape):
            place = path_of(keys) or "the top"
            raise ValueError(
                f"the {name} bound at {place} has the shape {limit.shape}, but the parameter has {leaf.shape}."
            )
        return np.broadcast_to(limit, leaf.shape).ravel()

    return np.concatenate(jax.tree.leaves(jax.tree.map_with_path(for_leaf, train, bound, is_leaf=_is_hole)))


def _bounds(bounds: tuple[PyTree, PyTree], train: PyTree, start: np.ndarray, names: list[str]) -> Any:
    import scipy.optimize

    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise TypeError(
            f"bounds must be a pair (low, high), not a {type(bounds).__name__}. Use None where there is no bound."
        )
    low, high = _bound(bounds[0], "lower", train, -np.inf), _bound(bounds[1], "upper", train, np.inf)
    for name, lowest, value, highest in zip(names, low, start, high, strict=True):
        if not lowest <= value <= highest:
            place = name or "the parameter"
            raise ValueError(f"{place} starts at {value:g}, outside its bounds {lowest:g} and {highest:g}.")
    return scipy.optimize.Bounds(low, high)


def fit_lbfgs(
    loss: Callable[..., Any],
    params: PyTree,
    trainable: PyTree,
    *,
    args: tuple[Any, ...] = (),
    maxiter: int = 1000,
    gtol: float | None = None,
    ftol: float | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    progress: Callable[[int, float], Any] | None = None,
) -> LbfgsFit:
    """Minimise a loss with scipy's L-BFGS-B, over a vector of the trainable numbers only.

    Use 64-bit floats if you can (``jax.enable_x64``), because the line search compares losses that differ little. In 32
    bits a loss has seven digits. The search may then need far more evaluations, stop at a larger gradient, or end with
    the message ``ABNORMAL``. A larger ``ftol``, such as 1e-6, stops it when no more progress is possible.

    Args:
      loss: a function that returns a floating point number of shape ``()``. It is called as ``loss(params, *args)``.
      params: a pytree of arrays or numbers. It is not changed.
      trainable: a static mask.
      args: a tuple of pytrees of arrays or numbers, such as the data. They are arguments of the compiled program, not
        part of it.
      maxiter: the largest number of iterations, at least 1.
      gtol: stop when no entry of the (projected) gradient is larger than this in absolute value. The default is
        scipy's, 1e-5.
      ftol: stop when an iteration lowers the loss by no more than ``ftol`` times the largest of 1 and the absolute
        values of the loss before and after it. The default is scipy's, 2.2e-9.
      bounds: a pair ``(low, high)``. Each is a number for all parameters, None for no bound, or a pytree with the
        structure of ``params`` whose leaves are numbers, arrays of the shape of the parameter, or None. Bounds of fixed
        leaves are ignored.
      progress: a function that is called after each iteration with its number, counted from 1, and the loss there. If
        it raises ``StopIteration``, the run ends there. Any other exception reaches you unchanged.

    Returns:
      A :class:`LbfgsFit`. ``losses[0]`` is the loss at the start. Check ``result.success`` and ``result.message``.

    Raises:
      ValueError: nothing trains; the mask, or a bound, and the parameters differ in structure or shape; a number starts
        outside its bounds; ``maxiter``, ``gtol`` or ``ftol`` is wrong; the loss does not have the shape ``()``, or is
        not finite at the start; the call is made under a transformation of JAX.
      TypeError: the mask is not static; a leaf that should train has no gradient or is complex; the loss is not a
        floating point number; ``args`` is not a tuple; ``bounds`` is not a pair.

    As in :func:`fit`, the values that the loss closes over are the current ones, and a second call with the same
    program compiles nothing.

    After ``gpflow.optimizers.Scipy``, which also passes scipy only the trainable variables.

    >>> def loss(params):
    ...     return (1 - params["x"]) ** 2 + 100 * (params["y"] - params["x"] ** 2) ** 2
    >>> fitted = fit_lbfgs(loss, {"x": -1.2, "y": 1.0}, {"x": False, "y": True})
    >>> print(fitted.params["x"], round(float(fitted.params["y"]), 2), fitted.result.names)
    -1.2 1.44 ['y']
    """
    import scipy.optimize  # takes half a second, so only where it is needed

    _check_number("maxiter", maxiter)
    _check_args(args)
    tolerances = {name: limit for name, limit in (("gtol", gtol), ("ftol", ftol)) if limit is not None}
    for name, limit in tolerances.items():
        if not (isinstance(limit, (int, float, np.number)) and 0 <= limit < np.inf):
            raise ValueError(f"{name} must be a non-negative number, not {limit!r}.")
    train, fixed = _parts(params, trainable)
    for keys, leaf in jax.tree.leaves_with_path(train):
        if jnp.iscomplexobj(leaf):
            raise TypeError(f"{path_of(keys) or 'the parameter'} is {leaf.dtype}, but L-BFGS-B needs real numbers.")
    _check_loss(loss, False, combine(train, fixed), *args)
    start, as_tree = ravel_pytree(train)
    rest = jax.tree.map(jnp.asarray, (fixed, args))

    def value_and_gradient(vector, fixed, args):
        def loss_of(vector):
            return loss(combine(jax.tree.map(_weak_as, as_tree(vector), train), fixed), *args)

        return jax.value_and_grad(loss_of)(vector)

    program = None if _is_traced(start, rest) else _Program(value_and_gradient, start, *rest)
    if program is None or program.is_traced:
        raise ValueError(
            "fit_lbfgs runs scipy from Python, which does not work under a transformation such as jax.vmap or "
            "jax.jit. Use fit with optax.lbfgs() there."
        )

    def for_scipy(vector):
        value, gradient = program(jnp.asarray(vector, start.dtype), *rest)
        return float(value), np.asarray(gradient, np.float64)

    def after_iteration(intermediate_result):  # scipy needs this name of the argument
        losses.append(float(intermediate_result.fun))
        if progress is not None:
            progress(len(losses) - 1, losses[-1])

    names, start_numbers = entry_names(train), np.asarray(start, np.float64)
    limits = None if bounds is None else _bounds(bounds, train, start_numbers, names)
    losses = [for_scipy(start_numbers)[0]]
    _check_start(losses[0])
    result = scipy.optimize.minimize(
        for_scipy,
        start_numbers,
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        callback=after_iteration,
        options={"maxiter": maxiter, **tolerances},
    )
    result.names = names
    fitted = jax.tree.map(_placed_as, as_tree(jnp.asarray(result.x, start.dtype)), train)
    return LbfgsFit(combine(fitted, fixed), np.array(losses), result)


def _weak_as(leaf: jax.Array, like: jax.Array) -> jax.Array:
    """The leaf, weakly typed if ``like`` is, so that the loss gets the type that was passed in."""
    if not jax.typeof(like).weak_type or jax.typeof(leaf).weak_type:
        return leaf
    return jnp.full(like.shape, 0.0).at[...].set(leaf)  # an array stays weakly typed when its entries are set


def _placed_as(leaf: jax.Array, like: jax.Array) -> jax.Array:
    """The leaf, on the devices of ``like`` if there are several."""
    return jax.device_put(leaf, like.sharding) if len(like.sharding.device_set) > 1 else leaf
