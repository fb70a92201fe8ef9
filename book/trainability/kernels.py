"""Kernels of Gaussian processes: pure functions of arrays, and containers in Flax Linen that hold their parameters.

A kernel takes points ``x1`` of shape ``(N1, D)`` and ``x2`` of shape ``(N2, D)``, and returns the covariances of all
pairs, of shape ``(N1, N2)``. ``x2=None`` means the same points as ``x1``. The parameters have GPflow's names, and are
stored as they enter the formula: a variance of 1.0 is stored as 1.0. Constraints on them are separate data, see
``trainability.transforms``.

All functions use differences of points, so the covariance of a point with itself is exact, and gradients are finite
where points coincide.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

# ---- checks ----------------------------------------------------------------------------------------------------------


def _points(x1: ArrayLike, x2: ArrayLike | None) -> tuple[jax.Array, jax.Array]:
    """Both sets of points as floating point arrays, of shapes (N1, D) and (N2, D)."""
    given = [jnp.asarray(points) for points in (x1, x1 if x2 is None else x2)]
    # Unsigned integers have no negative differences.
    first, second = [points.astype(jnp.result_type(points, float)) for points in given]
    for name, points in (("x1", first), ("x2", second)):
        if points.ndim != 2:
            advice = f": {name}[:, None], if these are points with one coordinate" if points.ndim == 1 else ""
            raise ValueError(f"{name} must have the shape (N, D), not {points.shape}{advice}.")
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"x1 and x2 must have the same number of columns, but their shapes are {first.shape} and {second.shape}."
        )
    return first, second


def _scalar(name: str, value: ArrayLike) -> jax.Array:
    if np.shape(value) != ():
        raise ValueError(f"{name} must be a scalar, of shape (), but it has the shape {np.shape(value)}.")
    return jnp.asarray(value)


def _for_each_column(name: str, value: ArrayLike, points: jax.Array) -> jax.Array:
    if np.shape(value) not in ((), (points.shape[1],)):
        raise ValueError(
            f"{name} must be a scalar or have the shape ({points.shape[1]},), one number for each column of the "
            f"points, but it has the shape {np.shape(value)}."
        )
    return jnp.asarray(value)


# ---- kernels as functions --------------------------------------------------------------------------------------------


def _squared_distance(x1: ArrayLike, x2: ArrayLike | None, lengthscales: ArrayLike) -> jax.Array:
    """Squared distances in units of the lengthscales, of shape (N1, N2).

    Points are divided, not differences, of which there are N1 * N2. Inside ``jax.jit``, XLA may then not round what it
    divides before it subtracts, so that points that coincide have a distance of rounding errors.
    """
    first, second = _points(x1, x2)
    scales = _for_each_column("lengthscales", lengthscales, first)
    first = first / scales
    second = first if x2 is None else second / scales
    return jnp.square(first[:, None] - second[None]).sum(-1)


def _distance(x1: ArrayLike, x2: ArrayLike | None, lengthscales: ArrayLike) -> jax.Array:
    """Distances in units of the lengthscales, of shape (N1, N2), which are zero where points coincide.

    There the derivative of the square root is infinite; here it is zero.
    """
    first, second = _points(x1, x2)
    scales = _for_each_column("lengthscales", lengthscales, first)
    squared = (jnp.square(first[:, None] - second[None]) / jnp.square(scales)).sum(-1)
    apart = squared > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, squared, 1.0)), 0.0)


@jax.custom_jvp
def _bell(variance: jax.Array, squared: jax.Array) -> jax.Array:
    """``variance * exp(-squared / 2)``. By this rule, what a gradient keeps is the result, and no second matrix."""
    return variance * jnp.exp(-0.5 * squared)


def _bell_changes(values: Any, changes: Any) -> tuple[jax.Array, jax.Array]:
    bell, rate = _bell(*values), 0.0
    if not isinstance(changes[0], SymbolicZero):  # a fixed variance may be zero
        rate += changes[0] / values[0]
    if not isinstance(changes[1], SymbolicZero):
        rate -= 0.5 * changes[1]
    return bell, bell * rate


_bell.defjvp(_bell_changes, symbolic_zeros=True)


def squared_exponential(x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike, lengthscales: ArrayLike) -> jax.Array:
    """The squared exponential kernel, ``variance * exp(-r**2 / 2)``.

    ``r`` is the distance of two points after each coordinate is divided by its lengthscale.

    Args:
      x1: points, of shape ``(N1, D)``.
      x2: points, of shape ``(N2, D)``, or None for those of ``x1``.
      variance: a scalar.
      lengthscales: a scalar, or one for each coordinate, of shape ``(D,)``.

    Returns:
      The covariances, of shape ``(N1, N2)``, in the dtype to which the arguments promote.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.SquaredExponential``.

    >>> print(squared_exponential(jnp.array([[0.0], [1.0]]), None, 2.0, 1.0).round(3))
    [[2.    1.213]
     [1.213 2.   ]]
    """
    return _bell(_scalar("variance", variance), _squared_distance(x1, x2, lengthscales))


def matern12(x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike, lengthscales: ArrayLike) -> jax.Array:
    """The Matérn kernel of order 1/2, ``variance * exp(-r)``, with the arguments of :func:`squared_exponential`.

    Where two points coincide, it has no derivative with respect to them, and here the gradient is zero.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.Matern12``.

    >>> round(matern12(jnp.array([[0.0], [1.0]]), None, 2.0, 1.0)[0, 1].item(), 3)
    0.736
    """
    return _scalar("variance", variance) * jnp.exp(-_distance(x1, x2, lengthscales))


def matern32(x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike, lengthscales: ArrayLike) -> jax.Array:
    """The Matérn kernel of order 3/2, with the arguments of :func:`squared_exponential`.

    It is ``variance * (1 + s) * exp(-s)`` with ``s = sqrt(3) * r``. Where two points coincide, the second derivative
    with respect to them is not computed correctly: it comes out as zero.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.Matern32``.

    >>> round(matern32(jnp.array([[0.0], [1.0]]), None, 2.0, 1.0)[0, 1].item(), 3)
    0.967
    """
    scaled = math.sqrt(3) * _distance(x1, x2, lengthscales)
    return _scalar("variance", variance) * (1 + scaled) * jnp.exp(-scaled)


def matern52(x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike, lengthscales: ArrayLike) -> jax.Array:
    """The Matérn kernel of order 5/2, with the arguments of :func:`squared_exponential`.

    It is ``variance * (1 + s + s**2 / 3) * exp(-s)`` with ``s = sqrt(5) * r``. Where two points coincide, the second
    derivative with respect to them is not computed correctly.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.Matern52``.

    >>> round(matern52(jnp.array([[0.0], [1.0]]), None, 2.0, 1.0)[0, 1].item(), 3)
    1.048
    """
    scaled = math.sqrt(5) * _distance(x1, x2, lengthscales)
    return _scalar("variance", variance) * (1 + scaled + scaled**2 / 3) * jnp.exp(-scaled)


def rational_quadratic(
    x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike, lengthscales: ArrayLike, alpha: ArrayLike
) -> jax.Array:
    """The rational quadratic kernel, ``variance * (1 + r**2 / (2 * alpha)) ** -alpha``.

    It is a mixture of squared exponential kernels of many lengthscales. For large ``alpha`` it approaches
    :func:`squared_exponential`, whose arguments it has, and a scalar ``alpha``.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.RationalQuadratic``.

    >>> print(rational_quadratic(jnp.array([[0.0], [1.0]]), None, 2.0, 1.0, 0.5).round(3))
    [[2.    1.414]
     [1.414 2.   ]]
    """
    order = _scalar("alpha", alpha)
    squared = _squared_distance(x1, x2, lengthscales)
    return _scalar("variance", variance) * jnp.exp(-order * jnp.log1p(squared / (2 * order)))


def periodic(
    x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike, lengthscales: ArrayLike, period: ArrayLike
) -> jax.Array:
    """The periodic kernel, ``variance * exp(-sum((sin(pi * (x1 - x2) / period) / lengthscales)**2) / 2)``.

    The factor 1/2 is GPflow's. Other texts have a factor 2, whose lengthscales are twice as large.

    Args:
      x1: points, of shape ``(N1, D)``.
      x2: points, of shape ``(N2, D)``, or None for those of ``x1``.
      variance: a scalar.
      lengthscales: a scalar, or one for each coordinate, of shape ``(D,)``. They have no unit.
      period: a scalar, or one for each coordinate, of shape ``(D,)``, in the unit of the points.

    Returns:
      The covariances, of shape ``(N1, N2)``, in the dtype to which the arguments promote.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.Periodic`` over a ``SquaredExponential``.

    >>> print(periodic(jnp.array([[0.0], [0.5], [1.0]]), None, 2.0, 1.0, 1.0)[0].round(3))
    [2.    1.213 2.   ]
    """
    first, second = _points(x1, x2)
    turns = (first[:, None] - second[None]) / _for_each_column("period", period, first)
    waves = jnp.sin(np.pi * turns) / _for_each_column("lengthscales", lengthscales, first)
    return _scalar("variance", variance) * jnp.exp(-0.5 * jnp.square(waves).sum(-1))


def linear(x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike) -> jax.Array:
    """The linear kernel, ``sum(variance * x1 * x2)``: random straight lines through the origin.

    Args:
      x1: points, of shape ``(N1, D)``.
      x2: points, of shape ``(N2, D)``, or None for those of ``x1``.
      variance: of the slopes: a scalar, or one for each coordinate, of shape ``(D,)``.

    Returns:
      The covariances, of shape ``(N1, N2)``, in the dtype to which the arguments promote.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.Linear``.

    >>> print(linear(jnp.array([[1.0], [2.0]]), None, 3.0))
    [[ 3.  6.]
     [ 6. 12.]]
    """
    first, second = _points(x1, x2)
    return jnp.matmul(first * _for_each_column("variance", variance, first), second.T)


def constant(x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike) -> jax.Array:
    """The constant kernel, ``variance`` for every pair of points: a random constant.

    Args:
      x1: points, of shape ``(N1, D)``.
      x2: points, of shape ``(N2, D)``, or None for those of ``x1``.
      variance: a scalar.

    Returns:
      The covariances, of shape ``(N1, N2)``, in the dtype to which the arguments promote.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.Constant``.

    >>> print(constant(jnp.zeros([2, 1]), None, 3.0))
    [[3. 3.]
     [3. 3.]]
    """
    first, second = _points(x1, x2)
    return jnp.full((len(first), len(second)), _scalar("variance", variance), jnp.result_type(first, second, variance))


def white(x1: ArrayLike, x2: ArrayLike | None, variance: ArrayLike) -> jax.Array:
    """White noise: ``variance`` times the identity if ``x2`` is None, otherwise zero.

    So two arrays of points are uncorrelated even where they have the same points, and even if ``x2`` is ``x1``.

    Args:
      x1: points, of shape ``(N1, D)``.
      x2: points, of shape ``(N2, D)``, or None for those of ``x1``.
      variance: a scalar.

    Returns:
      The covariances, of shape ``(N1, N2)``, in the dtype to which the arguments promote.

    Raises:
      ValueError: an argument has the wrong shape.

    The kernel ``gpflow.kernels.White``.

    >>> points = jnp.array([[0.0], [0.0]])
    >>> print(white(points, None, 3.0))
    [[3. 0.]
     [0. 3.]]
    >>> print(white(points, points, 3.0).max())
    0.0
    """
    first, second = _points(x1, x2)
    same = jnp.eye(len(first)) if x2 is None else jnp.zeros((len(first), len(second)))
    return _scalar("variance", variance) * same.astype(jnp.result_type(first, second, variance))


def diagonal(kernel: Callable[..., Any], x: ArrayLike) -> jax.Array:
    """The variances at some points: the diagonal of ``kernel(x)``, without the rest of the matrix.

    Args:
      kernel: a function ``kernel(x1, x2=None)`` that returns covariances, or, inside a Linen module, a kernel that it
        contains.
      x: points, of shape ``(N, D)``.

    Returns:
      The variances, of shape ``(N,)``.

    Raises:
      ValueError: ``x`` has the wrong shape.

    >>> print(diagonal(lambda x1, x2=None: linear(x1, x2, 3.0), jnp.array([[1.0], [2.0]])))
    [ 3. 12.]
    """
    points, _ = _points(x, None)
    variances: jax.Array = jax.vmap(lambda point: kernel(point[None])[0, 0])(points)
    return variances


# ---- kernels as modules of Flax Linen --------------------------------------------------------------------------------


def _parameters(module: nn.Module, *names: str) -> list[Any]:
    """The parameters of a kernel, which start at the values of its attributes of these names."""

    def start(name: str) -> jax.Array:
        value = getattr(module, name)
        if not (np.all(np.isfinite(value)) and np.all(np.asarray(value) > 0)):
            raise ValueError(f"{name} of {type(module).__name__} must be positive, not {value}.")
        return jnp.asarray(value, jnp.result_type(float))

    return [module.param(name, lambda key, name=name: start(name)) for name in names]


def _columns(active_dims: Sequence[int] | None, x1: Any, x2: Any) -> tuple[Any, Any]:
    """The columns of the points that a kernel uses; x2 stays None if it is."""
    first, second = _points(x1, x2)
    if active_dims is not None:
        columns = [operator.index(column) for column in active_dims]
        count = first.shape[1]
        # JAX raises no error for a column that does not exist.
        if not columns or len(set(columns)) < len(columns) or not all(0 <= column < count for column in columns):
            raise ValueError(
                f"active_dims must be different columns of the points, from 0 to {count - 1}, not {active_dims}."
            )
        first, second = first[:, np.array(columns)], second[:, np.array(columns)]
    return first, None if x2 is None else second


class SquaredExponential(nn.Module):
    """A squared exponential kernel, with parameters that start at the values given.

    Call it as ``kernel.apply({"params": params}, x1, x2)``, or inside another Linen module as ``kernel(x1, x2)``.

    Args:
      variance: a positive number.
      lengthscales: a positive number, or one for each column used, as a tuple.
      active_dims: which columns of the points are used, as a tuple of numbers from 0. By default, all.
      name: its name inside a :class:`Sum` or :class:`Product`.

    The parameters are arrays of JAX's floating point type: 64 bits if ``jax_enable_x64`` is set.

    Raises:
      ValueError: a start value is not positive, or has the wrong shape; or ``active_dims`` has a column that the points
        do not have.

    >>> kernel = SquaredExponential(lengthscales=(1.0, 2.0))
    >>> params = kernel.init(jax.random.key(0), jnp.zeros([1, 2]))["params"]
    >>> print(params["variance"], params["lengthscales"])
    1.0 [1. 2.]
    >>> kernel.apply({"params": params}, jnp.ones([3, 2])).shape
    (3, 3)
    """

    variance: Any = 1.0
    lengthscales: Any = 1.0
    active_dims: Sequence[int] | None = None

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        parameters = _parameters(self, "variance", "lengthscales")
        return squared_exponential(*_columns(self.active_dims, x1, x2), *parameters)


class Matern12(nn.Module):
    """A Matérn kernel of order 1/2, with the arguments of :class:`SquaredExponential`.

    >>> sorted(Matern12().init(jax.random.key(0), jnp.zeros([1, 2]))["params"])
    ['lengthscales', 'variance']
    """

    variance: Any = 1.0
    lengthscales: Any = 1.0
    active_dims: Sequence[int] | None = None

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        parameters = _parameters(self, "variance", "lengthscales")
        return matern12(*_columns(self.active_dims, x1, x2), *parameters)


class Matern32(nn.Module):
    """A Matérn kernel of order 3/2, with the arguments of :class:`SquaredExponential`.

    >>> sorted(Matern32().init(jax.random.key(0), jnp.zeros([1, 2]))["params"])
    ['lengthscales', 'variance']
    """

    variance: Any = 1.0
    lengthscales: Any = 1.0
    active_dims: Sequence[int] | None = None

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        parameters = _parameters(self, "variance", "lengthscales")
        return matern32(*_columns(self.active_dims, x1, x2), *parameters)


class Matern52(nn.Module):
    """A Matérn kernel of order 5/2, with the arguments of :class:`SquaredExponential`.

    >>> sorted(Matern52().init(jax.random.key(0), jnp.zeros([1, 2]))["params"])
    ['lengthscales', 'variance']
    """

    variance: Any = 1.0
    lengthscales: Any = 1.0
    active_dims: Sequence[int] | None = None

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        parameters = _parameters(self, "variance", "lengthscales")
        return matern52(*_columns(self.active_dims, x1, x2), *parameters)


class RationalQuadratic(nn.Module):
    """A rational quadratic kernel, with the arguments of :class:`SquaredExponential`, and a positive ``alpha``.

    >>> sorted(RationalQuadratic().init(jax.random.key(0), jnp.zeros([1, 2]))["params"])
    ['alpha', 'lengthscales', 'variance']
    """

    variance: Any = 1.0
    lengthscales: Any = 1.0
    alpha: Any = 1.0
    active_dims: Sequence[int] | None = None

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        parameters = _parameters(self, "variance", "lengthscales", "alpha")
        return rational_quadratic(*_columns(self.active_dims, x1, x2), *parameters)


class Periodic(nn.Module):
    """A periodic kernel, with the arguments of :class:`SquaredExponential`, and a ``period`` in the unit of the points.

    The period is a positive number, or one for each column used, as a tuple.

    >>> sorted(Periodic().init(jax.random.key(0), jnp.zeros([1, 2]))["params"])
    ['lengthscales', 'period', 'variance']
    """

    variance: Any = 1.0
    lengthscales: Any = 1.0
    period: Any = 1.0
    active_dims: Sequence[int] | None = None

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        parameters = _parameters(self, "variance", "lengthscales", "period")
        return periodic(*_columns(self.active_dims, x1, x2), *parameters)


class Linear(nn.Module):
    """A linear kernel, whose ``variance`` is a positive number, or one for each column used, as a tuple.

    >>> Linear(variance=2.0).init(jax.random.key(0), jnp.zeros([1, 2]))["params"]["variance"].item()
    2.0
    """

    variance: Any = 1.0
    active_dims: Sequence[int] | None = None

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        return linear(*_columns(self.active_dims, x1, x2), *_parameters(self, "variance"))


class Constant(nn.Module):
    """A constant kernel, whose ``variance`` is a positive number.

    >>> Constant(variance=2.0).init(jax.random.key(0), jnp.zeros([1, 2]))["params"]["variance"].item()
    2.0
    """

    variance: Any = 1.0

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        return constant(x1, x2, *_parameters(self, "variance"))


class White(nn.Module):
    """White noise, whose ``variance`` is a positive number.

    >>> White(variance=2.0).init(jax.random.key(0), jnp.zeros([1, 2]))["params"]["variance"].item()
    2.0
    """

    variance: Any = 1.0

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        return white(x1, x2, *_parameters(self, "variance"))


class Sum(nn.Module):
    """The sum of kernels.

    Args:
      parts: a tuple of kernels: modules of this file, or any Linen module that is called as ``kernel(x1, x2=None)``. A
        part with a ``name`` has its parameters under that name, any other under ``parts_0``, ``parts_1`` and so on.

    Raises:
      ValueError: there are no parts.

    >>> kernel = Sum((SquaredExponential(name="trend"), White()))
    >>> params = kernel.init(jax.random.key(0), jnp.zeros([1, 2]))["params"]
    >>> {name: sorted(below) for name, below in params.items()}
    {'trend': ['lengthscales', 'variance'], 'parts_1': ['variance']}
    """

    parts: tuple[nn.Module, ...]
    preserve_adopted_names = True  # Flax: a part that has a name keeps it

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        return functools.reduce(jnp.add, _matrices(self, x1, x2))


class Product(nn.Module):
    """The product of kernels, entry by entry, with the arguments and the names of :class:`Sum`.

    >>> kernel = Product((Constant(2.0), Constant(3.0)))
    >>> params = kernel.init(jax.random.key(0), jnp.zeros([1, 2]))["params"]
    >>> print(kernel.apply({"params": params}, jnp.zeros([1, 2])))
    [[6.]]
    """

    parts: tuple[nn.Module, ...]
    preserve_adopted_names = True  # Flax: a part that has a name keeps it

    @nn.compact
    def __call__(self, x1: Any, x2: Any = None) -> jax.Array:
        return functools.reduce(jnp.multiply, _matrices(self, x1, x2))


def _matrices(module: Any, x1: Any, x2: Any) -> list[jax.Array]:
    """What each part of a sum or product gives."""
    if not isinstance(module.parts, tuple) or not module.parts:
        raise ValueError(f"parts of {type(module).__name__} must be a tuple of kernels, and at least one.")
    return [part(x1, x2) for part in module.parts]
