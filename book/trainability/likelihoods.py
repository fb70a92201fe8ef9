"""Likelihoods of Gaussian processes: what an observation is, given the function.

The log densities are pure functions of arrays: :func:`gaussian`, :func:`bernoulli`, :func:`softmax`,
:func:`robust_max`, :func:`poisson`, :func:`student_t` and :func:`heteroskedastic`. The value ``f`` of the function is
their first argument. :func:`quadrature` averages any function over a normal distribution of ``f``.

The containers in Flax Linen hold the parameters, under GPflow's names. Each has the same interface, and so has one of
your own that is to be used with :class:`~trainability.gp.Sparse`. ``mean`` and ``variance`` describe a normal
distribution of the latent functions, independent of each other, and have the shape ``(N, L)``; ``y`` has the shape
``(N,)``.

- ``latents`` is L, the number of latent functions.
- ``likelihood(mean, variance, y)`` is the expected log density of each observation, of shape ``(N,)``. It is the term
  of the data in the lower bound of a variational model.
- ``likelihood.predict(mean, variance)`` is the mean and the variance of an observation.
- ``likelihood.log_density(mean, variance, y)`` is the log predictive density of each observation, of shape ``(N,)``.

What some of them need besides, such as the exposure of a count, is a keyword argument of all three.

Use 64-bit floats, as for :class:`~trainability.gp.Regression`.

Bad values raise an error where the arrays have values. Inside ``jax.jit`` they have none. There an observation that is
impossible has the log density minus infinity, and a parameter outside its range gives NaN or an infinite number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp, ndtr

from trainability.arrays import _check_finite, _check_one_for_each, _floats
from trainability.kernels import _parameters
from trainability.training import _check_number, _is_traced

# As in GPflow: Bernoulli's probabilities stay this far from 0 and 1, and so do the factors of robust-max.
_PROBIT_SQUEEZE, _ROBUST_SQUEEZE = 1e-3, 1e-6


# ---- averages over a normal distribution -----------------------------------------------------------------------------


def quadrature(function: Callable[[jax.Array], Any], mean: Any, variance: Any, points: int = 20) -> jax.Array:
    """The expectation of ``function(f)`` for a normal ``f``, by Gauss-Hermite quadrature.

    It is exact for polynomials of a degree below ``2 * points``.

    Args:
      function: is called once, with an array of shape ``(points, *shape)``, and returns an array of that shape. Each
        number of its result depends on the number at the same place.
      mean: of any shape.
      variance: of the same shape, or of one that broadcasts. Where a variance is 0, its gradient is 0.
      points: how many points. The default is GPflow's.

    Returns:
      The expectations, of the shape to which ``mean`` and ``variance`` broadcast.

    Raises:
      ValueError: ``points`` is not a positive integer, a variance is negative, or a value is not finite. Inside
        ``jax.jit`` the result is NaN in the last two cases.

    As ``gpflow.quadrature.NDiagGHQuadrature`` in one dimension.

    >>> print(quadrature(lambda f: f**2, [0.0, 1.0], [1.0, 4.0]).round(3))
    [1. 5.]
    """
    places, weights = _nodes(points, mean, variance)
    return (weights * jnp.asarray(function(places))).sum(0)


def log_quadrature(function: Callable[[jax.Array], Any], mean: Any, variance: Any, points: int = 20) -> jax.Array:
    """The logarithm of the expectation of ``exp(function(f))``, with the arguments of :func:`quadrature`.

    Of a log density it makes the log predictive density. The largest number is taken out before the exponential, so
    that very small densities do not become 0.

    Raises:
      ValueError: as in :func:`quadrature`.

    >>> print(log_quadrature(lambda f: 2 * f - 1000, 0.0, 1.0).round(3))
    -998.0
    """
    places, weights = _nodes(points, mean, variance)
    return jnp.asarray(logsumexp(jnp.asarray(function(places)) + jnp.log(weights), axis=0))


def _nodes(points: int, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
    """The places, of shape (points, *shape), and their weights, of shape (points, 1, …)."""
    _check_number("points", points)
    mean, variance = jnp.broadcast_arrays(*_floats(mean, variance))
    _check_moments(mean, variance)
    column = (points, *[1] * mean.ndim)
    z, weights = (jnp.asarray(numbers.reshape(column), mean.dtype) for numbers in _hermite(points))
    return mean + _deviation(variance) * z, weights


@functools.cache
def _hermite(points: int) -> tuple[np.ndarray, np.ndarray]:
    z, weights = np.polynomial.hermite.hermgauss(points)
    return z * math.sqrt(2), weights / math.sqrt(math.pi)


def _deviation(variance: jax.Array) -> jax.Array:
    """The standard deviation. Its gradient is 0, not infinite, where the variance is 0."""
    none = variance == 0
    return jnp.where(none, 0.0, jnp.sqrt(jnp.where(none, 1.0, variance)))


# ---- log densities ---------------------------------------------------------------------------------------------------


def gaussian(f: Any, y: Any, variance: Any) -> jax.Array:
    """The log density of ``y``, normal with mean ``f``.

    Args:
      f: the values of the function, of any shape.
      y: the observations, of a shape that broadcasts with it.
      variance: of the noise, positive: a scalar, or a shape that broadcasts.

    Returns:
      An array of the shape to which the arguments broadcast.

    As ``gpflow.likelihoods.Gaussian``.

    >>> print(gaussian(0.0, jnp.array([0.0, 2.0]), 4.0).round(3))
    [-1.612 -2.112]
    """
    f, y, variance = _floats(f, y, variance)
    density: jax.Array = -0.5 * (math.log(2 * math.pi) + jnp.log(variance) + (y - f) ** 2 / variance)
    return density


def bernoulli(f: Any, y: Any) -> jax.Array:
    """The log probability of ``y``, which is 1 with the probability ``Φ(f)``, and otherwise 0.

    ``Φ`` is the cumulative distribution function of the standard normal distribution (*probit*). As in GPflow, its
    values are squeezed to between 0.001 and 0.999, so that one wrong label has a bounded cost.

    Args:
      f: the values of the function, of any shape.
      y: 0 or 1, as integers, booleans or floats, of a shape that broadcasts with it.

    Returns:
      An array of the shape to which the arguments broadcast. It is minus infinity where ``y`` is neither 0 nor 1.

    As ``gpflow.likelihoods.Bernoulli``, which takes every number but 1 for 0.

    >>> print(jnp.exp(bernoulli(jnp.array([-9.0, 0.0, 9.0]), 1)).round(3))
    [0.001 0.5   0.999]
    """
    f, y = _floats(f, y)
    return _of_two(y, _probit(f))


def _probit(f: jax.Array) -> jax.Array:
    return ndtr(f) * (1 - 2 * _PROBIT_SQUEEZE) + _PROBIT_SQUEEZE


def _of_two(y: jax.Array, probability: jax.Array) -> jax.Array:
    """The log probability of y, if that of 1 is given."""
    return jnp.where(y == 1, jnp.log(probability), jnp.where(y == 0, jnp.log1p(-probability), -jnp.inf))


def softmax(f: Any, y: Any) -> jax.Array:
    """The log probability of the class ``y``, if that of class c is proportional to ``exp(f[..., c])``.

    Args:
      f: the values of the latent functions, of shape ``(..., C)``: one for each of C classes.
      y: integers from 0 to C - 1, of a shape that broadcasts with ``(...)``.

    Returns:
      An array of the shape to which ``(...)`` and that of ``y`` broadcast. It is minus infinity where there is no such
      class.

    Raises:
      TypeError: ``y`` does not hold integers.

    As ``gpflow.likelihoods.Softmax``.

    >>> print(jnp.exp(softmax(jnp.log(jnp.array([1.0, 3.0])), jnp.array([0, 1]))))
    [0.25 0.75]
    """
    (f,) = _floats(f)
    hit = _hits(y, f.shape[-1])
    return _if_any(hit, jnp.where(hit, jax.nn.log_softmax(f), 0.0).sum(-1))


def robust_max(f: Any, y: Any, epsilon: Any) -> jax.Array:
    """The log probability of the class ``y``, if the class of the largest ``f`` has the probability ``1 - epsilon``.

    The other classes share ``epsilon`` equally. So a label that is wrong costs the same, however wrong it is.

    Args:
      f: the values of the latent functions, of shape ``(..., C)``: one for each of C classes.
      y: integers from 0 to C - 1, of a shape that broadcasts with ``(...)``.
      epsilon: a scalar between 0 and 1.

    Returns:
      An array of the shape to which ``(...)`` and that of ``y`` broadcast. It is minus infinity where there is no such
      class. It is constant in ``f`` but for jumps, so its gradient is 0: only its expectation can be trained.

    Raises:
      TypeError: ``y`` does not hold integers.

    As ``gpflow.likelihoods.MultiClass``, whose default is ``RobustMax``.

    >>> print(jnp.exp(robust_max(jnp.array([1.0, 3.0, 2.0]), jnp.array([0, 1, 2]), 0.1)).round(3))
    [0.05 0.9  0.05]
    """
    f, epsilon = _floats(f, epsilon)
    hit = _hits(y, f.shape[-1])
    largest = (hit & (jnp.arange(f.shape[-1]) == f.argmax(-1)[..., None])).any(-1)
    return _if_any(hit, jnp.where(largest, *_logs(epsilon, f.shape[-1])))


def _logs(epsilon: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """The log probability of the class whose function is largest, and that of any other class."""
    return jnp.log1p(-epsilon), jnp.log(epsilon / (classes - 1))


def _hits(y: Any, classes: int) -> jax.Array:
    """Whether each observation is of each class, of shape (..., C)."""
    y = jnp.asarray(y)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(f"y must hold the numbers of classes as integers, not as {y.dtype}. Pass y.astype(int).")
    hit: jax.Array = y[..., None] == jnp.arange(classes)
    return hit


def _if_any(hit: jax.Array, values: jax.Array) -> jax.Array:
    """The values, or minus infinity where an observation is of no class."""
    return jnp.where(hit.any(-1), values, -jnp.inf)


def poisson(f: Any, y: Any, exposure: Any = 1.0) -> jax.Array:
    """The log probability of the count ``y``, of which ``exposure * exp(f)`` are expected.

    Args:
      f: the values of the function, the logarithm of the rate, of any shape.
      y: the counts, as integers or floats, of a shape that broadcasts with it.
      exposure: how much was observed, positive: the time, or how many could have been counted.

    Returns:
      An array of the shape to which the arguments broadcast. It is minus infinity where ``y`` is not a count.

    As ``gpflow.likelihoods.Poisson``, whose ``binsize`` is the exposure.

    >>> print(jnp.exp(poisson(jnp.log(2.0), jnp.array([0, 1, 2]), exposure=0.5)).round(3))
    [0.368 0.368 0.184]
    """
    f, y, exposure = _floats(f, y, exposure)
    return _if_count(y, y * (f + jnp.log(exposure)) - exposure * jnp.exp(f) - gammaln(y + 1))


def _if_count(y: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.where((y >= 0) & (y == jnp.floor(y)), values, -jnp.inf)


def student_t(f: Any, y: Any, scale: Any, degrees_of_freedom: Any) -> jax.Array:
    """The log density of ``y``, which has a Student-t distribution around ``f``.

    Args:
      f: the values of the function, of any shape.
      y: the observations, of a shape that broadcasts with it.
      scale: a positive number.
      degrees_of_freedom: a positive number. The smaller it is, the less a single observation far from ``f`` costs.

    Returns:
      An array of the shape to which the arguments broadcast.

    As ``gpflow.likelihoods.StudentT``.

    >>> print(student_t(0.0, jnp.array([0.0, 10.0]), 1.0, 3.0).round(3))
    [-1.001 -8.073]
    """
    f, y, scale, degrees = _floats(f, y, scale, degrees_of_freedom)
    normaliser = gammaln((degrees + 1) / 2) - gammaln(degrees / 2) - 0.5 * jnp.log(math.pi * degrees) - jnp.log(scale)
    return normaliser - 0.5 * (degrees + 1) * jnp.log1p(((y - f) / scale) ** 2 / degrees)


def heteroskedastic(f: Any, y: Any) -> jax.Array:
    """The log density of ``y``, normal with mean ``f[..., 0]`` and standard deviation ``exp(f[..., 1])``.

    Args:
      f: the values of the two latent functions, of shape ``(..., 2)``.
      y: the observations, of a shape that broadcasts with ``(...)``.

    Returns:
      An array of the shape to which ``(...)`` and that of ``y`` broadcast.

    As ``gpflow.likelihoods.HeteroskedasticTFPConditional``.

    >>> print(heteroskedastic(jnp.array([0.0, 0.0]), 1.0).round(3), gaussian(0.0, 1.0, 1.0).round(3))
    -1.419 -1.419
    """
    f, y = _floats(f, y)
    return gaussian(f[..., 0], y, jnp.exp(2 * f[..., 1]))


# ---- checks ----------------------------------------------------------------------------------------------------------


def _check_moments(mean: jax.Array, variance: jax.Array) -> None:
    _check_finite("mean", mean)
    _check_finite("variance", variance)
    if not _is_traced(variance) and (smallest := np.asarray(variance).min(initial=0)) < 0:
        raise ValueError(f"variance holds variances of the latent functions, but its smallest value is {smallest}.")


def _moments(module: Any, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
    """The mean and the variance of the latent functions, of shape (N, L), checked."""
    mean, variance = _floats(mean, variance)
    for name, array in (("mean", mean), ("variance", variance)):
        if array.ndim != 2 or array.shape[1] != module.latents:
            advice = f" Pass {name}[:, None]." if array.ndim == 1 and module.latents == 1 else ""
            raise ValueError(
                f"{name} must have the shape (N, {module.latents}), one column for each latent function of "
                f"{type(module).__name__}, not {array.shape}.{advice}"
            )
    if mean.shape != variance.shape:
        raise ValueError(f"mean has the shape {mean.shape}, but variance has {variance.shape}.")
    _check_moments(mean, variance)
    return mean, variance


def _observations(mean: jax.Array, y: Any) -> jax.Array:
    found: jax.Array = jnp.asarray(y)
    _check_one_for_each("y", found, "mean", len(mean))
    return found


# NumPy compares the values, because JAX would trace a comparison inside jax.jit, even of arrays that have values.


def _check_values(name: str, values: jax.Array, are_possible: Callable[[Any], Any], what: str) -> None:
    if not _is_traced(values) and not (possible := are_possible(np.asarray(values))).all():
        place = int(np.argmin(possible))
        raise ValueError(f"{name} must hold {what}, but {name}[{place}] is {np.asarray(values)[place]}.")


def _check_parameter(module: Any, name: str, value: Any, below: float = math.inf) -> None:
    if not _is_traced(value) and not 0 < np.asarray(value) < below:
        where = "positive" if below == math.inf else f"between 0 and {below:g}"
        raise ValueError(
            f"{name} of {type(module).__name__} must be {where}, not {value}. If it trains, give it a transform."
        )


# ---- likelihoods as modules of Flax Linen ----------------------------------------------------------------------------


class Gaussian(nn.Module):
    """Normal noise of the same variance everywhere. Its parameter is ``variance``, a scalar.

    Args:
      variance: the initial value, a positive number.

    Raises:
      ValueError: the initial value is not positive.

    As ``gpflow.likelihoods.Gaussian``, whose variance is above 1e-6: the transform ``positive(1e-6)``.

    >>> likelihood = Gaussian(variance=0.5)
    >>> mean, variance, y = jnp.array([[1.0]]), jnp.array([[0.25]]), jnp.array([2.0])
    >>> params = likelihood.init(jax.random.key(0), mean, variance, y)["params"]
    >>> print(likelihood.apply({"params": params}, mean, variance, y).round(3))
    [-1.822]
    >>> print(likelihood.apply({"params": params}, mean, variance, y, method="log_density").round(3))
    [-1.442]
    >>> print(*likelihood.apply({"params": params}, mean, variance, method="predict"))
    [1.] [0.75]
    """

    variance: Any = 1.0
    latents = 1

    def setup(self) -> None:
        (self.noise,) = _parameters(self, "variance")

    def __call__(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The expected log density of each observation, in closed form.

        Args:
          mean: of the latent functions, of shape ``(N, L)``.
          variance: of the latent functions, of shape ``(N, L)``.
          y: the observations, of shape ``(N,)``.

        Returns:
          An array of shape ``(N,)``.

        Raises:
          ValueError: an argument has the wrong shape, or a value that is not possible.
        """
        mean, variance = self._moments(mean, variance)
        y = _observations(mean, y)
        return jnp.asarray(gaussian(mean[:, 0], y, self.noise) - 0.5 * variance[:, 0] / self.noise)

    def predict(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        """The mean and the variance of an observation, each of shape ``(N,)``."""
        mean, variance = self._moments(mean, variance)
        return mean[:, 0], variance[:, 0] + self.noise

    def log_density(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The log predictive density of each observation, of shape ``(N,)``, in closed form."""
        mean, variance = self._moments(mean, variance)
        return gaussian(mean[:, 0], _observations(mean, y), variance[:, 0] + self.noise)

    def _moments(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        _check_parameter(self, "variance", self.noise)
        return _moments(self, mean, variance)


class Bernoulli(nn.Module):
    """Observations that are 0 or 1, see :func:`bernoulli`. It has no parameters.

    The expected log density is computed by quadrature. ``predict`` returns the probability of 1 and the variance, and
    these are exact.

    As ``gpflow.likelihoods.Bernoulli``.

    >>> mean, variance = jnp.array([[1.0], [1.0]]), jnp.array([[0.0], [3.0]])
    >>> print(Bernoulli().apply({}, mean, variance, method="predict")[0].round(3))
    [0.841 0.691]
    """

    latents = 1

    def __call__(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The expected log density of each observation, of shape ``(N,)``, by quadrature."""
        mean, variance = _moments(self, mean, variance)
        y = self._observations(mean, y)
        return quadrature(lambda f: bernoulli(f, y), mean[:, 0], variance[:, 0])

    def predict(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        """The probability of 1, which is the mean of an observation, and the variance, each of shape ``(N,)``."""
        mean, variance = _moments(self, mean, variance)
        probability = _probit(mean[:, 0] / jnp.sqrt(1 + variance[:, 0]))
        return probability, probability * (1 - probability)

    def log_density(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The log predictive probability of each observation, of shape ``(N,)``, in closed form."""
        mean, variance = _moments(self, mean, variance)
        return _of_two(self._observations(mean, y), self.predict(mean, variance)[0])

    def _observations(self, mean: jax.Array, y: Any) -> jax.Array:
        found = _observations(mean, y)
        _check_values("y", found, lambda y: (y == 0) | (y == 1), "0 or 1")
        return found


class Softmax(nn.Module):
    """Classes whose probabilities are the softmax of one latent function each, see :func:`softmax`.

    It has no parameters. The expectations have no closed form, and are averages over random draws. So each call needs
    ``key=``, a key for random numbers. The same key gives the same draws. In place of the key you can pass ``draws=``,
    standard normal numbers of shape ``(S, N, C)``.

    Args:
      classes: C, how many classes there are, which is also the number of latent functions.
      samples: how many draws are averaged for each observation. The default is GPflow's.

    Raises:
      ValueError: there are fewer than two classes, or ``samples`` is not a positive integer.

    As ``gpflow.likelihoods.Softmax``, which makes new draws in each call.

    >>> likelihood, mean = Softmax(classes=3), jnp.array([[2.0, 0.0, 0.0]])
    >>> probabilities, _ = likelihood.apply({}, mean, 0 * mean, key=jax.random.key(0), method="predict")
    >>> print(probabilities.round(3))
    [[0.787 0.107 0.107]]
    """

    classes: int
    samples: int = 100

    def setup(self) -> None:
        _check_classes(self)
        _check_number("samples", self.samples)

    @property
    def latents(self) -> int:
        return self.classes

    def __call__(self, mean: Any, variance: Any, y: Any, key: jax.Array | None = None, draws: Any = None) -> jax.Array:
        """The expected log density of each observation, of shape ``(N,)``, as an average over the draws."""
        mean, variance = _moments(self, mean, variance)
        y = _classes(self, mean, y)
        return softmax(self._drawn(mean, variance, key, draws), y).mean(0)

    def predict(
        self, mean: Any, variance: Any, key: jax.Array | None = None, draws: Any = None
    ) -> tuple[jax.Array, jax.Array]:
        """The probability of each class, and the variance of its indicator, each of shape ``(N, C)``."""
        mean, variance = _moments(self, mean, variance)
        probabilities = jax.nn.softmax(self._drawn(mean, variance, key, draws)).mean(0)
        return probabilities, probabilities * (1 - probabilities)

    def log_density(
        self, mean: Any, variance: Any, y: Any, key: jax.Array | None = None, draws: Any = None
    ) -> jax.Array:
        """The log predictive probability of each observation, of shape ``(N,)``."""
        mean, variance = _moments(self, mean, variance)
        y = _classes(self, mean, y)
        logs = softmax(self._drawn(mean, variance, key, draws), y)
        return jnp.asarray(logsumexp(logs, axis=0)) - math.log(len(logs))

    def _drawn(self, mean: jax.Array, variance: jax.Array, key: jax.Array | None, draws: Any) -> jax.Array:
        """Values of the latent functions, of shape (S, N, C)."""
        if (key is None) == (draws is None):
            raise ValueError(
                f"Softmax averages over random draws. Pass either key=, a key of jax.random, or draws=, standard "
                f"normal numbers of shape (S, {len(mean)}, {self.classes})."
            )
        if key is not None:
            draws = jax.random.normal(key, (self.samples, *mean.shape), mean.dtype)
        draws = jnp.asarray(draws, mean.dtype)
        if draws.ndim != 3 or draws.shape[1:] != mean.shape or not len(draws):
            raise ValueError(f"draws must have the shape (S, {len(mean)}, {self.classes}), not {draws.shape}.")
        _check_finite("draws", draws)
        return jnp.asarray(mean + _deviation(variance) * draws)


class RobustMax(nn.Module):
    """Classes of which the one with the largest latent function is observed, but for labels that are wrong.

    A share ``epsilon`` of the labels is wrong, see :func:`robust_max`. The parameter is ``epsilon``, a scalar. Keep it
    fixed, as GPflow does, unless you know that labels are wrong.

    Args:
      classes: C, how many classes there are, which is also the number of latent functions.
      epsilon: the initial value, between 0 and 1.

    Raises:
      ValueError: there are fewer than two classes, or the initial value is not between 0 and 1.

    As ``gpflow.likelihoods.MultiClass``, whose default is ``RobustMax``. There ``epsilon`` does not train at first, its
    transform is a sigmoid, and it has a prior.

    >>> likelihood, mean = RobustMax(classes=3, epsilon=0.1), jnp.array([[2.0, 0.0, 0.0]])
    >>> params = likelihood.init(jax.random.key(0), mean, 0 * mean, jnp.array([0]))["params"]
    >>> print(likelihood.apply({"params": params}, mean, 0 * mean, method="predict")[0].round(3))
    [[0.9  0.05 0.05]]
    """

    classes: int
    epsilon: Any = 1e-3

    def setup(self) -> None:
        _check_classes(self)
        (self.wrong,) = _parameters(self, "epsilon")

    @property
    def latents(self) -> int:
        return self.classes

    def __call__(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The expected log density of each observation, of shape ``(N,)``, by quadrature."""
        mean, variance = self._moments(mean, variance)
        hit = _hits(_classes(self, mean, y), self.classes)
        right, wrong = _logs(self.wrong, self.classes)
        largest = _largest(mean, variance, hit)
        return _if_any(hit, largest * right + (1 - largest) * wrong)

    def predict(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        """The probability of each class, and the variance of its indicator, each of shape ``(N, C)``."""
        mean, variance = self._moments(mean, variance)
        hits = jnp.eye(self.classes, dtype=bool)
        probabilities = jax.vmap(lambda hit: self._probability(_largest(mean, variance, hit)), out_axes=1)(hits)
        return probabilities, probabilities * (1 - probabilities)

    def log_density(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The log predictive probability of each observation, of shape ``(N,)``, by quadrature."""
        mean, variance = self._moments(mean, variance)
        hit = _hits(_classes(self, mean, y), self.classes)
        return _if_any(hit, jnp.log(self._probability(_largest(mean, variance, hit))))

    def _probability(self, largest: jax.Array) -> jax.Array:
        right, others = 1 - self.wrong, self.wrong / (self.classes - 1)
        return jnp.asarray(largest * right + (1 - largest) * others)

    def _moments(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        _check_parameter(self, "epsilon", self.wrong, below=1)
        return _moments(self, mean, variance)


def _largest(mean: jax.Array, variance: jax.Array, hit: jax.Array) -> jax.Array:
    """The probability that the function for which `hit` is true is the largest.

    The others are below a value with the product of their distribution functions; this is averaged over the value.
    """
    chosen, spread = (jnp.where(hit, array, 0.0).sum(-1) for array in (mean, variance))
    deviation = jnp.sqrt(jnp.maximum(variance, 1e-10))  # both bounds are GPflow's

    def others_below(f: jax.Array) -> jax.Array:
        below = ndtr((f[..., None] - mean) / deviation) * (1 - 2 * _ROBUST_SQUEEZE) + _ROBUST_SQUEEZE
        return jnp.where(hit, 1.0, below).prod(-1)

    return quadrature(others_below, chosen, jnp.maximum(spread, 0.5e-10))


def _check_classes(module: Any) -> None:
    _check_number("classes", module.classes)
    if module.classes < 2:
        raise ValueError(f"classes must be at least 2, not {module.classes}.")


def _classes(module: Any, mean: jax.Array, y: Any) -> jax.Array:
    found = _observations(mean, y)
    _hits(found, module.classes)  # asks for integers
    classes = module.classes
    _check_values("y", found, lambda y: (y >= 0) & (y < classes), f"integers from 0 to {classes - 1}")
    return found


class Poisson(nn.Module):
    """Counts, of which ``exposure * exp(f)`` are expected, see :func:`poisson`. It has no parameters.

    Each call takes ``exposure=``, of shape ``(N,)``: how much was observed. By default it is 1. The expected log
    density and ``predict`` are exact, the log predictive density is computed by quadrature.

    As ``gpflow.likelihoods.Poisson``. Its ``binsize`` is the exposure, but a setting of the likelihood and not data.

    >>> mean = jnp.array([[0.0], [0.0]])
    >>> print(Poisson().apply({}, mean, 0 * mean, exposure=jnp.array([1.0, 30.0]), method="predict")[0])
    [ 1. 30.]
    """

    latents = 1

    def __call__(self, mean: Any, variance: Any, y: Any, exposure: Any = None) -> jax.Array:
        """The expected log density of each observation, of shape ``(N,)``, in closed form."""
        mean, variance = _moments(self, mean, variance)
        y, exposure = self._counts(mean, y), self._exposure(mean, exposure)
        expected = exposure * jnp.exp(mean[:, 0] + variance[:, 0] / 2)
        return _if_count(y, y * (mean[:, 0] + jnp.log(exposure)) - expected - gammaln(y + 1))

    def predict(self, mean: Any, variance: Any, exposure: Any = None) -> tuple[jax.Array, jax.Array]:
        """The mean and the variance of a count, each of shape ``(N,)``, in closed form."""
        mean, variance = _moments(self, mean, variance)
        expected = self._exposure(mean, exposure) * jnp.exp(mean[:, 0] + variance[:, 0] / 2)
        return expected, expected + expected**2 * jnp.expm1(variance[:, 0])

    def log_density(self, mean: Any, variance: Any, y: Any, exposure: Any = None) -> jax.Array:
        """The log predictive probability of each count, of shape ``(N,)``, by quadrature."""
        mean, variance = _moments(self, mean, variance)
        y, exposure = self._counts(mean, y), self._exposure(mean, exposure)
        return log_quadrature(lambda f: poisson(f, y, exposure), mean[:, 0], variance[:, 0])

    def _counts(self, mean: jax.Array, y: Any) -> jax.Array:
        found: jax.Array = _floats(_observations(mean, y))[0]
        _check_values("y", found, lambda y: (y >= 0) & (y == np.floor(y)), "counts, whole numbers from 0")
        return found

    def _exposure(self, mean: jax.Array, exposure: Any) -> jax.Array:
        if exposure is None:
            return jnp.ones(len(mean), mean.dtype)
        found: jax.Array = _floats(exposure)[0]
        _check_one_for_each("exposure", found, "mean", len(mean))
        _check_values("exposure", found, lambda exposure: exposure > 0, "positive numbers")
        return found


class StudentT(nn.Module):
    """Noise with heavy tails, for observations of which some are far off. Its parameter is ``scale``, a scalar.

    The expected log density and the log predictive density are computed by quadrature.

    Args:
      scale: the initial value, a positive number.
      degrees_of_freedom: a positive number. It is a setting, not a parameter, as in GPflow.

    Raises:
      ValueError: a number is not positive; or ``predict`` is asked for the variance of a distribution that has none,
        with 2 degrees of freedom or fewer.

    As ``gpflow.likelihoods.StudentT``, whose scale is above 1e-6: the transform ``positive(1e-6)``.

    >>> likelihood, mean = StudentT(scale=2.0), jnp.array([[1.0]])
    >>> params = likelihood.init(jax.random.key(0), mean, mean, jnp.array([0.0]))["params"]
    >>> print(*likelihood.apply({"params": params}, mean, mean, method="predict"))
    [1.] [13.]
    """

    scale: Any = 1.0
    degrees_of_freedom: float = 3.0
    latents = 1

    def setup(self) -> None:
        (self.width,) = _parameters(self, "scale")
        if not (np.isfinite(self.degrees_of_freedom) and self.degrees_of_freedom > 0):
            raise ValueError(f"degrees_of_freedom of StudentT must be positive, not {self.degrees_of_freedom}.")

    def __call__(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The expected log density of each observation, of shape ``(N,)``, by quadrature."""
        mean, variance = self._moments(mean, variance)
        y = _observations(mean, y)
        return quadrature(lambda f: self._density(f, y), mean[:, 0], variance[:, 0])

    def predict(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        """The mean and the variance of an observation, each of shape ``(N,)``, in closed form."""
        mean, variance = self._moments(mean, variance)
        if self.degrees_of_freedom <= 2:
            raise ValueError(
                f"with {self.degrees_of_freedom} degrees of freedom a Student-t distribution has no variance. Use "
                f"log_density, or predict the function."
            )
        return mean[:, 0], variance[:, 0] + self.width**2 * self.degrees_of_freedom / (self.degrees_of_freedom - 2)

    def log_density(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The log predictive density of each observation, of shape ``(N,)``, by quadrature."""
        mean, variance = self._moments(mean, variance)
        y = _observations(mean, y)
        return log_quadrature(lambda f: self._density(f, y), mean[:, 0], variance[:, 0])

    def _density(self, f: jax.Array, y: jax.Array) -> jax.Array:
        return student_t(f, y, self.width, self.degrees_of_freedom)

    def _moments(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        _check_parameter(self, "scale", self.width)
        return _moments(self, mean, variance)


class Heteroskedastic(nn.Module):
    """Normal noise whose standard deviation is the exponential of a second function, see :func:`heteroskedastic`.

    It has two latent functions and no parameters. The expected log density and ``predict`` are exact, the log
    predictive density is computed by quadrature, over 20 by 20 points as in GPflow.

    As ``gpflow.likelihoods.HeteroskedasticTFPConditional``, which uses quadrature for all three.

    >>> mean = jnp.array([[1.0, jnp.log(2.0)]])
    >>> print(*Heteroskedastic().apply({}, mean, 0 * mean, method="predict"))
    [1.] [4.]
    """

    latents = 2

    def __call__(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The expected log density of each observation, of shape ``(N,)``, in closed form."""
        (place, log_scale), (spread, doubt) = self._columns(mean, variance)
        y = _observations(place, y)
        inverse = jnp.exp(2 * (doubt - log_scale))  # the expectation of 1 / variance
        return jnp.asarray(-0.5 * math.log(2 * math.pi) - log_scale - 0.5 * ((y - place) ** 2 + spread) * inverse)

    def predict(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        """The mean and the variance of an observation, each of shape ``(N,)``, in closed form."""
        (place, log_scale), (spread, doubt) = self._columns(mean, variance)
        return place, spread + jnp.exp(2 * (log_scale + doubt))

    def log_density(self, mean: Any, variance: Any, y: Any) -> jax.Array:
        """The log predictive density of each observation, of shape ``(N,)``, by quadrature."""
        (place, log_scale), (spread, doubt) = self._columns(mean, variance)
        y = _observations(place, y)

        def given_scale(scale: jax.Array) -> jax.Array:
            return log_quadrature(
                lambda f: gaussian(f, y, jnp.exp(2 * scale)), jnp.broadcast_to(place, scale.shape), spread
            )

        return log_quadrature(given_scale, log_scale, doubt)

    def _columns(self, mean: Any, variance: Any) -> tuple[jax.Array, jax.Array]:
        """The means of both functions, and their variances, each of shape (2, N)."""
        mean, variance = _moments(self, mean, variance)
        return mean.T, variance.T
