"""What the modules of Gaussian processes share: arrays of one dtype, checks of their shapes and values, and a factor.

The checks of values need values. Inside ``jax.jit`` an array has none, and only its shape is checked.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainability.training import _is_traced


def _floats(*arrays: Any) -> list[jax.Array]:
    """The arguments as arrays of the floating point type to which they promote."""
    found = [jnp.asarray(array) for array in arrays]
    dtype = jnp.result_type(*found, 1.0)
    return [array.astype(dtype) for array in found]


def _check_finite(name: str, array: jax.Array) -> None:
    if not _is_traced(array) and not np.isfinite(array).all():
        place = ", ".join(map(str, np.argwhere(~np.isfinite(array))[0]))
        raise ValueError(
            f"{name} has a value that is not finite: {name}[{place}] is {np.asarray(array)[~np.isfinite(array)][0]}."
        )


def _check_points(name: str, points: jax.Array) -> None:
    if points.ndim != 2:
        advice = f" If the points have one coordinate, pass {name}[:, None]." if points.ndim == 1 else ""
        raise ValueError(f"{name} must have the shape (N, D), a row for each point, not {points.shape}.{advice}")
    if not points.size:
        raise ValueError(f"{name} is empty: it has the shape {points.shape}.")
    _check_finite(name, points)


def _check_one_for_each(name: str, values: jax.Array, points: str, count: int) -> None:
    if values.ndim != 1:
        advice = f" Pass {name}[:, 0]." if values.ndim == 2 and values.shape[1] == 1 else ""
        raise ValueError(
            f"{name} must have the shape (N,), a number for each row of {points}, not {values.shape}.{advice}"
        )
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} numbers, but {points} has {count} rows.")
    _check_finite(name, values)


def _check_square(name: str, matrix: jax.Array) -> None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must have the shape (N, N), not {matrix.shape}.")
    if not matrix.size:
        raise ValueError(f"{name} is empty: it has the shape {matrix.shape}.")


def _cholesky(covariance: jax.Array) -> jax.Array:
    """The lower Cholesky factor. An error if there is none, or inside ``jax.jit`` NaN."""
    factor: jax.Array = jnp.linalg.cholesky(covariance)
    if not _is_traced(factor) and not np.isfinite(factor).all():
        _check_finite("covariance", covariance)
        raise ValueError(
            f"the covariance of {len(covariance)} points is not positive definite in {covariance.dtype}. Check that "
            f"the variances and lengthscales are positive. Then use a larger noise variance or jitter, leave out "
            f"points that coincide, or use 64-bit floats."
        )
    return factor
