"""Sparse variational Gaussian processes in Flax Linen, in which you choose what trains.

A sparse process is described by its values at M inducing points, and not by those at all data. Their distribution is
``q``, a normal distribution for each latent function. It is held as a tree ``{"mean": …, "root": …}``: means of shape
``(M, L)``, and square roots of the covariances of shape ``(L, M, M)``, one for each of the L latent functions. Only the
lower triangle of a root is used. What is above it enters no result, so it has a gradient of zero.

The mathematics is in pure functions of arrays: :func:`divergence`, :func:`project`, :func:`collapsed_bound` and
:func:`optimal_q`. The class :class:`Sparse` holds the parameters. Checks are as in ``trainability.gp``: bad values
raise an error where the arrays have values, and give NaN inside ``jax.jit``. Wrong shapes raise an error in both cases.

The names are also in ``trainability.gp``, which is where to import them from.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from trainability.arrays import (
    _check_finite,
    _check_one_for_each,
    _check_points,
    _check_square,
    _cholesky,
    _floats,
)
from trainability.kernels import diagonal
from trainability.training import _is_traced

# ---- checks ----------------------------------------------------------------------------------------------------------


def _check_q(mean: jax.Array, root: jax.Array) -> None:
    if mean.ndim != 2:
        advice = " For one latent function, pass mean[:, None]." if mean.ndim == 1 else ""
        raise ValueError(
            f"mean must have the shape (M, L), a column for each latent function, not {mean.shape}.{advice}"
        )
    count, latents = mean.shape
    if root.shape != (latents, count, count):
        advice = " For one latent function, pass root[None]." if root.shape == (count, count) else ""
        raise ValueError(
            f"root must have the shape {(latents, count, count)}, a matrix for each latent function, not "
            f"{root.shape}.{advice}"
        )
    for name, array in (("mean", mean), ("root", root)):
        _check_finite(name, array)


def _check_covariance(covariance: jax.Array, mean: jax.Array) -> None:
    _check_square("covariance", covariance)
    if len(covariance) != len(mean):
        raise ValueError(f"covariance has {len(covariance)} rows, but mean has {len(mean)}.")


def _check_cross(cross: jax.Array, covariance: jax.Array) -> None:
    if cross.ndim != 2 or len(cross) != len(covariance):
        raise ValueError(f"cross must have the shape ({len(covariance)}, N), not {cross.shape}.")
    _check_finite("cross", cross)


def _check_noise(noise_variance: jax.Array, count: int) -> None:
    if noise_variance.shape not in ((), (count,)):
        raise ValueError(f"noise_variance must have the shape () or ({count},), not {noise_variance.shape}.")
    _check_finite("noise_variance", noise_variance)
    # Inside jax.jit, JAX would trace even the comparison of a known array.
    if not _is_traced(noise_variance) and (np.asarray(noise_variance) <= 0).any():
        raise ValueError(f"noise_variance must be positive, but its smallest value is {noise_variance.min()}.")


# ---- the distribution of the inducing values -------------------------------------------------------------------------


def divergence(mean: Any, root: Any, covariance: Any = None) -> jax.Array:
    """The Kullback-Leibler divergence of ``q`` from the prior, summed over the latent functions.

    It is that of the normal distributions with means ``mean[:, i]`` and covariances ``root[i] @ root[i].T`` from the
    one with mean zero and the given covariance.

    Args:
      mean: of shape ``(M, L)``.
      root: of shape ``(L, M, M)``. Only the lower triangles are used.
      covariance: of the prior, the same for all latent functions, of shape ``(M, M)``. None means the identity, which
        is the prior of whitened values.

    Returns:
      A scalar, in the dtype to which the arguments promote: zero if the distributions are equal, and infinity if there
      is a zero on a diagonal of ``root``.

    Raises:
      ValueError: an argument has the wrong shape or a value that is not finite, or the covariance is not positive
        definite. Inside ``jax.jit`` the result is NaN in the last two cases.

    After ``gpflow.kullback_leiblers.gauss_kl``.

    >>> print(divergence(jnp.array([[3.0], [4.0]]), jnp.eye(2)[None]))
    12.5
    """
    if covariance is None:
        mean, root = _floats(mean, root)
        _check_q(mean, root)
        return _divergence(mean, root, None)
    mean, root, covariance = _floats(mean, root, covariance)
    _check_q(mean, root)
    _check_covariance(covariance, mean)
    return _divergence(mean, root, _cholesky(covariance))


def _divergence(mean: jax.Array, root: jax.Array, factor: jax.Array | None) -> jax.Array:
    """With the lower Cholesky factor of the covariance of the prior, or None for the identity."""
    root, latents = jnp.tril(root), len(root)
    log_determinants = jnp.log(jnp.diagonal(root, axis1=1, axis2=2) ** 2).sum()
    if factor is not None:
        log_determinants -= latents * jnp.log(jnp.diagonal(factor) ** 2).sum()
        mean = solve_triangular(factor, mean, lower=True)
        root = jax.vmap(lambda each: solve_triangular(factor, each, lower=True))(root)
    return 0.5 * ((mean**2).sum() + (root**2).sum() - mean.size - log_determinants)


def project(
    covariance: Any, cross: Any, prior: Any, mean: Any, root: Any, *, whiten: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of the latent functions at some points, given ``q``.

    Args:
      covariance: the prior covariance at the inducing points, of shape ``(M, M)``. It includes the jitter.
      cross: the prior covariances of the inducing points with the points, of shape ``(M, N)``.
      prior: of the points: their prior variances, of shape ``(N,)``, or their covariances, of shape ``(N, N)``.
      mean: of ``q``, of shape ``(M, L)``.
      root: of ``q``, of shape ``(L, M, M)``. Only the lower triangles are used.
      whiten: whether ``q`` is about the whitened values ``v``. The values at the inducing points are then
        ``cholesky(covariance) @ v``. Otherwise ``q`` is about these values themselves.

    Returns:
      The means, of shape ``(N, L)``, without those of the prior, and the variances, of shape ``(N, L)``, or the
      covariances, of shape ``(L, N, N)``.

    Raises:
      ValueError: an argument has the wrong shape or a value that is not finite, or the covariance is not positive
        definite. Inside ``jax.jit`` the result is NaN in the last two cases.

    After ``gpflow.conditionals.util.base_conditional``.

    >>> mean, variance = project([[4.0]], [[2.0]], [3.0], [[6.0]], [[[0.0]]], whiten=False)
    >>> print(mean, variance)
    [[3.]] [[2.]]
    """
    covariance, cross, prior, mean, root = _floats(covariance, cross, prior, mean, root)
    _check_q(mean, root)
    _check_covariance(covariance, mean)
    _check_cross(cross, covariance)
    count = cross.shape[1]
    if prior.shape not in ((count,), (count, count)):
        raise ValueError(f"prior must have the shape ({count},) or ({count}, {count}), not {prior.shape}.")
    _check_finite("prior", prior)
    return _project(_cholesky(covariance), cross, prior, mean, root, whiten)


def _project(
    factor: jax.Array, cross: jax.Array, prior: jax.Array, mean: jax.Array, root: jax.Array, whiten: bool
) -> tuple[jax.Array, jax.Array]:
    explained = solve_triangular(factor, cross, lower=True)
    weights = explained if whiten else solve_triangular(factor, explained, lower=True, trans="T")
    spread = jnp.swapaxes(jnp.tril(root), 1, 2) @ weights  # [L, M, N]
    if prior.ndim == 2:
        return weights.T @ mean, prior - explained.T @ explained + jnp.swapaxes(spread, 1, 2) @ spread
    # Rounding can make what the inducing points leave open negative.
    rest = jnp.maximum(prior - (explained**2).sum(0), 0)
    return weights.T @ mean, (rest + (spread**2).sum(1)).T


# ---- regression, where the best q is known ---------------------------------------------------------------------------


def _whitened(
    covariance: Any, cross: Any, noise_variance: Any, residual: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """What both functions need: the factor of the covariance, and all else in units of the noise."""
    covariance, cross, noise_variance, residual = _floats(covariance, cross, noise_variance, residual)
    _check_square("covariance", covariance)
    _check_cross(cross, covariance)
    _check_one_for_each("residual", residual, "cross.T", cross.shape[1])
    _check_noise(noise_variance, len(residual))
    factor, noise = _cholesky(covariance), jnp.sqrt(noise_variance)
    explained = solve_triangular(factor, cross / noise, lower=True)
    precision = jnp.eye(len(factor), dtype=factor.dtype) + explained @ explained.T
    return factor, explained, precision, residual / noise, noise


def collapsed_bound(covariance: Any, cross: Any, prior: Any, noise_variance: Any, residual: Any) -> jax.Array:
    """The bound of Titsias on the log marginal likelihood of noisy observations: the ELBO at :func:`optimal_q`.

    Args:
      covariance: the prior covariance at the inducing points, of shape ``(M, M)``. It includes the jitter.
      cross: the prior covariances of the inducing points with the data, of shape ``(M, N)``.
      prior: the prior variances at the data, of shape ``(N,)``.
      noise_variance: a scalar, or one for each observation, of shape ``(N,)``.
      residual: the observations minus the mean function, of shape ``(N,)``.

    Returns:
      A scalar, in the dtype to which the arguments promote. It is at most the log marginal likelihood.

    Raises:
      ValueError: an argument has the wrong shape or a value that is not finite, the noise variance is not positive, or
        the covariance is not positive definite. Inside ``jax.jit`` bad values give NaN.

    As ``gpflow.models.SGPR``. With an inducing point at each point of the data, it is the exact log marginal
    likelihood:

    >>> bound = collapsed_bound(jnp.eye(2), jnp.eye(2), jnp.ones(2), 1.0, jnp.array([1.0, 2.0]))
    >>> exact = jax.scipy.stats.norm.logpdf(jnp.array([1.0, 2.0]), scale=jnp.sqrt(2.0)).sum()
    >>> print(f"{bound:.3f} {exact:.3f}")
    -3.781 -3.781
    """
    _, explained, precision, residual, noise = _whitened(covariance, cross, noise_variance, residual)
    (prior,) = _floats(prior)
    _check_one_for_each("prior", prior, "cross.T", len(residual))
    factor = _cholesky(precision)
    fitted = solve_triangular(factor, explained @ residual, lower=True)
    log_determinant = jnp.log(jnp.diagonal(factor)).sum() + jnp.log(jnp.broadcast_to(noise, residual.shape)).sum()
    unexplained = (prior / noise**2).sum() - (explained**2).sum()
    log_scale = log_determinant + 0.5 * len(residual) * math.log(2 * math.pi)
    bound: jax.Array = -0.5 * ((residual**2).sum() - (fitted**2).sum() + unexplained) - log_scale
    return bound


def optimal_q(
    covariance: Any, cross: Any, noise_variance: Any, residual: Any, *, whiten: bool = True
) -> tuple[jax.Array, jax.Array]:
    """The distribution of the inducing values that has the largest ELBO if the noise is Gaussian.

    Args:
      covariance: the prior covariance at the inducing points, of shape ``(M, M)``. It includes the jitter.
      cross: the prior covariances of the inducing points with the data, of shape ``(M, N)``.
      noise_variance: a scalar, or one for each observation, of shape ``(N,)``.
      residual: the observations minus the mean function, of shape ``(N,)``.
      whiten: whether the result is about whitened values, see :func:`project`.

    Returns:
      The mean, of shape ``(M, 1)``, and the root, of shape ``(1, M, M)``, lower triangular.

    Raises:
      ValueError: an argument has the wrong shape or a value that is not finite, the noise variance is not positive, or
        the covariance is not positive definite. Inside ``jax.jit`` bad values give NaN.

    The posterior of ``gpflow.models.SGPR``.

    >>> mean, root = optimal_q([[1.0]], [[1.0]], 1.0, [3.0])
    >>> print(mean, root.round(3))
    [[1.5]] [[[0.707]]]
    """
    factor, explained, precision, residual, _ = _whitened(covariance, cross, noise_variance, residual)
    # The Cholesky factor of the reversed matrix, itself reversed, is upper triangular. Its inverse, transposed, is a
    # lower triangular root of the inverse of the precision.
    upper = _cholesky(precision[::-1, ::-1])[::-1, ::-1]
    root = solve_triangular(upper, jnp.eye(len(upper), dtype=upper.dtype), trans="T")
    mean = root @ (root.T @ (explained @ residual))
    if not whiten:
        mean, root = factor @ mean, factor @ root
    return mean[:, None], root[None]


# ---- the model -------------------------------------------------------------------------------------------------------


class Sparse(nn.Module):
    """A sparse variational Gaussian process. Called, it returns the evidence lower bound (ELBO).

    The parameters are ``{"kernel": …, "likelihood": …, "mean": …, "inducing": …, "q": {"mean": …, "root": …}}``: the
    inducing points of shape ``(M, D)``, the means of ``q`` of shape ``(M, L)``, and its roots of shape ``(L, M, M)``.
    There is no ``mean`` without a mean function, and no ``likelihood`` if that has no parameters. L is the number of
    latent functions of the likelihood. All of them share the kernel, the mean function and the inducing points.

    The upper triangles of the roots do not count: they have a gradient of zero. At the start ``q`` has the means
    0 and the identity for roots. If it is whitened, this is the prior.

    Args:
      kernel: a kernel of ``trainability.gp``, or any Linen module that is called as ``kernel(x1, x2=None)``.
      likelihood: a likelihood of ``trainability.gp``, or any Linen module that has its ``latents`` and methods.
      inducing: the initial inducing points, of shape ``(M, D)``.
      mean: :class:`ConstantMean`, :class:`LinearMean`, or any Linen module that is called as ``mean(x)``. None means
        zero.
      whiten: whether ``q`` is about the whitened values ``v``, where the values at the inducing points are
        ``cholesky(covariance) @ v``, or about these values themselves.
      jitter: is added to the prior variances at the inducing points. The default is GPflow's.

    As ``gpflow.models.SVGP``.

    >>> from trainability.gp import Gaussian, SquaredExponential
    >>> x, y = jnp.array([[0.0], [1.0], [2.0]]), jnp.array([0.0, 1.0, 0.0])
    >>> model = Sparse(SquaredExponential(), Gaussian(variance=0.5), inducing=x[::2])
    >>> params = model.init(jax.random.key(0), x, y)["params"]
    >>> print(jax.tree.map(jnp.shape, params["q"]))
    {'mean': (2, 1), 'root': (1, 2, 2)}
    >>> print(f"{model.apply({'params': params}, x, y):.3f}")
    -5.717
    >>> mean, variance = model.apply({"params": params}, jnp.array([[0.5]]), method="predict")
    >>> print(mean, variance)
    [0.] [1.]
    """

    kernel: Any
    likelihood: Any
    inducing: Any
    mean: Any = None
    whiten: bool = True
    jitter: float = 1e-6

    def setup(self) -> None:
        inducing = _floats(self.inducing)[0]
        _check_points("inducing", inducing)
        count, latents = len(inducing), self.likelihood.latents
        identity = jnp.eye(count, dtype=inducing.dtype)
        start = {
            "mean": jnp.zeros((count, latents), inducing.dtype),
            "root": jnp.broadcast_to(identity, (latents, count, count)),
        }
        self.points = self.param("inducing", lambda key: inducing)
        self.q = self.param("q", lambda key: start)

    def __call__(self, x: Any, y: Any, count: Any = None, **data: Any) -> jax.Array:
        """The evidence lower bound, which is at most the log marginal likelihood.

        Args:
          x: the points, of shape ``(N, D)``.
          y: the observations, of shape ``(N,)``.
          count: the number of all data, if ``x`` and ``y`` are a minibatch of them. The expected log likelihood of the
            minibatch is then multiplied by ``count / N``. If the minibatch is drawn at random, the result has the bound
            of all data as its mean.
          **data: what the likelihood needs beside ``y``.

        Returns:
          A scalar.

        Raises:
          ValueError: an argument has the wrong shape or a value that is not finite; ``count`` is smaller than N; or the
            covariance at the inducing points is not positive definite.

        As ``gpflow.models.SVGP.elbo``.
        """
        x, y = self._new_points("x", x), jnp.asarray(y)
        _check_one_for_each("y", y, "x", len(x))
        factor = self._factor()
        mean, variance = self._latent(factor, x, full_covariance=False)
        expected: jax.Array = self.likelihood(mean, variance, y, **data).sum()
        if count is not None:
            expected *= _check_count(count, len(x)) / len(x)
        return expected - _divergence(self.q["mean"], self.q["root"], None if self.whiten else factor)

    def predict(self, new_x: Any, *, full_covariance: bool = False, observed: bool = False, **data: Any) -> Any:
        """Mean and variance at new points.

        Call it as ``model.apply({"params": params}, new_x, method="predict")``.

        Args:
          new_x: the new points, of shape ``(N, D)``.
          full_covariance: whether to return the covariances of the new points in place of their variances.
          observed: whether to predict an observation in place of the latent functions.
          **data: what the likelihood needs for an observation.

        Returns:
          The means, of shape ``(N, L)``, and the variances, of shape ``(N, L)``, or the covariances, of shape
          ``(L, N, N)``. With one latent function, the shapes are ``(N,)``, and ``(N,)`` or ``(N, N)``. With
          ``observed``, what the method ``predict`` of the likelihood returns.

        Raises:
          ValueError: ``new_x`` has the wrong shape or a value that is not finite; ``observed`` and ``full_covariance``
            are both asked for; or the covariance at the inducing points is not positive definite.

        As ``predict_f`` and, with ``observed``, ``predict_y`` of ``gpflow.models.SVGP``.
        """
        if observed and full_covariance:
            raise ValueError(
                "observed and full_covariance do not go together: a likelihood predicts each observation by itself. "
                "Predict without observed, and add the noise yourself."
            )
        mean, variance = self._latent(self._factor(), self._new_points("new_x", new_x), full_covariance)
        if observed:
            return self.likelihood.predict(mean, variance, **data)
        if mean.shape[1] > 1:
            return mean, variance
        return mean[:, 0], variance[0] if full_covariance else variance[:, 0]

    def log_density(self, new_x: Any, new_y: Any, **data: Any) -> jax.Array:
        """The logarithm of the predictive density of each of some new observations.

        Call it as ``model.apply({"params": params}, new_x, new_y, method="log_density")``.

        Args:
          new_x: the new points, of shape ``(N, D)``.
          new_y: the new observations, of shape ``(N,)``.
          **data: what the likelihood needs beside ``new_y``.

        Returns:
          The log densities, of shape ``(N,)``.

        Raises:
          ValueError: an argument has the wrong shape or a value that is not finite; or the covariance at the inducing
            points is not positive definite.

        As ``gpflow.models.SVGP.predict_log_density``.
        """
        new_x, new_y = self._new_points("new_x", new_x), jnp.asarray(new_y)
        _check_one_for_each("new_y", new_y, "new_x", len(new_x))
        mean, variance = self._latent(self._factor(), new_x, full_covariance=False)
        density: jax.Array = self.likelihood.log_density(mean, variance, new_y, **data)
        return density

    def _new_points(self, name: str, points: Any) -> jax.Array:
        found: jax.Array = _floats(points)[0]
        _check_points(name, found)
        if found.shape[1] != self.points.shape[1]:
            raise ValueError(f"{name} has {found.shape[1]} columns, but inducing has {self.points.shape[1]}.")
        return found

    def _factor(self) -> jax.Array:
        """The Cholesky factor of the prior covariance at the inducing points."""
        _check_points("inducing", self.points)
        covariance = self.kernel(self.points)
        return _cholesky(covariance + self.jitter * jnp.eye(len(covariance), dtype=covariance.dtype))

    def _latent(self, factor: jax.Array, x: jax.Array, full_covariance: bool) -> tuple[jax.Array, jax.Array]:
        """Means and variances or covariances of the latent functions at some points, with an axis for the functions."""
        mean, root = self.q["mean"], self.q["root"]
        _check_q(mean, root)
        prior = self.kernel(x) if full_covariance else diagonal(self.kernel, x)
        mean, variance = _project(factor, self.kernel(self.points, x), prior, mean, root, self.whiten)
        return mean if self.mean is None else mean + self.mean(x)[:, None], variance


def _check_count(count: Any, size: int) -> Any:
    if np.shape(count) != ():
        raise ValueError(f"count must be one number, that of all data, not an array of the shape {np.shape(count)}.")
    if not _is_traced(count) and not np.asarray(count) >= size:
        raise ValueError(f"count is the number of all data, but it is {count}, and the minibatch has {size}.")
    return count
