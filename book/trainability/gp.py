"""Gaussian process regression in Flax Linen, in which you choose what trains.

The mathematics is in pure functions of arrays: :func:`log_density`, :func:`condition` and :func:`sample`. The class
:class:`Regression` holds the parameters, and so does a class of your own. Kernels, constraints and priors are here,
too: they come from ``trainability.kernels`` and ``trainability.transforms``.

Bad data raise an error where the arrays have values. Inside ``jax.jit`` they have none, and there a covariance that is
not positive definite gives NaN, and so do data with NaN. Wrong shapes raise an error in both cases.

Use 64-bit floats: ``jax.config.update("jax_enable_x64", True)``. This module needs Flax and is loaded when it is first
used.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular

from trainability.arrays import _check_finite, _check_one_for_each, _check_points, _check_square, _cholesky, _floats
from trainability.kernels import (
    Constant,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    Product,
    RationalQuadratic,
    SquaredExponential,
    Sum,
    White,
    constant,
    diagonal,
    linear,
    matern12,
    matern32,
    matern52,
    periodic,
    rational_quadratic,
    squared_exponential,
    white,
)
from trainability.likelihoods import (
    Bernoulli,
    Gaussian,
    Heteroskedastic,
    Poisson,
    RobustMax,
    Softmax,
    StudentT,
    bernoulli,
    gaussian,
    heteroskedastic,
    log_quadrature,
    poisson,
    quadrature,
    robust_max,
    softmax,
    student_t,
)
from trainability.natural import natural_gradient
from trainability.sparse import Sparse, collapsed_bound, divergence, optimal_q, project
from trainability.training import _check_number, _is_traced
from trainability.transforms import (
    ParameterRow,
    ParameterTable,
    constrain,
    fit_lbfgs,
    log_jacobian,
    log_prior,
    positive,
    potential,
    replace,
    summary,
    unconstrain,
)

__all__ = [
    "Bernoulli",
    "Constant",
    "ConstantMean",
    "Gaussian",
    "Heteroskedastic",
    "Linear",
    "LinearMean",
    "Matern12",
    "Matern32",
    "Matern52",
    "ParameterRow",
    "ParameterTable",
    "Periodic",
    "Poisson",
    "Product",
    "RationalQuadratic",
    "Regression",
    "RobustMax",
    "Softmax",
    "Sparse",
    "SquaredExponential",
    "StudentT",
    "Sum",
    "White",
    "bernoulli",
    "collapsed_bound",
    "condition",
    "constant",
    "constrain",
    "diagonal",
    "divergence",
    "fit_lbfgs",
    "gaussian",
    "heteroskedastic",
    "linear",
    "log_density",
    "log_jacobian",
    "log_prior",
    "log_quadrature",
    "matern12",
    "matern32",
    "matern52",
    "natural_gradient",
    "optimal_q",
    "periodic",
    "poisson",
    "positive",
    "potential",
    "project",
    "quadrature",
    "rational_quadratic",
    "replace",
    "robust_max",
    "sample",
    "softmax",
    "squared_exponential",
    "student_t",
    "summary",
    "unconstrain",
    "white",
]

# The inverse has four panels, or one if it is small: there panels save a fit less time than their compilation takes.
_PANELS, _SMALL = 4, 512


# ---- the density and its gradient ------------------------------------------------------------------------------------


def log_density(covariance: Any, residual: Any) -> jax.Array:
    """The logarithm of the density of a normal distribution with mean zero.

    With the covariance of noisy observations and their differences from the mean, it is the log marginal likelihood of
    a Gaussian process.

    Args:
      covariance: of shape ``(N, N)``, symmetric and positive definite.
      residual: of shape ``(N,)``.

    Returns:
      A scalar, in the dtype to which the arguments promote.

    Raises:
      ValueError: an argument has the wrong shape or a value that is not finite, or the covariance is not positive
        definite. Inside ``jax.jit`` the result is NaN in the last two cases.

    The gradient is not left to JAX's rule for the Cholesky factor, which solves for more than is needed. With
    ``weights = inverse(covariance) @ residual``, it is ``(outer(weights, weights) - inverse(covariance)) / 2`` for the
    covariance and ``-weights`` for the residual. ``jax.grad``, ``jax.hessian`` and ``jax.vmap`` work. Forward mode
    alone (``jax.jvp``, ``jax.jacfwd``) does not.

    >>> print(f"{log_density(jnp.eye(2), jnp.array([1.0, 2.0])):.3f}")
    -4.338
    """
    covariance, residual = _floats(covariance, residual)
    _check_square("covariance", covariance)
    _check_one_for_each("residual", residual, "covariance", len(covariance))
    return _log_density(covariance, residual)


@jax.custom_vjp
def _log_density(covariance: jax.Array, residual: jax.Array) -> jax.Array:
    return _forward(covariance, residual)[0]


def _forward(covariance: jax.Array, residual: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    factor = _cholesky(covariance)
    white = solve_triangular(factor, residual, lower=True)
    value = -(0.5 * white**2 + jnp.log(jnp.diagonal(factor)) + 0.5 * math.log(2 * math.pi)).sum()
    return value, (factor, solve_triangular(factor, white, lower=True, trans="T"))


def _backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    factor, weights = saved
    return cotangent * 0.5 * (jnp.outer(weights, weights) - _inverse(factor)), -cotangent * weights


_log_density.defvjp(_forward, _backward)


def _inverse(factor: jax.Array) -> jax.Array:
    """The inverse of ``factor @ factor.T``, from the lower triangular factor.

    The rows from ``start`` on of a column of the inverse depend only on the same rows and columns of the factor, so the
    lower triangle is solved for in panels that become shorter. The upper one is its mirror image.
    """
    size = len(factor)
    width = size if size <= _SMALL else -(-size // _PANELS)
    panels = []
    for start in range(0, size, width):
        rest = size - start
        panel = cho_solve((factor[start:, start:], True), jnp.eye(rest, min(width, rest), dtype=factor.dtype))
        panels.append(jnp.pad(panel, ((start, 0), (0, 0))))
    lower = jnp.concatenate(panels, axis=1)
    return jnp.tril(lower) + jnp.tril(lower, -1).T


# ---- conditioning and samples ----------------------------------------------------------------------------------------


def condition(covariance: Any, cross: Any, prior: Any, residual: Any) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of one part of a normal distribution with mean zero, given the values of another part.

    Args:
      covariance: of the values that are given, of shape ``(N, N)``. For noisy observations it includes the noise.
      cross: the covariances of the given values with the others, of shape ``(N, M)``.
      prior: of the others: their variances, of shape ``(M,)``, or their covariances, of shape ``(M, M)``.
      residual: the given values, of shape ``(N,)``.

    Returns:
      The mean, of shape ``(M,)``, and the variance or covariance, of the shape of ``prior``. A variance that rounding
      has made negative is returned as zero.

    Raises:
      ValueError: an argument has the wrong shape or a value that is not finite, or the covariance is not positive
        definite. Inside ``jax.jit`` the result is NaN in the last two cases.

    >>> mean, variance = condition([[4.0]], [[2.0]], [3.0], [6.0])
    >>> print(mean, variance)
    [3.] [2.]
    """
    covariance, cross, prior, residual = _floats(covariance, cross, prior, residual)
    _check_square("covariance", covariance)
    _check_one_for_each("residual", residual, "covariance", len(covariance))
    if cross.ndim != 2 or len(cross) != len(covariance):
        raise ValueError(f"cross must have the shape ({len(covariance)}, M), not {cross.shape}.")
    count = cross.shape[1]
    if prior.shape not in ((count,), (count, count)):
        raise ValueError(f"prior must have the shape ({count},) or ({count}, {count}), not {prior.shape}.")
    for name, array in (("cross", cross), ("prior", prior)):
        _check_finite(name, array)
    factor = _cholesky(covariance)
    white = solve_triangular(factor, residual, lower=True)
    explained = solve_triangular(factor, cross, lower=True)
    if prior.ndim == 2:
        return explained.T @ white, prior - explained.T @ explained
    return explained.T @ white, jnp.maximum(prior - (explained**2).sum(0), 0)


def sample(key: jax.Array, mean: Any, covariance: Any, count: int, jitter: float = 1e-6) -> jax.Array:
    """Samples of a normal distribution.

    Args:
      key: a key for random numbers.
      mean: of shape ``(M,)``.
      covariance: of shape ``(M, M)``, symmetric.
      count: how many samples, at least 1.
      jitter: is added to the diagonal of the covariance, since rounding can make the smallest eigenvalues negative. The
        default is GPflow's.

    Returns:
      The samples, of shape ``(count, M)``.

    Raises:
      ValueError: an argument has the wrong shape or a value that is not finite, ``count`` is not a positive integer, or
        the covariance with the jitter is not positive definite. Inside ``jax.jit`` the result is NaN for bad values.

    >>> print(sample(jax.random.key(0), [1.0, 2.0], [[0.0, 0.0], [0.0, 0.0]], 3, jitter=1e-12).round(3))
    [[1. 2.]
     [1. 2.]
     [1. 2.]]
    """
    _check_number("count", count)
    mean, covariance = _floats(mean, covariance)
    _check_square("covariance", covariance)
    _check_one_for_each("mean", mean, "covariance", len(covariance))
    factor = _cholesky(covariance + jitter * jnp.eye(len(covariance), dtype=covariance.dtype))
    samples: jax.Array = mean + jax.random.normal(key, (count, len(mean)), mean.dtype) @ factor.T
    return samples


# ---- mean functions --------------------------------------------------------------------------------------------------


class ConstantMean(nn.Module):
    """A mean function that is the same number everywhere. Its parameter is ``constant``, a scalar.

    Args:
      constant: the initial value.

    As ``gpflow.mean_functions.Constant``.

    >>> x = jnp.zeros([2, 1])
    >>> mean = ConstantMean(3.0)
    >>> print(mean.apply(mean.init(jax.random.key(0), x), x))
    [3. 3.]
    """

    constant: float = 0.0

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        """The mean at the points ``x`` of shape ``(N, D)``, of shape ``(N,)``."""
        constant = self.param("constant", lambda key: jnp.asarray(self.constant, float))
        return jnp.broadcast_to(constant, len(x))


class LinearMean(nn.Module):
    """A mean function that is linear. Its parameters are ``slope``, of shape ``(D,)``, and ``intercept``, a scalar.

    Args:
      slope: the initial value: a number, or one for each coordinate.
      intercept: the initial value.

    As ``gpflow.mean_functions.Linear``, whose parameters are ``A``, of shape ``(D, 1)``, and ``b``.

    >>> x = jnp.array([[0.0, 0.0], [1.0, 2.0]])
    >>> mean = LinearMean(slope=(1.0, 10.0), intercept=3.0)
    >>> print(mean.apply(mean.init(jax.random.key(0), x), x))
    [ 3. 24.]
    """

    slope: Any = 0.0
    intercept: float = 0.0

    @nn.compact
    def __call__(self, x: Any) -> jax.Array:
        """The mean at the points ``x`` of shape ``(N, D)``, of shape ``(N,)``."""
        columns = jnp.shape(x)[1]
        slope = self.param("slope", lambda key: jnp.broadcast_to(jnp.asarray(self.slope, float), columns))
        intercept = self.param("intercept", lambda key: jnp.asarray(self.intercept, float))
        return jnp.asarray(x) @ slope + intercept


# ---- the model -------------------------------------------------------------------------------------------------------


class Regression(nn.Module):
    """Gaussian process regression with Gaussian noise, computed exactly. Called, it returns the log likelihood.

    The parameters are ``{"kernel": …, "mean": …, "noise_variance": …}``, without ``mean`` if there is no mean function
    and without ``noise_variance`` if the noise is known. They are stored as they enter the formulas: constraints and
    priors are data beside them, see :func:`unconstrain`.

    Args:
      kernel: a kernel of this module, or any Linen module that is called as ``kernel(x1, x2=None)``.
      mean: :class:`ConstantMean`, :class:`LinearMean`, or any Linen module that is called as ``mean(x)``. None means
        zero.
      noise_variance: the initial value of the variance of the noise. None means that the noise is known: pass the
        variance for each point in each call, as ``noise``.

    As ``gpflow.models.GPR``, whose ``Y`` has the shape ``(N, 1)``.

    >>> x, y = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([0.0, 1.0, 0.0])
    >>> model = Regression(SquaredExponential(), noise_variance=0.5)
    >>> params = model.init(jax.random.key(0), x, y)["params"]
    >>> print(f"{model.apply({'params': params}, x, y):.3f}")
    -3.659
    >>> mean, variance = model.apply({"params": params}, x, y, jnp.array([[0.5]]), method="predict")
    >>> print(f"{mean[0]:.3f} {variance[0]:.3f}")
    0.414 0.260
    """

    kernel: Any
    mean: Any = None
    noise_variance: float | None = 1.0

    def setup(self) -> None:
        if self.noise_variance is not None:
            self.variance = self.param("noise_variance", lambda key: jnp.asarray(self.noise_variance, float))

    def __call__(self, x: Any, y: Any, noise: Any = None) -> jax.Array:
        """The log marginal likelihood.

        Args:
          x: the points, of shape ``(N, D)``.
          y: the observations, of shape ``(N,)``.
          noise: the known variances of the noise, of shape ``(N,)``, if the model has no ``noise_variance``.

        Returns:
          A scalar.

        Raises:
          ValueError: an argument has the wrong shape or a value that is not finite; ``noise`` is negative, or missing,
            or there is also a ``noise_variance``; or the covariance is not positive definite.
        """
        return log_density(*self._observations(x, y, noise)[1:])

    def predict(
        self,
        x: Any,
        y: Any,
        new_x: Any,
        *,
        full_covariance: bool = False,
        observed: bool = False,
        noise: Any = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and variance at new points, given the observations.

        Call it as ``model.apply({"params": params}, x, y, new_x, method="predict")``.

        Args:
          x: the points, of shape ``(N, D)``.
          y: the observations, of shape ``(N,)``.
          new_x: the new points, of shape ``(M, D)``.
          full_covariance: whether to return the covariances of the new points in place of their variances.
          observed: whether to predict an observation, with its noise, in place of the function.
          noise: the known variances of the noise of ``y``, of shape ``(N,)``, if the model has no ``noise_variance``.

        Returns:
          The mean, of shape ``(M,)``, and the variances, of shape ``(M,)``, or covariances, of shape ``(M, M)``.

        Raises:
          ValueError: as in a call of the model; or ``observed`` is asked for and the noise at the new points is not
            known.

        As ``predict_f`` and, with ``observed``, ``predict_y`` of ``gpflow.models.GPR``.
        """
        x, covariance, residual = self._observations(x, y, noise)
        (new_x,) = _floats(new_x)
        _check_points("new_x", new_x)
        if new_x.shape[1] != x.shape[1]:
            raise ValueError(f"new_x has {new_x.shape[1]} columns, but x has {x.shape[1]}.")
        if observed and self.noise_variance is None:
            raise ValueError(
                "the noise at the new points is not known. Predict without observed, and add its variance yourself."
            )
        prior = self.kernel(new_x) if full_covariance else diagonal(self.kernel, new_x)
        mean, variance = condition(covariance, self.kernel(x, new_x), prior, residual)
        if observed:
            variance += self.variance * jnp.eye(len(new_x)) if full_covariance else self.variance
        return mean + self._mean(new_x), variance

    def _mean(self, x: jax.Array) -> Any:
        return 0.0 if self.mean is None else self.mean(x)

    def _observations(self, x: Any, y: Any, noise: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The points, the covariance of the observations, and their differences from the mean."""
        x, y = _floats(x, y)
        _check_points("x", x)
        _check_one_for_each("y", y, "x", len(x))
        return x, self.kernel(x) + jnp.eye(len(x), dtype=x.dtype) * self._noise(noise, len(x)), y - self._mean(x)

    def _noise(self, noise: Any, count: int) -> jax.Array:
        if noise is None and self.noise_variance is None:
            raise ValueError("noise is missing: a model with noise_variance=None needs the variance for each point.")
        if noise is None:
            return jnp.asarray(self.variance)
        if self.noise_variance is not None:
            raise ValueError(
                "noise would take the place of the parameter noise_variance, which then would do nothing. For known "
                "noise, make the model with noise_variance=None."
            )
        known: jax.Array = _floats(noise)[0]
        _check_one_for_each("noise", known, "x", count)
        # Inside jax.jit, JAX would trace even the comparison of a known array.
        if not _is_traced(known) and (np.asarray(known) < 0).any():
            raise ValueError(f"noise holds variances, but its smallest value is {known.min()}.")
        return known
