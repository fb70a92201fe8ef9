"""Constraints and priors of parameters, as data beside them, and one table of all of it.

Beside the parameters and their mask there are two more trees with the same structure. ``transforms`` has a bijector at
each leaf, or None for a parameter without a constraint. ``priors`` has a distribution at each leaf, or None. The
parameters themselves are stored as they enter the model: a variance of 1.0 is stored as 1.0.

A *bijector* is any object that is called as ``way(free)``, and has ``way.inv(value)`` and
``way.log_abs_det_jacobian(free, value)``: those of NumPyro, or :func:`positive`. A *prior* is any object with
``prior.log_prob(value)``, such as a distribution of NumPyro. It is a density of the parameter itself, not of the free
number behind it, as in GPflow.

Only a parameter that trains is transformed. A fixed one stays what you set, bit for bit.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from trainability import masks, training
from trainability.masks import (
    _at_or_below,
    _can_train,
    _cannot_train,
    _check_mask,
    _described,
    _differ_in_structure,
    _no_match,
    _paths_and_leaves,
    _structure,
    combine,
    partition,
    path_of,
)

PyTree = Any

# ---- bijectors -------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Positive:
    """A softplus, shifted by the lower bound."""

    lower: float

    @property
    def name(self) -> str:
        return f"softplus + {self.lower:g}" if self.lower else "softplus"

    def __call__(self, free: Any) -> jax.Array:
        above: jax.Array = _softplus(free, self.lower)
        return above

    def inv(self, value: Any) -> jax.Array:
        free: jax.Array = _before_softplus(value, self.lower)
        return free

    def log_abs_det_jacobian(self, free: Any, value: Any) -> jax.Array:
        return -jax.nn.softplus(-free)


@jax.jit  # one program each, because outside of jax.jit every operation would be compiled by itself
def _softplus(free: Any, lower: float) -> jax.Array:
    return lower + jax.nn.softplus(free)


@jax.jit
def _before_softplus(value: Any, lower: float) -> jax.Array:
    above = jnp.asarray(value) - lower
    return above + jnp.log(-jnp.expm1(-above))  # log(exp(above) - 1) overflows


def positive(lower: float = 0.0) -> Any:
    """The bijector for positive numbers, or for those above a lower bound: ``lower + log(1 + exp(free))``.

    GPflow has the same one, with ``lower=0`` for the parameters of kernels and ``lower=1e-6`` for the noise variance.

    Args:
      lower: the lower bound, a Python number. The bound itself is outside.

    Returns:
      A bijector for arrays of any shape.

    Raises:
      ValueError: ``lower`` is not a finite number.

    >>> way = positive()
    >>> print(way(0.0), way.inv(way(3.0)))
    0.6931472 3.0
    """
    if not isinstance(lower, (int, float)) or not np.isfinite(lower):
        raise ValueError(f"lower must be a finite Python number, not {_described(lower)}.")
    return _Positive(float(lower))


# ---- trees beside the parameters -------------------------------------------------------------------------------------


def _is_end(node: Any) -> bool:
    """Whether a node of a tree beside the parameters belongs to one of them; bijectors and priors may be pytrees."""
    return node is None or hasattr(node, "log_abs_det_jacobian") or hasattr(node, "log_prob")


def _beside(params: PyTree, tree: PyTree, name: str) -> list[Any]:
    """What a tree of transforms or priors has for each parameter."""
    structure: Any
    ends, structure = jax.tree.flatten(tree, is_leaf=_is_end)
    if structure != _structure(params):
        raise _differ_in_structure(params, tree, ("the tree of parameters", f"the tree of {name}"), _is_end)
    needs = {"transforms": ("__call__", "inv", "log_abs_det_jacobian"), "priors": ("log_prob",)}[name]
    for (path, _), end in zip(_paths_and_leaves(params), ends, strict=True):
        if end is None or (not isinstance(end, type) and all(hasattr(end, need) for need in needs)):
            continue
        was = f"the class {end.__name__}" if isinstance(end, type) else _described(end)
        kind = {"transforms": "a bijector, such as positive()", "priors": "a distribution, with a method log_prob"}[
            name
        ]
        raise TypeError(f"the tree of {name} must have {kind}, or None at each leaf, but {path} has {was}.")
    return ends


def unconstrain(params: PyTree, transforms: PyTree, trainable: PyTree) -> PyTree:
    """The parameters with those that train replaced by free numbers, for an optimizer or a sampler.

    Args:
      params: a pytree of arrays or numbers, as they enter the model.
      transforms: a pytree with the structure of ``params``, of bijectors and None.
      trainable: a static mask.

    Returns:
      A pytree with that structure. A leaf that trains and has a bijector is replaced by ``way.inv(leaf)``. Any other
      leaf is the same object as before. So a fixed value need not satisfy its constraint: a variance may be fixed at
      0.0.

    Raises:
      ValueError: a value that trains is outside its constraint (not checked inside ``jax.jit``); or two trees differ in
        structure.
      TypeError: a leaf of ``transforms`` is neither a bijector nor None; the mask is not static; or a leaf that should
        train has no gradient.

    >>> params, ways = {"a": 3.0, "b": 0.1}, {"a": positive(), "b": positive()}
    >>> raw = unconstrain(params, ways, {"a": True, "b": False})
    >>> print(round(float(raw["a"]), 3), raw["b"])
    2.949 0.1
    """
    _check_mask(params, trainable)
    ways, structure = _beside(params, transforms, "transforms"), _structure(params)
    raw = []
    for (path, leaf), train, way in zip(_paths_and_leaves(params), jax.tree.leaves(trainable), ways, strict=True):
        if train and not _can_train(path, leaf):
            raise _cannot_train(path, leaf)
        raw.append(_free(path, leaf, way) if train and way is not None else leaf)
    return structure.unflatten(raw)


def _free(path: str, leaf: Any, way: Any) -> Any:
    free = way.inv(leaf)
    if isinstance(free, jax.core.Tracer) or np.all(np.isfinite(free)):
        return free
    outside = leaf if np.shape(leaf) != np.shape(free) else np.asarray(leaf)[~np.isfinite(free)][0]
    raise ValueError(
        f"{path or 'the parameter'} has the value {outside}, which is outside its constraint ({_name(way)}). Start "
        f"from a value inside it, or fix this parameter, or give it another transform or None."
    )


def constrain(raw: PyTree, transforms: PyTree, trainable: PyTree) -> PyTree:
    """The parameters, from what :func:`unconstrain` returned.

    Args:
      raw: a pytree of free numbers where the mask is True, and of the parameters themselves where it is False.
      transforms: a pytree with that structure, of bijectors and None.
      trainable: the static mask that was given to :func:`unconstrain`.

    Returns:
      A pytree with that structure. A leaf that trains and has a bijector is replaced by ``way(leaf)``. Any other leaf
      is the same object as before.

    Raises:
      ValueError: two trees differ in structure.
      TypeError: a leaf of ``transforms`` is neither a bijector nor None; or the mask is not static.

    >>> params = constrain({"a": 0.0, "b": 0.1}, {"a": positive(), "b": positive()}, {"a": True, "b": False})
    >>> print(params["a"], params["b"])
    0.6931472 0.1
    """
    _check_mask(raw, trainable)
    ways, structure = _beside(raw, transforms, "transforms"), _structure(raw)
    triples = zip(jax.tree.leaves(raw), jax.tree.leaves(trainable), ways, strict=True)
    return structure.unflatten([way(leaf) if train and way is not None else leaf for leaf, train, way in triples])


def log_jacobian(raw: PyTree, transforms: PyTree, trainable: PyTree) -> jax.Array:
    """The logarithm of the Jacobian determinant of :func:`constrain`, over the parameters that train.

    Add it to a log density of the parameters to get that of the free numbers.

    Args:
      raw: what :func:`unconstrain` returned.
      transforms: a pytree with that structure, of bijectors and None.
      trainable: the static mask that was given to :func:`unconstrain`.

    Returns:
      A number of shape ``()``. It is 0 if no parameter that trains has a bijector.

    Raises:
      ValueError: two trees differ in structure.
      TypeError: a leaf of ``transforms`` is neither a bijector nor None; or the mask is not static.

    >>> print(log_jacobian({"a": 0.0, "b": 5.0}, {"a": positive(), "b": None}, {"a": True, "b": True}))
    -0.6931472
    """
    _check_mask(raw, trainable)
    ways = _beside(raw, transforms, "transforms")
    triples = zip(jax.tree.leaves(raw), jax.tree.leaves(trainable), ways, strict=True)
    chosen = [(leaf, way) for leaf, train, way in triples if train and way is not None]
    return jnp.asarray(sum(jnp.sum(way.log_abs_det_jacobian(leaf, way(leaf))) for leaf, way in chosen))


# ---- priors ----------------------------------------------------------------------------------------------------------


def log_prior(params: PyTree, priors: PyTree) -> jax.Array:
    """The sum of the log densities of all parameters that have a prior, trainable or fixed.

    The term of a fixed parameter is a constant: it changes no gradient, and keeps the values of different masks
    comparable. GPflow leaves it out.

    Args:
      params: a pytree of arrays or numbers, as they enter the model.
      priors: a pytree with that structure, of distributions and None.

    Returns:
      A number of shape ``()``. It is 0 if there are no priors. A distribution of NumPyro gives minus infinity for a
      value outside its support.

    Raises:
      ValueError: the trees differ in structure; or a prior has more numbers than its parameter.
      TypeError: a leaf of ``priors`` is neither a distribution nor None.

    >>> import numpyro.distributions as dist
    >>> print(log_prior({"a": 0.0, "b": 5.0}, {"a": dist.Normal(0.0, 1.0), "b": None}))
    -0.9189385
    """
    return jnp.asarray(sum(density for _, density in _log_priors(params, priors)))


def _log_priors(params: PyTree, priors: PyTree) -> list[tuple[str, jax.Array]]:
    """The log density of each parameter that has a prior, with its path."""
    found = []
    for (path, leaf), prior in zip(_paths_and_leaves(params), _beside(params, priors, "priors"), strict=True):
        if prior is None:
            continue
        density = prior.log_prob(leaf)
        if np.size(density) > np.size(leaf):  # the sum would count the parameter several times
            raise ValueError(
                f"the prior of {path or 'the parameter'} has the shape {np.shape(density)}, but the parameter has "
                f"{np.shape(leaf)}."
            )
        found.append((path, jnp.sum(density)))
    return found


# ---- fits and samplers -----------------------------------------------------------------------------------------------


def fit_lbfgs(
    loss: Callable[..., Any],
    params: PyTree,
    trainable: PyTree,
    transforms: PyTree,
    *,
    args: tuple[Any, ...] = (),
    **settings: Any,
) -> training.LbfgsFit:
    """Minimise a loss with scipy's L-BFGS-B over the free numbers behind the parameters that train.

    It is :func:`trainability.fit_lbfgs` between :func:`unconstrain` and :func:`constrain`.

    Args:
      loss: a function that returns a floating point number of shape ``()``. It is called as ``loss(params, *args)``
        with parameters as they enter the model. If the fit cannot start, it is called once more without compilation,
        so that its own error on bad data reaches you.
      params: a pytree of arrays or numbers. It is not changed.
      trainable: a static mask.
      transforms: a pytree with the structure of ``params``, of bijectors and None.
      args: a tuple of pytrees of arrays or numbers, such as the data.
      **settings: ``maxiter``, ``gtol``, ``ftol``, ``bounds`` and ``progress`` of :func:`trainability.fit_lbfgs`.
        Tolerances and bounds are those of the free numbers.

    Returns:
      A :class:`~trainability.LbfgsFit`. Its ``params`` are as they enter the model, and the fixed ones are the same
      objects as before. Its ``result.x`` holds the free numbers.

    Raises:
      ValueError: a value that trains is outside its constraint; nothing trains; two trees differ in structure; the loss
        is not finite at the start; a setting is wrong.
      TypeError: a leaf of ``transforms`` is neither a bijector nor None; the mask is not static; a leaf that should
        train has no gradient; ``args`` is not a tuple.

    >>> def loss(params):  # without the constraint, its minimum is at -1
    ...     return (params["a"] + 1) ** 2 - params["b"]
    >>> fitted = fit_lbfgs(loss, {"a": 1.0, "b": 2.0}, {"a": True, "b": False}, {"a": positive(0.5), "b": positive()})
    >>> print(round(float(fitted.params["a"]), 2), fitted.params["b"])
    0.5 2.0
    """
    raw = unconstrain(params, transforms, trainable)

    def loss_of_raw(raw: PyTree, *args: Any) -> Any:
        return loss(constrain(raw, transforms, trainable), *args)

    try:
        fitted = training.fit_lbfgs(loss_of_raw, raw, trainable, args=args, **settings)
    except ValueError:
        # With known values the loss may say what is wrong with them. Called so each time, it would take a second.
        loss(params, *args)
        raise
    return fitted._replace(params=constrain(fitted.params, transforms, trainable))


def potential(
    loss: Callable[..., Any],
    params: PyTree,
    trainable: PyTree,
    transforms: PyTree,
    priors: PyTree,
    *,
    args: tuple[Any, ...] = (),
) -> tuple[Callable[[PyTree], jax.Array], PyTree]:
    """The potential energy for a sampler such as NumPyro's NUTS, over the parameters that train, and its start.

    It is minus the log posterior density of the free numbers: the loss, minus :func:`log_prior`, minus
    :func:`log_jacobian`.

    Args:
      loss: minus the log likelihood, without the priors, as a function that returns a number of shape ``()``. It is
        called as ``loss(params, *args)`` with parameters as they enter the model. The first call is an ordinary one, so
        its errors on bad data reach you.
      params: a pytree of arrays or numbers: where the sampler starts, and the values of fixed leaves.
      trainable: a static mask.
      transforms: a pytree with the structure of ``params``, of bijectors and None.
      priors: a pytree with the structure of ``params``, of distributions and None. Each leaf that trains needs one.
      args: a tuple of pytrees of arrays or numbers, such as the data.

    Returns:
      A pair of a function and its argument at the start. The argument is a pytree like ``params`` that has free numbers
      for the leaves that train, and None in place of fixed leaves. To get parameters from a sample, put the fixed
      leaves back with :func:`trainability.combine`, and call :func:`constrain`.

    Raises:
      ValueError: a leaf trains and has no prior; a value is outside its constraint or the support of its prior; nothing
        trains; two trees differ in structure; the loss is not a scalar, or not finite at the start.
      TypeError: a leaf of ``transforms`` or ``priors`` is of the wrong kind; the mask is not static; a leaf that should
        train has no gradient; ``args`` is not a tuple.

    >>> import numpyro.distributions as dist
    >>> ways, normal = {"a": None, "b": None}, dist.Normal(0.0, 1.0)
    >>> energy, start = potential(
    ...     lambda params: params["a"] * params["b"],
    ...     {"a": 1.0, "b": 2.0},
    ...     {"a": True, "b": False},
    ...     ways,
    ...     {"a": normal, "b": None},
    ... )
    >>> print(start, energy(start) - energy({"a": 0.0, "b": None}))
    {'a': Array(1., dtype=float32), 'b': None} 2.5
    """
    raw = unconstrain(params, transforms, trainable)
    training._check_args(args)
    flags, beside = jax.tree.leaves(trainable), _beside(params, priors, "priors")
    if not any(flags):
        raise ValueError("nothing trains: every leaf of the mask is False, or there are no parameters.")
    triples = zip(_paths_and_leaves(params), flags, beside, strict=True)
    if bare := [path or "the parameter" for (path, _), train, prior in triples if train and prior is None]:
        raise ValueError(
            f"{', '.join(bare)} would be sampled and {'has' if len(bare) == 1 else 'have'} no prior. Give a prior in "
            f"priors, or fix in the mask."
        )
    value = loss(params, *args)
    training._check_loss(loss, False, params, *args)
    if not training._is_traced(value, raw):
        training._check_start(float(value))
    for path, density in _log_priors(params, priors):
        if not isinstance(density, jax.core.Tracer) and not np.isfinite(density):
            raise ValueError(
                f"the prior of {path or 'the parameter'} has the log density {density} at the start. Change the value, "
                f"or the prior."
            )
    start, fixed = partition(raw, trainable)
    # A sampler's loop needs arrays whose types do not depend on Python numbers.
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), start)

    def energy(free: PyTree) -> jax.Array:
        raw = combine(free, fixed)
        values = constrain(raw, transforms, trainable)
        return jnp.asarray(loss(values, *args) - log_prior(values, priors) - log_jacobian(raw, transforms, trainable))

    return energy, start


# ---- replacing one thing ---------------------------------------------------------------------------------------------


def replace(tree: PyTree, path: str, new: Any) -> PyTree:
    """A new tree with one leaf replaced: a value of ``params``, or an entry of ``transforms``, ``priors`` or a mask.

    Args:
      tree: nested dicts. What is not a dict is a leaf, such as an array, a bijector, a prior or None.
      path: the path of one leaf, such as ``"kernel/lengthscales"``.
      new: what takes its place. If the leaf is an array, ``new`` is converted to an array of its dtype.

    Returns:
      Nested dicts of the same structure. Every other leaf is the same object as before.

    Raises:
      NoMatchError: no leaf has this path. The message has the nearest names.
      ValueError: the leaf is an array, and ``new`` has another shape; or two places have this path, because a key
        contains a slash.
      TypeError: ``path`` is not a string; or the leaf is an array to whose dtype ``new`` cannot be converted.

    The counterpart of ``parameter.assign(new)`` in GPflow, which changes a model in place.

    >>> params = {"kernel": {"lengthscales": jnp.array(1.0), "variance": jnp.array(1.0)}}
    >>> new = replace(params, "kernel/variance", 2)
    >>> print(new["kernel"]["variance"], params["kernel"]["variance"])
    2.0 1.0
    """
    if not isinstance(path, str):
        raise TypeError(f"path must be a string such as 'kernel/variance', not {_described(path)}.")
    structure: Any
    pairs, structure = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: not isinstance(node, Mapping))
    paths = [path_of(keys) for keys, _ in pairs]
    meant = _at_or_below(path, pairs, paths)
    if [paths[place] for place in meant] != [path]:
        raise _no_match(f"{path!r} is not the path of a leaf", path, paths)
    leaves = [leaf for _, leaf in pairs]
    leaves[meant[0]] = _like(path, leaves[meant[0]], new)
    return structure.unflatten(leaves)


def _like(path: str, old: Any, new: Any) -> Any:
    """The new leaf, with the dtype of the old one if that is an array."""
    if not hasattr(old, "dtype"):
        return new
    new = np.array(new) if isinstance(new, (list, tuple)) else new
    if not isinstance(new, (bool, int, float, complex)) and not hasattr(new, "dtype"):
        raise TypeError(f"{path} is an array, and must be replaced by an array or a number, not by {_described(new)}.")
    if not jnp.can_cast(jnp.result_type(new), old.dtype, "same_kind"):
        raise TypeError(f"{path} is an array of {old.dtype}, and {_described(new)} cannot be converted to that.")
    if np.shape(new) != np.shape(old):
        raise ValueError(f"{path} has the shape {np.shape(old)}, but the new value has {np.shape(new)}.")
    return jnp.asarray(new, old.dtype)


# ---- the table -------------------------------------------------------------------------------------------------------


class ParameterRow(NamedTuple):
    """A row of the table."""

    path: str
    value: str
    transform: str
    prior: str
    trainable: str
    shape: str
    dtype: str


class ParameterTable(NamedTuple):
    """A table of the parameters: text when it is printed, HTML when a notebook shows it."""

    rows: tuple[ParameterRow, ...]
    totals: str

    def __str__(self) -> str:
        rows = [ParameterRow._fields, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join([*("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows), self.totals])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{name}</th>' for name in ParameterRow._fields)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(self.totals)}</p>"


def summary(params: PyTree, trainable: PyTree, transforms: PyTree, priors: PyTree | None = None) -> ParameterTable:
    """A table of the parameters, with the value, the transform, the prior and the flag of each.

    Args:
      params: a pytree of arrays or numbers.
      trainable: a static mask.
      transforms: a pytree with the structure of ``params``, of bijectors and None.
      priors: a pytree with the structure of ``params``, of distributions and None. By default, there are none.

    Returns:
      A table with a row for each leaf. Up to four numbers of a leaf are shown, otherwise the first one. A bijector and
      a prior have their ``name`` if they have one, and otherwise that of their class.

    Raises:
      ValueError: two trees differ in structure.
      TypeError: a leaf of ``transforms`` or ``priors`` is of the wrong kind; the mask is not static; or a leaf is
        neither an array nor a number.

    After the table of ``gpflow.utilities.print_summary``. For all parameters of a large network, see
    :func:`trainability.summary`.

    >>> params = {"lengthscales": jnp.array([1.0, 2.5]), "mean": jnp.array(0.0)}
    >>> summary(params, {"lengthscales": True, "mean": False}, {"lengthscales": positive(), "mean": None})
    path          value     transform  prior  trainable  shape  dtype
    lengthscales  [1, 2.5]  softplus          True       (2,)   float32
    mean          0                           False      ()     float32
    2 of 3 numbers train (8 of 12 bytes)
    """
    leaves = jax.tree.leaves(params)
    plain = masks.summary(params, trainable, max_rows=len(leaves))
    ways = _beside(params, transforms, "transforms")
    beside = [None] * len(leaves) if priors is None else _beside(params, priors, "priors")
    rows = [
        ParameterRow(row.path, _numbers(row.value, leaf), _name(way), _name(prior), row.trainable, row.shape, row.dtype)
        for row, leaf, way, prior in zip(plain.rows, leaves, ways, beside, strict=True)
    ]
    return ParameterTable(tuple(rows), plain.totals)


def _name(thing: Any) -> str:
    return "" if thing is None else getattr(thing, "name", type(thing).__name__)


def _numbers(first: str, leaf: Any) -> str:
    """The numbers of a leaf, if they are known, more than one and few; otherwise the first, as given."""
    if not first.endswith(" …") or np.size(leaf) > 4 or not getattr(leaf, "is_fully_addressable", True):
        return first
    numbers = [f"{number:.4g}" for number in np.asarray(leaf).ravel()]
    return f"[{', '.join(numbers)}]"
