"""Natural gradient steps for the mean and the covariance of a normal distribution, as an Optax transformation.

A sparse Gaussian process approximates what it does not know by a normal distribution q, and trains it. Its parameters
are a node ``{"mean", "root"}``: the mean, and the lower triangular root of the covariance. A natural gradient step
takes into account how much q changes when they do.

This module is part of ``trainability.gp``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import solve_triangular

from trainability.arrays import _check_finite
from trainability.masks import _check_structure, path_of
from trainability.training import _is_traced

PyTree = Any


def natural_gradient(rate: float | jax.Array | Callable[[Any], Any]) -> optax.GradientTransformation:
    """An Optax transformation that makes natural gradient steps for normal distributions.

    Each distribution is a node ``{"mean", "root"}`` of the tree that it is given, for L independent distributions of M
    numbers. ``mean`` has the shape ``(M, L)``, and ``root`` ``(L, M, M)``: covariance ``l`` is ``root[l] @ root[l].T``.
    Only the lower triangle of ``root`` counts, and the rest is never changed.

    A step goes from the old natural parameters to new ones, against the gradient with respect to the expectation
    parameters. The loss is one to minimise, such as minus the evidence lower bound (ELBO). If the likelihood is
    Gaussian and the loss has all the data, one step with rate 1 gives the best distribution, from any start.

    Args:
      rate: the length of a step, a positive number, or an Optax schedule: a function of the number of earlier steps.

    Returns:
      A transformation whose ``init`` and ``update`` take a tree of such nodes, with None or ``optax.MaskedNode`` in the
      other places. So use it in ``optax.partition``, beside another optimizer for the other parameters. ``update``
      needs the parameters. A node that does not train is not touched, nor is a distribution whose gradient is zero.

    Raises:
      ValueError: ``rate`` is not a positive number. ``init`` and ``update`` raise it, too: the tree has other leaves,
        only one of ``mean`` and ``root`` trains, a shape is wrong, a root has a zero on its diagonal, ``update`` gets
        no parameters, the gradient is not finite, or the step leaves no covariance that is positive definite. Inside
        ``jax.jit``, and so in :func:`~trainability.fit`, the last two give NaN.
      TypeError: ``mean`` or ``root`` does not hold real floating point numbers (from ``init`` and ``update``).

    After Salimbeni, Eleftheriadis and Hensman (2018), "Natural gradients in practice". As
    ``gpflow.optimizers.NaturalGradient(gamma)``.

    Here is one number u with the prior N(0, 1), of which 2 was observed with a noise variance of 1. The step gives the
    posterior, N(1, 1/2):

    >>> def loss(q):
    ...     mean, sd = q["mean"].sum(), q["root"].sum()
    ...     return ((2 - mean) ** 2 + sd**2) / 2 + (mean**2 + sd**2) / 2 - jnp.log(sd)
    >>> q = {"mean": jnp.array([[-3.0]]), "root": jnp.array([[[0.1]]])}
    >>> optimizer = natural_gradient(1.0)
    >>> update, _ = optimizer.update(jax.grad(loss)(q), optimizer.init(q), q)
    >>> q = optax.apply_updates(q, update)
    >>> print(f"mean {q['mean'][0, 0]:.3f}, variance {q['root'][0, 0, 0] ** 2:.3f}")
    mean 1.000, variance 0.500
    """
    if not callable(rate) and not _is_traced(rate):
        number = np.asarray(rate)
        if number.shape or number.dtype.kind not in "iuf" or not 0 < number < np.inf:
            raise ValueError(f"rate must be a positive number or a schedule, not {rate!r}.")

    def init(params: PyTree) -> Any:
        _nodes(params)
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32)) if callable(rate) else optax.EmptyState()

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        if params is None:
            raise ValueError("a natural gradient step needs the parameters: call update(gradient, state, params).")
        _check_structure(params, updates, ("the tree of parameters", "the gradient"))
        now: Any = rate
        if callable(rate):
            now, state = rate(state.count), optax.ScaleByScheduleState(optax.safe_increment(state.count))
        structure: Any
        leaves, structure = jax.tree.flatten(params)
        slopes = jax.tree.leaves(updates)
        changes: list[Any] = [None] * len(leaves)
        for place, mean, root in _nodes(params):
            slope = slopes[mean], slopes[root]
            change = _change(leaves[mean], leaves[root], *slope, now)
            _check_change(place, slope, change, now)
            changes[mean], changes[root] = change
        return structure.unflatten(changes), state

    return optax.GradientTransformation(init, update)


@jax.jit  # one program, because outside of jax.jit every operation would be compiled by itself
def _change(mean: Any, root: Any, mean_slope: Any, root_slope: Any, rate: Any) -> tuple[jax.Array, jax.Array]:
    """What a step adds to the means and the roots of all L distributions."""
    change_each = jax.vmap(_change_of_one, in_axes=(0, 1, 0, None), out_axes=(1, 0))
    of_mean, of_root = change_each(jnp.tril(root), mean_slope, root_slope, jnp.asarray(rate, root.dtype))
    return of_mean.astype(mean.dtype), of_root


def _change_of_one(root: Any, mean_slope: Any, root_slope: Any, rate: Any) -> tuple[jax.Array, jax.Array]:
    """The same for one distribution, of the shapes ``(M,)`` and ``(M, M)``.

    Let S be the covariance and G the gradient with respect to it, at a given mean. By the chain rule, the gradient with
    respect to the expectation parameters (mean, S + mean meanᵀ) is (mean_slope - 2 G mean, G). The natural parameters
    are (inverse(S) mean, -inverse(S) / 2). So a step adds 2 rate G to inverse(S), and with the new S it subtracts
    rate S mean_slope from the mean.

    With S = root rootᵀ, 2 G is inverse(rootᵀ) slope inverse(root), where slope is symmetric and has the lower triangle
    of rootᵀ root_slope. So the new S is root inverse(I + rate slope) rootᵀ, and no inverse of the root is needed.
    """
    inner = root.T @ root_slope
    slope = jnp.tril(inner) + jnp.tril(inner, -1).T
    precision = jnp.eye(len(root), dtype=root.dtype) + rate * slope
    # With precision = upper @ upper.T, root @ inverse(upper.T) is a lower triangular root. The Cholesky factor of the
    # matrix with rows and columns in reverse order is such an upper factor, in reverse order.
    upper = jnp.linalg.cholesky(precision[::-1, ::-1])[::-1, ::-1]
    new_root = jnp.tril(solve_triangular(upper, root.T, lower=False).T)
    return -rate * new_root @ (new_root.T @ mean_slope), new_root - root


# ---- checks ----------------------------------------------------------------------------------------------------------


def _nodes(tree: PyTree) -> list[tuple[str, int, int]]:
    """The path of each node, and which leaves are its mean and its root. An error if there is anything else."""
    leaves = jax.tree.leaves_with_path(tree)
    found: dict[str, dict[str, int]] = {}
    for number, (keys, _) in enumerate(leaves):
        name = path_of(keys[-1:])
        if name not in ("mean", "root"):
            raise ValueError(
                f"{path_of(keys) or 'the parameter'} is not the mean or the root of a normal distribution, so it "
                f"cannot make a natural gradient step. Give it another optimizer by optax.partition."
            )
        found.setdefault(path_of(keys[:-1]), {})[name] = number
    nodes = []
    for path, numbers in found.items():
        place = f"{path}/" if path else ""
        for name, other in (("mean", "root"), ("root", "mean")):
            if name not in numbers:
                raise ValueError(
                    f"{place}{name} does not train, or is not there, but {place}{other} trains. A natural gradient "
                    f"step moves both: fix both or none."
                )
        nodes.append((place, numbers["mean"], numbers["root"]))
        _check_node(place, leaves[numbers["mean"]][1], leaves[numbers["root"]][1])
    return nodes


def _check_node(place: str, mean: Any, root: Any) -> None:
    for name, array in (("mean", mean), ("root", root)):
        if not jnp.issubdtype(jnp.result_type(array), jnp.floating):
            raise TypeError(f"{place}{name} must hold real floating point numbers, not {jnp.result_type(array)}.")
    if np.ndim(mean) != 2:
        raise ValueError(f"{place}mean must have the shape (M, L), not {np.shape(mean)}.")
    count, latents = np.shape(mean)
    if np.shape(root) != (latents, count, count):
        raise ValueError(
            f"{place}root must have the shape {(latents, count, count)}, since {place}mean has the shape "
            f"{(count, latents)}, but it has {np.shape(root)}."
        )
    if not _is_traced(root) and (np.diagonal(root, axis1=1, axis2=2) == 0).any():
        raise ValueError(
            f"{place}root has a zero on its diagonal, so the covariance is singular and has no natural parameters. "
            f"Start from another root, such as the identity matrix."
        )


def _check_change(place: str, slope: tuple[Any, Any], change: tuple[Any, Any], rate: Any) -> None:
    if _is_traced(slope, change) or all(np.isfinite(array).all() for array in change):
        return
    for name, array in zip(("mean", "root"), slope, strict=True):
        _check_finite(f"the gradient of {place}{name}", array)
    name = place.rstrip("/") or "the distribution"
    raise ValueError(
        f"after a step with rate {float(rate):g}, the covariance of {name} would not be positive definite. Use a "
        f"smaller rate."
    )
