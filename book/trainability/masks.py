"""Masks: which parameters train, as data beside the parameters.

A mask is a pytree with the structure of the parameters and one truth value for each leaf. True means that the leaf
trains. In a *static* mask the truth values are Python bools. In a *traced* mask they are boolean arrays of shape
``()``, passed to a jitted function. No function here changes its arguments: each returns new pytrees.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import html
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

PyTree = Any
Where = str | Callable[[str, Any], bool]
_LEAF = jax.tree.structure(0)
_MOST_PATHS = 10  # that a message lists


class NoMatchError(LookupError):
    """No leaf of the parameters matches ``where``. The message lists the paths, or the nearest names."""


# ---- paths and leaves ------------------------------------------------------------------------------------------------


def path_of(key_path: tuple[Any, ...]) -> str:
    """The path of a leaf, such as ``encoder/kernel``, from JAX's tuple of keys.

    If the last key is an attribute named ``value``, it is left out. Flax stores a parameter there when it wraps it in a
    box: an ``nnx.Variable``, or a Linen parameter with metadata on its partitioning over devices.

    Two leaves can have the same path if a key contains a slash.

    Args:
      key_path: a tuple of keys, as ``jax.tree_util.tree_leaves_with_path`` returns them.

    Returns:
      The keys as a string, joined by slashes.

    >>> tree = {"encoder": {"kernel": 1.0}, "scale": (2.0, 3.0)}
    >>> [path_of(keys) for keys, _ in jax.tree.leaves_with_path(tree)]
    ['encoder/kernel', 'scale/0', 'scale/1']
    """
    return _path(key_path[:-1] if _is_in_a_box(key_path) else key_path)


def _path(key_path: tuple[Any, ...]) -> str:
    """The path with every key."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def _is_in_a_box(key_path: tuple[Any, ...]) -> bool:
    return len(key_path) > 1 and isinstance(key_path[-1], jax.tree_util.GetAttrKey) and key_path[-1].name == "value"


def _paths_and_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    return [(path_of(keys), leaf) for keys, leaf in jax.tree.leaves_with_path(tree)]


def _dtype(path: str, leaf: Any) -> Any:
    """The dtype of a parameter, which is an array or a Python number."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    if isinstance(leaf, (bool, int, float, complex)):
        return jnp.result_type(leaf)
    raise TypeError(f"{path or 'the parameter'} is a {type(leaf).__name__}. A parameter must be an array or a number.")


def _can_train(path: str, leaf: Any) -> bool:
    """Whether a leaf has a gradient: floating point and complex ones do; integers, bools and random keys do not."""
    return _has_gradient(_dtype(path, leaf))


@functools.cache  # a tree has few dtypes, and issubdtype takes some microseconds
def _has_gradient(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.inexact))


@functools.cache
def _is_key(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jax.dtypes.prng_key))


def _is_deleted(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()


def _cannot_train(path: str, leaf: Any) -> TypeError:
    return TypeError(f"{path or 'the parameter'} cannot train: it is {_dtype(path, leaf)}, which has no gradient.")


def _is_hole(node: Any) -> bool:
    """Whether a node of a part is None, which means that the leaf is in the other part."""
    return node is None


# ---- structure -------------------------------------------------------------------------------------------------------


def _structure(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """The structure of a pytree, as Any: JAX's type for it does not declare its attributes."""
    return jax.tree.structure(tree, is_leaf)


def _difference(
    first: PyTree, second: PyTree, names: tuple[str, str], is_leaf: Callable[[Any], bool] | None = None, path: str = ""
) -> str:
    """Where and how the structures of two pytrees first differ. Call it only if they do."""

    def one_level(node):
        def stop(child):
            return child is not node or (is_leaf is not None and is_leaf(child))

        return jax.tree_util.tree_flatten_with_path(node, is_leaf=stop)

    (children, structure), (others, other_structure) = one_level(first), one_level(second)
    if structure == other_structure:
        for (keys, child), (_, other) in zip(children, others, strict=True):
            if _structure(child, is_leaf) != _structure(other, is_leaf):
                below = "/".join(filter(None, (path, path_of(keys))))
                return _difference(child, other, names, is_leaf, below)
    place = f"at {path}" if path else "at the top"
    keys, other_keys = ([path_of(keys) for keys, _ in nodes] for nodes in (children, others))
    if type(first) is type(second) and keys != other_keys:
        there, there_too = set(keys), set(other_keys)
        if missing := [key for key in keys if key not in there_too]:
            return f"{place} {names[1]} lacks {missing[0]!r}"
        if extra := [key for key in other_keys if key not in there]:
            return f"{place} {names[1]} also has {extra[0]!r}"
    kinds = [
        "a leaf" if node_structure == _LEAF else f"a {type(node).__name__}"
        for node_structure, node in ((structure, first), (other_structure, second))
    ]
    if kinds[0] == kinds[1]:
        return f"{place} both have {kinds[0]}, but the two differ: {structure} and {other_structure}"
    return f"{place} {names[0]} has {kinds[0]}, {names[1]} {kinds[1]}"


def _differ_in_structure(
    first: PyTree, second: PyTree, names: tuple[str, str], is_leaf: Callable[[Any], bool] | None = None
) -> ValueError:
    difference = _difference(first, second, names, is_leaf)
    return ValueError(f"{names[0]} and {names[1]} differ in structure:\n{difference}.")


def _check_structure(
    first: PyTree,
    second: PyTree,
    names: tuple[str, str] = ("the tree of parameters", "the mask"),
    is_leaf: Callable[[Any], bool] | None = None,
) -> None:
    # JAX compares whole structures in a few microseconds. The slow walk finds the place, and only the message needs it.
    if _structure(first, is_leaf) != _structure(second, is_leaf):
        raise _differ_in_structure(first, second, names, is_leaf)


def _check_state(expected: PyTree, state: PyTree, names: tuple[str, str]) -> None:
    _check_structure(expected, state, names)
    for (path, wanted), leaf in zip(_paths_and_leaves(expected), jax.tree.leaves(state), strict=True):
        if wanted.shape != np.shape(leaf):
            raise ValueError(
                f"{names[0]} and {names[1]} differ in shape:\nat {path} {wanted.shape} and {np.shape(leaf)}."
            )


def _classes(structure: Any) -> set[str]:
    """The names of the container classes in a tree, without dict, list and tuple."""
    found = set().union(*map(_classes, structure.children()))
    if (node := structure.node_data()) and node[0] not in (dict, list, tuple):
        found.add(node[0].__name__)
    return found


def _unflatten(structure: Any, leaves: list[Any], what: str) -> PyTree:
    """A tree of this structure with other leaves. If a container raises an error, a note says where this happened.

    JAX rebuilds each container, and the constructor of a class may check its arguments.
    """
    try:
        return structure.unflatten(leaves)
    except Exception as error:
        error.add_note(_made_anew(structure, what))
        raise


def _rebuild(structure: Any, leaves: list[Any], what: str) -> PyTree:
    """The same for bools and None, which must come back unchanged: a constructor may convert its arguments."""
    tree = _unflatten(structure, leaves, what)
    held, given = jax.tree.leaves(tree), [leaf for leaf in leaves if leaf is not None]
    flags = (new is old for old, new in zip(given, held, strict=True) if isinstance(old, bool))
    if len(held) != len(given) or not all(flags):
        raise TypeError(f"a container has changed what it was given. {_made_anew(structure, what)}")
    return tree


def _made_anew(structure: Any, what: str) -> str:
    return (
        f"This happened when JAX rebuilt the containers of the tree ({', '.join(sorted(_classes(structure)))}) with "
        f"{what}. A class whose constructor checks or converts its fields cannot hold them. Skip the constructor in "
        f"the function that unflattens the class: call object.__new__, then set the fields."
    )


# ---- what a mask must be ---------------------------------------------------------------------------------------------


def _described(leaf: Any) -> str:
    """A leaf in a few words, whatever its size."""
    if isinstance(leaf, jax.core.Tracer):
        return f"a traced array of {leaf.dtype} and shape {leaf.shape}"
    if isinstance(leaf, np.bool_):
        return "a NumPy bool"
    if isinstance(leaf, str):
        return f"the string {textwrap.shorten(leaf, 30)!r}"
    if hasattr(leaf, "dtype"):
        return f"an array of {leaf.dtype} and shape {np.shape(leaf)}"
    if isinstance(leaf, (int, float, complex)):
        return f"the number {leaf!r}"
    return f"a {type(leaf).__name__}"


def _advice(trainable: PyTree, leaf: Any) -> str:
    """What to do about a leaf that is not a Python bool, in a mask that must be static."""
    if isinstance(leaf, str):
        return (
            "In Python every non-empty string is true, even 'False'. Say which word means that a leaf trains: "
            "jax.tree.map(lambda word: word == 'trains', mask)."
        )
    if isinstance(leaf, jax.core.Tracer) and leaf.dtype == np.bool_:
        return "Its truth value is not known while JAX traces. Close over the mask, do not pass it as an argument."
    if getattr(leaf, "dtype", None) == np.bool_ and np.shape(leaf) != ():
        return "For masks of parts of arrays, use partition_entries and combine_entries."
    if all(isinstance(flag, (bool, np.bool_)) or _is_zero_or_one(flag) for flag in jax.tree.leaves(trainable)):
        return "Convert the mask with jax.tree.map(bool, mask)."
    return "If these are the parameters, make a mask from them: all_trainable(params) or all_fixed(params)."


def _is_zero_or_one(flag: Any) -> bool:
    """Whether a leaf of a mask can be read as a truth value."""
    if getattr(flag, "dtype", None) == np.bool_:
        return np.shape(flag) == () and not isinstance(flag, jax.core.Tracer)
    return isinstance(flag, int) and flag in (0, 1)


def _flat(params: PyTree, trainable: PyTree) -> tuple[list[Any], list[Any], Any]:
    """The leaves of the parameters, those of the mask, and the structure that they share."""
    structure: Any
    leaves, structure = jax.tree.flatten(params)
    flags, other_structure = jax.tree.flatten(trainable)
    if structure != other_structure:
        raise _differ_in_structure(params, trainable, ("the tree of parameters", "the mask"))
    return leaves, flags, structure


def _check_static(trainable: PyTree, flags: list[Any] | None = None) -> None:
    """Check that all leaves of a mask are Python bools. Pass them as ``flags`` if you have them."""
    if all(isinstance(flag, bool) for flag in (jax.tree.leaves(trainable) if flags is None else flags)):
        return
    path, flag = next((path, flag) for path, flag in _paths_and_leaves(trainable) if not isinstance(flag, bool))
    raise TypeError(
        f"a static mask is needed (a pytree of Python bools), but {path or 'its leaf'} is {_described(flag)}. "
        f"{_advice(trainable, flag)}"
    )


def _check_mask(params: PyTree, trainable: PyTree) -> None:
    _check_structure(params, trainable)
    _check_static(trainable)


def _check_flag(flag: Any) -> None:
    if not isinstance(flag, bool):
        advice = " Use bool(flag)." if isinstance(flag, np.bool_) else ""
        raise TypeError(f"flag must be True (trains) or False (fixed), not {_described(flag)}.{advice}")


# ---- making masks ----------------------------------------------------------------------------------------------------


def all_trainable(params: PyTree, but: Where | Sequence[Where] | None = None) -> PyTree:
    """The mask under which every leaf that has a gradient trains, except those that you name.

    Integers never train. This includes Python integers, so write a parameter as ``1.0``, not as ``1``. :func:`summary`
    marks such leaves.

    Args:
      params: a pytree of arrays of any shapes and dtypes, or of Python numbers.
      but: which leaves are fixed: a path, a glob, a function, or a list of these, like ``where`` in
        :func:`set_trainable`.

    Returns:
      A static mask. It is True for floating point and complex leaves. It is False for integers, bools and random keys,
      which have no gradient (``jax.grad`` raises an error for them), and for the leaves that ``but`` matches.

    Raises:
      TypeError: a leaf is neither an array nor a number (the message names it); or a container of ``params`` changes
        the bools that are put into it.
      NoMatchError: ``but`` matches no leaf.
      ValueError: ``but`` is the path of two places, because a key contains a slash.

    >>> params = {"encoder": jnp.ones(3), "head": jnp.ones(2), "steps": jnp.array(0)}
    >>> all_trainable(params)
    {'encoder': True, 'head': True, 'steps': False}
    >>> all_trainable(params, but="encoder")
    {'encoder': False, 'head': True, 'steps': False}
    """
    leaves, structure = jax.tree.flatten(params)
    if not all(hasattr(leaf, "dtype") for leaf in leaves):
        for path, leaf in _paths_and_leaves(params):
            _dtype(path, leaf)  # an error here names the path
    mask = _rebuild(structure, [_can_train("", leaf) for leaf in leaves], "bools in place of the leaves")
    return mask if but is None else set_trainable(params, mask, but, False)


def all_fixed(params: PyTree, but: Where | Sequence[Where] | None = None) -> PyTree:
    """The mask under which every leaf is fixed, except those that you name.

    Args:
      params: a pytree of arrays of any shapes and dtypes, or of Python numbers. Without ``but``, its leaves may be of
        any kind.
      but: which leaves train: a path, a glob, a function, or a list of these, like ``where`` in :func:`set_trainable`.

    Returns:
      A static mask. It is True for the leaves that ``but`` matches and that can train, and False for all others.

    Raises:
      TypeError: ``but`` is the path of a leaf that cannot train, or matches only such leaves; or a container of
        ``params`` changes the bools that are put into it.
      NoMatchError: ``but`` matches no leaf.
      ValueError: ``but`` is the path of two places, because a key contains a slash.

    >>> params = {"encoder": jnp.ones(3), "head": {"bias": jnp.ones(1), "kernel": jnp.ones(2)}}
    >>> all_fixed(params, but="head")
    {'encoder': False, 'head': {'bias': True, 'kernel': True}}
    """
    structure = _structure(params)
    mask = _rebuild(structure, [False] * structure.num_leaves, "bools in place of the leaves")
    return mask if but is None else set_trainable(params, mask, but, True)


def set_trainable(
    params: PyTree,
    trainable: PyTree,
    where: Where | Sequence[Where],
    flag: bool,
) -> PyTree:
    """A new mask, with ``flag`` for the leaves that ``where`` matches and the old flags for all others.

    Args:
      params: the parameters, a pytree of arrays or Python numbers. Their dtypes determine which leaves can train.
      trainable: a static mask with the structure of ``params``.
      where: which leaves to set, in one of four forms. (1) A path such as ``"encoder/kernel"``, written as
        :func:`path_of` writes it. The path of a sub-tree, such as ``"encoder"``, matches all leaves below it. (2) A
        glob such as ``"*/bias"``, matched against the whole path by ``fnmatch.fnmatchcase``. Its ``*`` also matches
        ``/``. (3) A function of path and parameter that returns True for the leaves to set. (4) A list of these, each
        of which must match a leaf. A string is tried as a path first, then as a glob whose brackets are literal, then
        as a glob with sets in brackets. So if there is a key ``w[0]``, ``"w[0]/*"`` matches what is below it.
      flag: True if the leaves should train, False if they should be fixed.

    Returns:
      A static mask with the same structure. With ``flag=True``, a sub-tree, a glob or a function skips the leaves that
      cannot train (integers, bools, random keys).

    Raises:
      NoMatchError: ``where``, or an entry of the list, matches no leaf. The message has the nearest names.
      TypeError: ``flag`` is True, and ``where`` is the path of a leaf that cannot train or matches only such leaves;
        ``where`` has none of the four forms; ``flag`` is not a bool; the mask is not static; or a container changes the
        bools that are put into it.
      ValueError: ``params`` and the mask differ in structure; or ``where`` is the path of two places, because a key
        contains a slash.

    The counterpart of ``gpflow.set_trainable``, which changes a model in place.

    >>> params = {"encoder": {"bias": 0.0, "kernel": 1.0}, "head": 2.0}
    >>> mask = all_trainable(params)
    >>> set_trainable(params, mask, "encoder", False)
    {'encoder': {'bias': False, 'kernel': False}, 'head': True}
    >>> set_trainable(params, mask, ["*/bias", "head"], False)
    {'encoder': {'bias': False, 'kernel': True}, 'head': False}
    """
    _check_flag(flag)
    wheres: list[Any] = list(where) if isinstance(where, (list, tuple)) else [where]
    if not wheres:
        raise NoMatchError("where is an empty list, which matches no leaf.")

    structure: Any
    flags, structure = jax.tree.flatten(trainable)
    pairs, other_structure = jax.tree_util.tree_flatten_with_path(params)
    if structure != other_structure:
        raise _differ_in_structure(params, trainable, ("the tree of parameters", "the mask"))
    _check_static(trainable, flags)
    paths = [path_of(keys) for keys, _ in pairs]
    for one in wheres:
        meant = _meant(one, pairs, paths)
        if flag:
            stuck = {place: None for place in meant if not _can_train(paths[place], pairs[place][1])}
            named = [place for place in stuck if one in (paths[place], _path(pairs[place][0]))]
            if named or len(stuck) == len(meant):
                place = [*named, *stuck][0]
                raise _cannot_train(paths[place], pairs[place][1])
            meant = [place for place in meant if place not in stuck] if stuck else meant
        for place in meant:
            flags[place] = flag
    return _rebuild(structure, flags, "bools in place of the leaves")


def _meant(where: Where, pairs: list[tuple[tuple[Any, ...], Any]], paths: list[str]) -> list[int]:
    """The positions of the leaves that ``where`` matches, at least one."""
    if callable(where):
        meant = [place for place, (path, (_, leaf)) in enumerate(zip(paths, pairs, strict=True)) if where(path, leaf)]
        if not meant:
            raise _no_match("the function is true for no leaf", "", paths)
        return meant
    if not isinstance(where, str):
        raise TypeError(
            f"where must be a path, a glob, a function of path and parameter, or a list of these, not "
            f"{_described(where)}."
        )
    if meant := _at_or_below(where, pairs, paths):
        return meant
    for glob in dict.fromkeys([where.replace("[", "[[]"), where]):  # at first, brackets are literal
        if meant := [place for place, path in enumerate(paths) if fnmatch.fnmatchcase(path, glob)]:
            return meant
    raise _no_match(f"{where!r} matches no leaf", where, paths)


def _at_or_below(where: str, pairs: list[tuple[tuple[Any, ...], Any]], paths: list[str]) -> list[int]:
    """The positions of the leaves at the path or below it.

    The keys decide which leaves are below it: if a key contains a slash, ``a/b`` need not be below ``a``.
    """
    meant: list[int] = []
    nodes: list[tuple[Any, ...]] = []
    for place, path in enumerate(paths):
        keys = pairs[place][0]
        if path.startswith(where) or (_is_in_a_box(keys) and where == _path(keys)):
            if not any(keys[: len(node)] == node for node in nodes):
                # A path with n slashes has at most n + 1 keys. The root matches only if it is itself a leaf.
                lengths = range(min(len(keys), where.count("/") + 1), 0, -1) if keys else [0]
                node = next((keys[:length] for length in lengths if _path(keys[:length]) == where), None)
                if node is None:
                    continue
                nodes.append(node)
            meant.append(place)
    if len(nodes) > 1:
        places = " and ".join(map(jax.tree_util.keystr, nodes[:_MOST_PATHS]))
        last = jax.tree_util.keystr(pairs[meant[-1]][0])
        raise ValueError(
            f"{where!r} is the path of {len(nodes)} places, because a key contains a slash: {places}. Select one with "
            f"a function, such as lambda path, leaf: leaf is params{last}."
        )
    return meant


def _no_match(question: str, where: str, paths: list[str]) -> NoMatchError:
    """The error for no match. It lists few paths, however many there are."""
    if len(paths) <= _MOST_PATHS:
        answer = f"There are: {', '.join(paths) or 'no parameters at all'}."
    else:
        # Nodes and single keys are names, too: the name nearest to "*/bais" is "bias".
        keys = [path.split("/") for path in paths]
        names = dict.fromkeys(key for each in keys for key in each)
        names |= dict.fromkeys("/".join(each[:length]) for each in keys for length in range(1, len(each) + 1))
        near = difflib.get_close_matches(where.strip("*?/"), names, _MOST_PATHS) if where else []
        answer = f"There are {len(paths)} leaves"
        answer += f", and the nearest names are: {', '.join(near)}." if near else f". The first is {paths[0]}."
    return NoMatchError(textwrap.fill(f"{question}. {answer}", 80, break_on_hyphens=False))


def trainable_paths(trainable: PyTree) -> list[str]:
    """The paths of the leaves that train.

    Args:
      trainable: a static mask.

    Returns:
      A list of paths such as ``encoder/kernel``, in the order of ``jax.tree.leaves``.

    Raises:
      TypeError: the mask is not static.

    >>> trainable_paths({"encoder": {"bias": True, "kernel": False}, "head": True})
    ['encoder/bias', 'head']
    """
    _check_static(trainable)
    return [path_of(keys) for keys, train in jax.tree.leaves_with_path(trainable) if train]


# ---- using masks -----------------------------------------------------------------------------------------------------


def stop_fixed(params: PyTree, trainable: PyTree) -> PyTree:
    """The parameters, with the gradient stopped where the mask is False.

    The values are the same, so the loss still depends on a fixed parameter, but its gradient is zero. This alone does
    not keep it fixed: weight decay and momentum also move parameters whose gradient is zero.

    Args:
      params: a pytree of arrays, of any shapes and dtypes.
      trainable: a static mask, or a traced one, whose leaves are boolean arrays of shape ``()``.

    Returns:
      A pytree like ``params``, with the same values.

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
    leaves, flags, structure = _flat(params, trainable)
    for place, train in enumerate(flags):
        if not isinstance(train, bool) and (getattr(train, "dtype", None) != np.bool_ or np.shape(train) != ()):
            path, _ = _paths_and_leaves(trainable)[place]
            raise TypeError(
                f"each leaf of a mask must be a Python bool or a boolean array of shape (), but "
                f"{path or 'its leaf'} is {_described(train)}."
            )

    def stop(leaf, train):
        if isinstance(train, bool):
            return leaf if train else jax.lax.stop_gradient(leaf)
        return jnp.where(train, leaf, jax.lax.stop_gradient(leaf))

    return _unflatten(structure, list(map(stop, leaves, flags)), "arrays whose gradient is stopped")


def partition(params: PyTree, trainable: PyTree) -> tuple[PyTree, PyTree]:
    """Split the parameters, or any pytree with their structure, into the trainable part and the fixed part.

    Args:
      params: a pytree with leaves of any kind.
      trainable: a static mask.

    Returns:
      Two pytrees, ``(train, fixed)``, with the structure of ``params``. Each has None in place of the leaves that are
      in the other one. For JAX, None is an empty pytree, so it has no gradient and no optimizer state.

    Raises:
      ValueError: the parameters and the mask differ in structure; the message names the first place.
      TypeError: the mask is not static, or a container of ``params`` changes the None that is put into it.

    The names ``partition`` and ``combine`` are those of Equinox.

    >>> partition({"a": 1.0, "b": 2.0}, {"a": False, "b": True})
    ({'a': None, 'b': 2.0}, {'a': 1.0, 'b': None})
    """
    leaves, flags, structure = _flat(params, trainable)
    _check_static(trainable, flags)
    train = [leaf if flag else None for leaf, flag in zip(leaves, flags, strict=True)]
    fixed = [None if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)]
    what = "None in place of some leaves"
    return _rebuild(structure, train, what), _rebuild(structure, fixed, what)


def combine(train: PyTree, fixed: PyTree, trainable: PyTree | None = None) -> PyTree:
    """Join the two parts that :func:`partition` returned.

    Args:
      train: a pytree with None in place of the fixed leaves.
      fixed: a pytree with the same structure, with None in place of the others.
      trainable: the static mask of the partition, if you want the parts to be compared with it. Parameters may
        themselves contain None, so a place that is None in both parts stays None. If the two parts were made with
        different masks, a leaf can be missing from both. Only a comparison with the mask finds this.

    Returns:
      The pytree with all leaves. Each leaf is the same object as in its part.

    Raises:
      ValueError: the parts differ in structure; both have a leaf in the same place; or, with a mask, a leaf is missing
        or is in the wrong part. The message names the first place.
      TypeError: the mask is not static.

    >>> combine({"a": None, "b": 2.0}, {"a": 1.0, "b": None})
    {'a': 1.0, 'b': 2.0}
    """
    parts, structure = jax.tree.flatten(train, _is_hole)
    others = _flat_like(structure, fixed)
    if others is None:
        raise _differ_in_structure(train, fixed, ("the first part", "the second part"), _is_hole)
    for place, (leaf, other) in enumerate(zip(parts, others, strict=True)):
        if leaf is not None and other is not None:
            path = _hole_path(train, place)
            raise ValueError(f"both parts have a leaf at {path}. Combine the two parts of one partition.")
    if trainable is not None:
        _check_parts(train, structure, parts, others, trainable)
    leaves = [other if leaf is None else leaf for leaf, other in zip(parts, others, strict=True)]
    return _unflatten(structure, leaves, "the leaves of both parts")


def _flat_like(structure: Any, part: PyTree) -> list[Any] | None:
    """The leaves and holes of a part, in the order of a structure; None if the part does not have this structure."""
    try:
        found = structure.flatten_up_to(part)
    except ValueError:
        return None
    # Where the other part has a hole, JAX accepts anything, even a whole sub-tree.
    return found if jax.tree_util.all_leaves([leaf for leaf in found if leaf is not None]) else None


def _hole_path(part: PyTree, place: int) -> str:
    """The path of the leaf or hole at this position in a part."""
    return path_of(jax.tree_util.tree_flatten_with_path(part, _is_hole)[0][place][0]) or "the top"


def _check_parts(train: PyTree, structure: Any, parts: list[Any], others: list[Any], trainable: PyTree) -> None:
    """Check that each leaf is in the part that the mask says, and that both are None only where the mask is, too."""
    _check_static(trainable)
    flags = _flat_like(structure, trainable)
    if flags is None:
        raise _differ_in_structure(trainable, train, ("the mask", "the first part"), _is_hole)
    for place, (flag, leaf, other) in enumerate(zip(flags, parts, others, strict=True)):
        if (leaf is not None, other is not None) != (flag is True, flag is False):
            path = _hole_path(train, place)
            has = "neither part has a leaf" if leaf is other else "the wrong part has a leaf"
            raise ValueError(f"the mask is {flag} at {path}, but {has} there. Combine the parts that this mask made.")


def move_state(
    params: PyTree,
    old: PyTree,
    new: PyTree,
    optimizer: optax.GradientTransformation,
    state: PyTree,
) -> PyTree:
    """Carry an optimizer's state over to a new mask.

    Args:
      params: the current parameters. What is freshly initialised may depend on their values.
      old: the static mask that ``state`` belongs to.
      new: the static mask to change to.
      optimizer: an Optax optimizer.
      state: the state of ``optimizer`` for the part of ``params`` that trains under ``old``. It has the structure of
        ``optimizer.init(partition(params, old)[0])``.

    Returns:
      A state of ``optimizer`` for the part that trains under ``new``. The state of leaves that train under both masks
      is carried over bit for bit. So is any state that belongs to no single leaf, such as Adam's count of steps. The
      state of leaves that are freed is freshly initialised, and the state of leaves that become fixed is dropped.

    For two kinds of optimizer this is not enough.

    - Adam and its variants keep one count of steps for all leaves. For a leaf that is freed late this count is too
      large: its averages start at zero, and the bias correction no longer makes up for that. Under a constant gradient,
      after 2,000 steps, the first step of a freed leaf is 2.9 learning rates long, and its longest step 6.1. Give the
      freed leaves a state of their own, with a count that starts at zero, as chapter 5b does, or use a small learning
      rate for a few hundred steps.
    - ``optax.lbfgs`` keeps differences of parameters and gradients. Those of a freed leaf are zero, and those of the
      others were measured while it was fixed, so the estimated curvature fits neither problem. Start from a fresh
      state, ``optimizer.init(partition(params, new)[0])``.

    Raises:
      ValueError: ``state`` does not belong to this optimizer, these parameters and ``old``; or a mask and the
        parameters differ in structure. The message names the first place.
      TypeError: a mask is not static.

    >>> params, momentum = {"a": jnp.ones(1), "b": jnp.ones(1)}, optax.trace(0.9)
    >>> only_a, both = {"a": True, "b": False}, {"a": True, "b": True}
    >>> state = optax.TraceState(trace={"a": jnp.array([5.0]), "b": None})
    >>> moved = move_state(params, only_a, both, momentum, state)
    >>> print(moved.trace["a"], moved.trace["b"])
    [5.] [0.]
    """
    trained, _ = partition(params, old)
    pairs, structure = jax.tree_util.tree_flatten_with_path(optimizer.init(partition(params, new)[0]))
    kept = dict(jax.tree.leaves_with_path(state))
    if not _is_state_of(kept, dict(pairs), old, new):
        # Tracing the optimizer takes several times as long as running it, so it is done only in case of doubt.
        _check_state(jax.eval_shape(optimizer.init, trained), state, ("the state for the old mask", "the one given"))
    return jax.tree.unflatten(structure, [kept.get(keys, leaf) for keys, leaf in pairs])


def _is_state_of(state: dict[Any, Any], fresh: dict[Any, Any], old: PyTree, new: PyTree) -> bool:
    """Whether a state certainly belongs to the old mask, by comparison with a fresh state for the new mask.

    Both states are dictionaries from keys to leaves. What a state has for a parameter has keys that end in those of the
    parameter.
    """
    pairs = zip(jax.tree.leaves_with_path(old), jax.tree.leaves(new), strict=True)
    trains = {keys: (before, after) for (keys, before), after in pairs}
    lengths = sorted({len(keys) for keys in trains}, reverse=True)
    for keys in [*fresh, *(keys for keys in state if keys not in fresh)]:
        ends = (keys[len(keys) - length :] for length in lengths if length <= len(keys))
        # What belongs to no single leaf is in both states.
        before, after = next((trains[end] for end in ends if end in trains), (True, True))
        if (keys in state, keys in fresh) != (before, after):
            return False
        if before and after and np.shape(state[keys]) != np.shape(fresh[keys]):
            return False
    return True


# ---- looking at masks ------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A row of the summary."""

    path: str
    shape: str
    dtype: str
    trainable: str
    value: str


class Summary(NamedTuple):
    """A table of the parameters: text when it is printed, HTML when a notebook shows it."""

    rows: tuple[Row, ...]
    totals: str
    left_out: str = ""

    def __str__(self) -> str:
        rows = [Row._fields, *self.rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, *filter(None, [self.left_out]), self.totals])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{name}</th>' for name in Row._fields)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows)
        below = "".join(f"<p>{html.escape(line)}</p>" for line in (self.left_out, self.totals) if line)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def summary(params: PyTree, trainable: PyTree, *, max_rows: int = 100) -> Summary:
    """A table of the parameters that shows which of them train. Look at it before you train.

    Args:
      params: a pytree of arrays or numbers.
      trainable: a static mask.
      max_rows: the largest number of rows. A line below them says how many leaves are not shown. The totals are for
        all leaves.

    Returns:
      A table with a row for each leaf, of its path, shape, dtype, whether it trains, and its first value. A leaf
      without a gradient never trains, and its row says why: ``integer, never trains``. The last line says how many of
      the numbers train, and how many of the bytes. Print the table, or take its text with ``str``. The value is left
      empty if it is not known: inside a jitted function, for the result of ``jax.eval_shape``, or on another process.
      For a donated array it is ``deleted``. Only one number is fetched from the device for each row.

    Raises:
      ValueError: the parameters and the mask differ in structure; the message names the first place.
      TypeError: the mask is not static, or a leaf is neither an array nor a number.

    After the table of ``gpflow.utilities.print_summary``.

    >>> params = {"a": jnp.array(3.14), "b": jnp.ones([2, 2]), "steps": jnp.array(0)}
    >>> summary(params, {"a": False, "b": True, "steps": False})
    path   shape   dtype    trainable              value
    a      ()      float32  False                  3.14
    b      (2, 2)  float32  True                   1 …
    steps  ()      int32    integer, never trains  0
    4 of 6 numbers train (16 of 24 bytes)
    """
    _check_mask(params, trainable)
    rows: list[Row] = []
    numbers, size, all_numbers, all_size = 0, 0, 0, 0
    pairs = jax.tree.leaves_with_path(params)
    for (keys, leaf), train in zip(pairs, jax.tree.leaves(trainable), strict=True):
        dtype = leaf.dtype if hasattr(leaf, "dtype") else _dtype(path_of(keys), leaf)
        count = math.prod(np.shape(leaf))
        all_numbers, all_size = all_numbers + count, all_size + count * dtype.itemsize
        if train:
            numbers, size = numbers + count, size + count * dtype.itemsize
        if len(rows) < max_rows:
            shape = str(np.shape(leaf))
            rows.append(Row(path_of(keys), shape, str(dtype), _whether_it_trains(dtype, train), _first_value(leaf)))
    return Summary(
        tuple(rows),
        f"{numbers} of {all_numbers} numbers train ({size} of {all_size} bytes)",
        f"… and {len(pairs) - len(rows)} more, not shown" if len(pairs) > len(rows) else "",
    )


def _whether_it_trains(dtype: Any, train: bool) -> str:
    if _has_gradient(dtype):
        return str(train)
    kinds = {jnp.integer: "integer", jnp.bool_: "bool", jax.dtypes.prng_key: "key"}
    kind = next((name for kind, name in kinds.items() if jnp.issubdtype(dtype, kind)), "no gradient")
    return f"{kind}, cannot train" if train else f"{kind}, never trains"


def _first_value(leaf: Any) -> str:
    """The first number of a leaf as text, with four significant digits."""
    known = not isinstance(leaf, (jax.core.Tracer, jax.ShapeDtypeStruct))
    if not known or math.prod(np.shape(leaf)) == 0 or _is_key(_dtype("", leaf)):
        return ""
    if _is_deleted(leaf):
        return "deleted"
    first = _first_number(leaf)
    if first is None:
        return ""
    more = " …" if math.prod(np.shape(leaf)) > 1 else ""
    return (f"{first:.4g}" if not isinstance(first, bool) else str(first)) + more


def _first_number(leaf: Any) -> Any:
    """The first number of an array, fetched without the others; None if it is on another process."""
    if isinstance(leaf, jax.Array):
        shards = leaf.addressable_shards
        leaf = next((shard.data for shard in shards if not any(part.start for part in shard.index)), None)
        if leaf is None:
            return None
        # On a CPU, NumPy reads the memory without a copy. From another device, only one number is fetched.
        if next(iter(leaf.devices())).platform != "cpu":
            leaf = _first_on_device(leaf)
    return np.asarray(leaf)[(0,) * np.ndim(leaf)].item()


def _first_on_device(leaf: jax.Array) -> jax.Array:
    """The first number of an array on one device, picked out there, whatever mesh is set in the surrounding code."""
    no_mesh = jax.sharding.Mesh(np.empty((), object), ())
    with jax.set_mesh(no_mesh), jax.ensure_compile_time_eval():
        return leaf[(0,) * leaf.ndim]
