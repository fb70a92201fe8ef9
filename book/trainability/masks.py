"""Masks: which parameters train, as data beside the parameters.

A mask is a pytree with the structure of the parameters and one truth value for each leaf. True trains. In a *static*
mask the truth values are Python bools; in a *traced* mask they are boolean arrays without axes, passed to a jitted
function. Nothing here changes its arguments: every function returns new pytrees.
"""

from __future__ import annotations

import fnmatch
import html
import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

PyTree = Any
_LEAF = jax.tree.structure(0)


class NoMatchError(LookupError):
    """Nothing in the parameters is meant by ``where``. The message lists the paths there are."""


# ---- paths and leaves ------------------------------------------------------------------------------------------------


def path_of(key_path: tuple) -> str:
    """The path of a leaf, written like ``encoder/kernel``, from JAX's tuple of keys.

    >>> tree = {"encoder": {"kernel": 1.0}, "scale": (2.0, 3.0)}
    >>> [path_of(keys) for keys, _ in jax.tree.leaves_with_path(tree)]
    ['encoder/kernel', 'scale/0', 'scale/1']
    """
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def _paths_and_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    return [(path_of(keys), leaf) for keys, leaf in jax.tree.leaves_with_path(tree)]


def _dtype(path: str, leaf: Any) -> Any:
    """The dtype of a parameter, an array or a Python number."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    if isinstance(leaf, (bool, int, float, complex)):
        return jnp.result_type(leaf)
    raise TypeError(f"{path or 'the parameter'} is a {type(leaf).__name__}, and a parameter is an array or a number.")


def _can_train(path: str, leaf: Any) -> bool:
    """Whether a leaf has a gradient: floating or complex, and neither integer, boolean nor a random key."""
    return bool(jnp.issubdtype(_dtype(path, leaf), jnp.inexact))


def _cannot_train(path: str, leaf: Any) -> TypeError:
    return TypeError(f"{path or 'the parameter'} cannot train: it is {_dtype(path, leaf)}, which has no gradient.")


def _difference(
    first: PyTree, second: PyTree, names: tuple[str, str], is_leaf: Callable | None = None, path: str = ""
) -> str | None:
    """Where and how the structure of two pytrees first differs; None if it does not."""

    def one_level(node):
        def stop(child):
            return child is not node or (is_leaf is not None and is_leaf(child))

        return jax.tree_util.tree_flatten_with_path(node, is_leaf=stop)

    (children, structure), (others, other_structure) = one_level(first), one_level(second)
    if structure != other_structure:
        place = f"at {path}" if path else "at the top"
        keys, other_keys = ([path_of(keys) for keys, _ in nodes] for nodes in (children, others))
        if type(first) is type(second) and keys != other_keys:
            if missing := [key for key in keys if key not in other_keys]:
                return f"{place} {names[1]} lacks {missing[0]!r}"
            extra = [key for key in other_keys if key not in keys]
            return f"{place} {names[1]} has also {extra[0]!r}"
        kinds = [
            "a leaf" if node_structure == _LEAF else f"a {type(node).__name__}"
            for node_structure, node in ((structure, first), (other_structure, second))
        ]
        if kinds[0] == kinds[1]:
            return f"{place} both have {kinds[0]}, but not the same one: {structure} and {other_structure}"
        return f"{place} {names[0]} has {kinds[0]}, {names[1]} {kinds[1]}"
    if structure == _LEAF:
        return None
    for (keys, child), (_, other) in zip(children, others, strict=True):
        below = "/".join(filter(None, (path, path_of(keys))))
        if difference := _difference(child, other, names, is_leaf, below):
            return difference
    return None


def _is_hole(node: Any) -> bool:
    """What a half has where the leaf is in the other one."""
    return node is None


def _check_structure(
    first: PyTree,
    second: PyTree,
    names: tuple[str, str] = ("the tree of parameters", "the mask"),
    is_leaf: Callable | None = None,
) -> None:
    if difference := _difference(first, second, names, is_leaf):
        raise ValueError(f"{names[0]} and {names[1]} differ in structure:\n{difference}.")


def _check_static(trainable: PyTree) -> None:
    for path, flag in _paths_and_leaves(trainable):
        if not isinstance(flag, bool):
            raise TypeError(
                f"a static mask is needed, a pytree of Python bools, and {path or 'its leaf'} is a "
                f"{type(flag).__name__}. For a mask of known truth values: jax.tree.map(bool, mask)."
            )


def _check_state(expected: PyTree, state: PyTree, names: tuple[str, str]) -> None:
    _check_structure(expected, state, names)
    for (path, wanted), leaf in zip(_paths_and_leaves(expected), jax.tree.leaves(state), strict=True):
        if wanted.shape != np.shape(leaf):
            raise ValueError(
                f"{names[0]} and {names[1]} differ in shape:\nat {path} {wanted.shape} and {np.shape(leaf)}."
            )


def _check_mask(params: PyTree, trainable: PyTree) -> None:
    _check_structure(params, trainable)
    _check_static(trainable)


# ---- making masks ----------------------------------------------------------------------------------------------------


def all_trainable(params: PyTree) -> PyTree:
    """The mask under which everything trains that can.

    Args:
      params: a pytree of arrays of any shapes and dtypes, or of Python numbers.

    Returns:
      A static mask, True for floating and complex leaves, False for integers, bools and random keys, which have no
      gradient (``jax.grad`` refuses them).

    Raises:
      TypeError: a leaf is neither an array nor a number; the message names it.

    >>> all_trainable({"a": jnp.ones(3), "steps": jnp.array(0)})
    {'a': True, 'steps': False}
    """
    return jax.tree.map_with_path(lambda keys, leaf: _can_train(path_of(keys), leaf), params)


def set_trainable(
    trainable: PyTree,
    where: str | Callable[[str, Any], bool],
    flag: bool,
    params: PyTree | None = None,
) -> PyTree:
    """A new mask, with ``flag`` at the leaves that ``where`` means and everything else as it was.

    Args:
      trainable: a static mask.
      where: what to set. A path such as ``"encoder/kernel"``; if it ends inside the tree, as ``"encoder"`` does, all
        leaves below it. A glob such as ``"*/bias"``, matched against the whole path by ``fnmatch.fnmatchcase``,
        in which ``*`` also crosses ``/``. Or a function of path and parameter that returns True for the leaves meant.
      flag: True to let them train, False to fix them.
      params: the parameters. Needed if ``flag`` is True, because integers, bools and random keys cannot train, and if
        ``where`` is a function, which is given the parameter.

    Returns:
      A static mask of the same structure. A glob, a sub-tree or a function passes over leaves that cannot train; they
      stay False.

    Raises:
      NoMatchError: ``where`` means no leaf. The message lists the paths there are.
      TypeError: ``flag`` is True, and ``where`` names a leaf that cannot train, or means only such leaves; ``flag`` is
        not a bool; ``params`` is needed and missing; the mask is not static.
      ValueError: the mask and ``params`` differ in structure.

    The counterpart of ``gpflow.set_trainable``, which changes a model in place.

    >>> mask = {"encoder": {"bias": True, "kernel": True}, "head": True}
    >>> set_trainable(mask, "encoder", False)
    {'encoder': {'bias': False, 'kernel': False}, 'head': True}
    >>> set_trainable(mask, "*/bias", False)
    {'encoder': {'bias': False, 'kernel': True}, 'head': True}
    """
    if not isinstance(flag, bool):
        raise TypeError(f"flag is True (trains) or False (fixed), not {flag!r}.")
    if params is None and (flag or callable(where)):
        why = "to know which leaves can train" if flag else "to give them to the function"
        raise TypeError(f"set_trainable needs params, {why}: set_trainable(trainable, where, flag, params).")
    if params is None:
        _check_static(trainable)
    else:
        _check_mask(params, trainable)

    leaves = _paths_and_leaves(trainable if params is None else params)
    meant = _matches(where, leaves)
    if flag:
        able = [_can_train(path, leaf) for path, leaf in leaves]
        stuck = [path for (path, _), chosen, can in zip(leaves, meant, able, strict=True) if chosen and not can]
        if where in stuck or len(stuck) == sum(meant):
            raise _cannot_train(stuck[0], dict(leaves)[stuck[0]])
        meant = [chosen and can for chosen, can in zip(meant, able, strict=True)]
    flags, structure = jax.tree.flatten(trainable)
    return structure.unflatten([flag if chosen else old for chosen, old in zip(meant, flags, strict=True)])


def _matches(where: str | Callable[[str, Any], bool], leaves: list[tuple[str, Any]]) -> list[bool]:
    """For each leaf, whether ``where`` means it."""
    if callable(where):
        meant = [bool(where(path, leaf)) for path, leaf in leaves]
        question = "the function is true for no leaf"
    elif isinstance(where, str):
        meant = [path == where or (bool(where) and path.startswith(f"{where}/")) for path, _ in leaves]
        if not any(meant):
            meant = [fnmatch.fnmatchcase(path, where) for path, _ in leaves]
        question = f"{where!r} matches no path"
    else:
        raise TypeError(f"where is a path, a glob, or a function of path and parameter, not {where!r}.")
    if not any(meant):
        there_are = ", ".join(path for path, _ in leaves) or "no parameters at all"
        raise NoMatchError(textwrap.fill(f"{question}. There are: {there_are}.", 80, break_on_hyphens=False))
    return meant


# ---- using masks -----------------------------------------------------------------------------------------------------


def stop_fixed(params: PyTree, trainable: PyTree) -> PyTree:
    """The parameters, with the gradient stopped where the mask is False.

    The values are the same, so a fixed parameter counts. Its gradient is zero. This alone does not hold it in place:
    weight decay and momentum move a parameter without a gradient.

    Args:
      params: a pytree of arrays, of any shapes and dtypes.
      trainable: a static mask; or a traced one, whose leaves are boolean arrays of shape ``()``.

    Returns:
      A pytree like ``params``.

    Raises:
      ValueError: the parameters and the mask differ in structure; the message names the first place.
      TypeError: a leaf of the mask is neither a Python bool nor a boolean array of shape ``()``.

    >>> def loss(params):
    ...     params = stop_fixed(params, {"a": False, "b": True})
    ...     return params["a"] * params["b"]
    >>> gradient = jax.grad(loss)({"a": jnp.array(2.0), "b": jnp.array(3.0)})
    >>> print(gradient["a"], gradient["b"])
    0.0 2.0
    """
    _check_structure(params, trainable)

    def stop(keys, leaf, train):
        if isinstance(train, bool):
            return leaf if train else jax.lax.stop_gradient(leaf)
        if getattr(train, "dtype", None) != np.bool_ or np.shape(train) != ():
            raise TypeError(
                f"a mask has one truth value for a leaf, a Python bool or a boolean array of shape (), and at "
                f"{path_of(keys) or 'its leaf'} there is {train!r}."
            )
        return jnp.where(train, leaf, jax.lax.stop_gradient(leaf))

    return jax.tree.map_with_path(stop, params, trainable)


def partition(params: PyTree, trainable: PyTree) -> tuple[PyTree, PyTree]:
    """Split the parameters, or anything of their structure, into what trains and what is fixed.

    Args:
      params: a pytree.
      trainable: a static mask.

    Returns:
      Two pytrees, ``(train, fixed)``, with the structure of ``params``, and None in place of each leaf that is in the
      other one. For JAX, None is an empty pytree: it has no gradient and no optimizer state.

    Raises:
      ValueError: the parameters and the mask differ in structure; the message names the first place.
      TypeError: the mask is not static.

    The names are those of Equinox.

    >>> partition({"a": 1.0, "b": 2.0}, {"a": False, "b": True})
    ({'a': None, 'b': 2.0}, {'a': 1.0, 'b': None})
    """
    _check_mask(params, trainable)
    train = jax.tree.map(lambda leaf, flag: leaf if flag else None, params, trainable)
    fixed = jax.tree.map(lambda leaf, flag: None if flag else leaf, params, trainable)
    return train, fixed


def combine(train: PyTree, fixed: PyTree) -> PyTree:
    """Put the halves that :func:`partition` made together again.

    Args:
      train, fixed: pytrees of one structure, with None where the other has a leaf.

    Returns:
      The pytree with all the leaves, each the very object that was in its half.

    Raises:
      ValueError: the halves differ in structure, or both have a leaf in one place; the message names the first place.

    >>> combine({"a": None, "b": 2.0}, {"a": 1.0, "b": None})
    {'a': 1.0, 'b': 2.0}
    """

    def pick(keys, leaf, other):
        if leaf is not None and other is not None:
            raise ValueError(f"both halves have a leaf at {path_of(keys) or 'the top'}: they are not of one partition.")
        return other if leaf is None else leaf

    _check_structure(train, fixed, ("the first half", "the second"), _is_hole)
    return jax.tree.map_with_path(pick, train, fixed, is_leaf=_is_hole)


def move_state(
    state: PyTree,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    old: PyTree,
    new: PyTree,
) -> PyTree:
    """Carry an optimizer's state over to a new mask.

    Args:
      state: the state of ``optimizer`` over the half of ``params`` that trains under ``old``, that is, of the
        structure of ``optimizer.init(partition(params, old)[0])``.
      optimizer: an Optax optimizer.
      params: the parameters as they are now; what is freshly initialised may depend on their values.
      old, new: static masks.

    Returns:
      A state of ``optimizer`` over the half that trains under ``new``. What belongs to leaves that train under both
      masks is carried over bit for bit, and so is what belongs to no single leaf, such as Adam's count of steps. What
      belongs to leaves that are freed is freshly initialised, and what belongs to leaves that are fixed is dropped.

    Raises:
      ValueError: ``state`` does not belong to this optimizer, these parameters and ``old``, or a mask differs in
        structure from the parameters; the message names the first place.
      TypeError: a mask is not static.

    >>> params, momentum = {"a": jnp.ones(1), "b": jnp.ones(1)}, optax.trace(0.9)
    >>> only_a, both = {"a": True, "b": False}, {"a": True, "b": True}
    >>> state = optax.TraceState(trace={"a": jnp.array([5.0]), "b": None})
    >>> moved = move_state(state, momentum, params, only_a, both)
    >>> print(moved.trace["a"], moved.trace["b"])
    [5.] [0.]
    """
    expected = jax.eval_shape(optimizer.init, partition(params, old)[0])
    _check_state(expected, state, ("the state for the old mask", "the one given"))
    kept = dict(jax.tree.leaves_with_path(state))
    fresh = optimizer.init(partition(params, new)[0])
    return jax.tree.map_with_path(lambda keys, leaf: kept.get(keys, leaf), fresh)


# ---- looking at masks ------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A line of the summary."""

    path: str
    shape: str
    dtype: str
    trainable: str
    value: str


class Summary(NamedTuple):
    """A table of parameters, as text where it is printed and as HTML where a notebook shows it."""

    rows: tuple[Row, ...]
    totals: str

    def __str__(self) -> str:
        rows = [Row._fields, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, self.totals])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{name}</th>' for name in Row._fields)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(self.totals)}</p>"


def summary(params: PyTree, trainable: PyTree) -> Summary:
    """A table of the parameters that says which of them train, to be looked at before training.

    Args:
      params: a pytree of arrays or numbers.
      trainable: a static mask.

    Returns:
      A table with a row for each leaf, of path, shape, dtype, whether it trains, and first value. Below it, how many
      numbers there are and how many bytes they take, and how many of them train. Where the values are not known, as
      inside a jitted function or from ``jax.eval_shape``, that column is empty.

    Raises:
      ValueError: the parameters and the mask differ in structure; the message names the first place.
      TypeError: the mask is not static, or a leaf is neither an array nor a number.

    After the table of ``gpflow.utilities.print_summary``.

    >>> params = {"a": jnp.array(3.14), "b": jnp.ones([2, 2])}
    >>> summary(params, {"a": False, "b": True})
    path  shape   dtype    trainable  value
    a     ()      float32  False      3.14
    b     (2, 2)  float32  True       1 …
    4 of 5 numbers train (16 of 20 bytes)
    """
    _check_mask(params, trainable)
    rows, counts = [], np.zeros([2, 2], int)
    for (path, leaf), train in zip(_paths_and_leaves(params), jax.tree.leaves(trainable), strict=True):
        shape, dtype = np.shape(leaf), _dtype(path, leaf)
        size = math.prod(shape)
        counts += np.outer([train, True], [size, size * dtype.itemsize])
        rows.append(Row(path, str(shape), str(dtype), str(train), _first_value(leaf)))
    (numbers, size), (all_numbers, all_size) = counts.tolist()
    return Summary(
        tuple(rows),
        f"{numbers} of {all_numbers} numbers train ({size} of {all_size} bytes)",
    )


def _first_value(leaf: Any) -> str:
    known = not isinstance(leaf, (jax.core.Tracer, jax.ShapeDtypeStruct))
    if not known or math.prod(np.shape(leaf)) == 0 or jnp.issubdtype(_dtype("", leaf), jax.dtypes.prng_key):
        return ""
    first, more = np.ravel(leaf)[0], " …" if np.size(leaf) > 1 else ""
    return (f"{first:.4g}" if jnp.issubdtype(first.dtype, jnp.number) else str(first)) + more
