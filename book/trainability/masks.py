"""Masks: which parameters train, as data beside the parameters.

A mask is a pytree with the structure of the parameters and one truth value for each leaf. True trains. In a *static*
mask the truth values are Python bools; in a *traced* mask they are boolean arrays without axes, passed to a jitted
function. Nothing here changes its arguments: every function returns new pytrees.
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
_MOST_PATHS = 10  # in a message


class NoMatchError(LookupError):
    """Nothing in the parameters is meant by ``where``. The message lists the nearest paths."""


# ---- paths and leaves ------------------------------------------------------------------------------------------------


def path_of(key_path: tuple[Any, ...]) -> str:
    """The path of a leaf, written like ``encoder/kernel``, from JAX's tuple of keys.

    A last key that is an attribute called ``value`` is left out. Flax keeps a parameter there when it puts it in a box:
    an ``nnx.Variable``, or a Linen parameter that knows how it is partitioned over devices.

    Two leaves can have the same path if a key holds a slash.

    Args:
      key_path: a tuple of keys, as ``jax.tree_util.tree_leaves_with_path`` gives it.

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
    """The dtype of a parameter, an array or a Python number."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    if isinstance(leaf, (bool, int, float, complex)):
        return jnp.result_type(leaf)
    raise TypeError(f"{path or 'the parameter'} is a {type(leaf).__name__}, and a parameter is an array or a number.")


def _can_train(path: str, leaf: Any) -> bool:
    """Whether a leaf has a gradient: floating or complex, and neither integer, boolean nor a random key."""
    return _has_gradient(_dtype(path, leaf))


@functools.cache  # a tree has few dtypes, and JAX takes some microseconds to answer
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
    """What a part has where the leaf is in the other one."""
    return node is None


# ---- structure -------------------------------------------------------------------------------------------------------


def _structure(tree: PyTree, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """The structure of a pytree. JAX's type for it has none of its attributes."""
    return jax.tree.structure(tree, is_leaf)


def _difference(
    first: PyTree, second: PyTree, names: tuple[str, str], is_leaf: Callable[[Any], bool] | None = None, path: str = ""
) -> str:
    """Where and how the structure of two pytrees first differs. To be asked only if it does."""

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
        return f"{place} both have {kinds[0]}, but not the same one: {structure} and {other_structure}"
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
    # JAX compares whole structures in a few microseconds. The slow walk finds the place, and is for the message alone.
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
    """The names of the containers of a tree that are not Python's own."""
    found = set().union(*map(_classes, structure.children()))
    if (node := structure.node_data()) and node[0] not in (dict, list, tuple):
        found.add(node[0].__name__)
    return found


def _unflatten(structure: Any, leaves: list[Any], what: str) -> PyTree:
    """A tree of this structure with other leaves, and a word on what happened if a container refuses them.

    JAX makes each container anew, and a class may check in its constructor what it is given.
    """
    try:
        return structure.unflatten(leaves)
    except Exception as error:
        error.add_note(_made_anew(structure, what))
        raise


def _rebuild(structure: Any, leaves: list[Any], what: str) -> PyTree:
    """The same for bools and None, which must come back as they are: a class may convert what it is given."""
    tree = _unflatten(structure, leaves, what)
    held, given = jax.tree.leaves(tree), [leaf for leaf in leaves if leaf is not None]
    flags = (new is old for old, new in zip(given, held, strict=True) if isinstance(old, bool))
    if len(held) != len(given) or not all(flags):
        raise TypeError(f"a container has changed what it was given. {_made_anew(structure, what)}")
    return tree


def _made_anew(structure: Any, what: str) -> str:
    return (
        f"This happened where the containers of the tree ({', '.join(sorted(_classes(structure)))}) were made anew "
        f"with {what}. A class whose constructor checks or converts its fields cannot hold them. Let the function "
        f"that JAX calls to unflatten it skip the constructor: object.__new__, then set the fields."
    )


# ---- what a mask must be ---------------------------------------------------------------------------------------------


def _described(leaf: Any) -> str:
    """A leaf in a few words, however large it is."""
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
    """What to do about a leaf that is no Python bool, in what should be a static mask."""
    if isinstance(leaf, str):
        return (
            "Every string that is not empty is true for Python, 'False' too, so say which one trains: "
            "jax.tree.map(lambda word: word == 'trains', mask)."
        )
    if isinstance(leaf, jax.core.Tracer) and leaf.dtype == np.bool_:
        return "While JAX traces, its truth value is not known: close over the mask, do not pass it as an argument."
    if getattr(leaf, "dtype", None) == np.bool_ and np.shape(leaf) != ():
        return "For masks of parts of arrays there are partition_entries and combine_entries."
    if all(isinstance(flag, (bool, np.bool_)) or _is_zero_or_one(flag) for flag in jax.tree.leaves(trainable)):
        return "For a mask of known truth values: jax.tree.map(bool, mask)."
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
    """That all leaves of a mask are Python bools. ``flags`` are its leaves, if they are at hand."""
    if all(isinstance(flag, bool) for flag in (jax.tree.leaves(trainable) if flags is None else flags)):
        return
    path, flag = next((path, flag) for path, flag in _paths_and_leaves(trainable) if not isinstance(flag, bool))
    raise TypeError(
        f"a static mask is needed, a pytree of Python bools, and {path or 'its leaf'} is {_described(flag)}. "
        f"{_advice(trainable, flag)}"
    )


def _check_mask(params: PyTree, trainable: PyTree) -> None:
    _check_structure(params, trainable)
    _check_static(trainable)


# ---- making masks ----------------------------------------------------------------------------------------------------


def all_trainable(params: PyTree, but: Where | Sequence[Where] | None = None) -> PyTree:
    """The mask under which everything trains that can, or everything but what you name.

    An integer never trains, and neither does a Python integer that should have been a float: write ``1.0``, not ``1``,
    for a parameter. :func:`summary` says so at each such leaf.

    Args:
      params: a pytree of arrays of any shapes and dtypes, or of Python numbers.
      but: what is fixed: a path, a glob, a function, or a list of these, as in :func:`set_trainable`.

    Returns:
      A static mask, True for floating and complex leaves, False for integers, bools and random keys, which have no
      gradient (``jax.grad`` refuses them), and for what ``but`` names.

    Raises:
      TypeError: a leaf is neither an array nor a number; the message names it. Or a container of ``params`` changes
        the bools that it is given.
      NoMatchError: ``but`` names no leaf.

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
    """The mask under which everything is fixed, or everything but what you name.

    Args:
      params: a pytree of arrays of any shapes and dtypes, or of Python numbers. Without ``but``, of leaves of any kind.
      but: what trains: a path, a glob, a function, or a list of these, as in :func:`set_trainable`.

    Returns:
      A static mask of that structure, False everywhere but at what ``but`` names.

    Raises:
      TypeError: ``but`` names a leaf that cannot train. Or a container of ``params`` changes the bools that it is
        given.
      NoMatchError: ``but`` names no leaf.

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
    """A new mask, with ``flag`` at the leaves that ``where`` means and everything else as it was.

    Args:
      params: the parameters, a pytree of arrays or Python numbers. Their dtypes say which leaves can train.
      trainable: a static mask of that structure.
      where: what to set. A path such as ``"encoder/kernel"``; if it ends inside the tree, as ``"encoder"`` does, all
        leaves below it. A glob such as ``"*/bias"``, matched against the whole path by ``fnmatch.fnmatchcase``,
        in which ``*`` also crosses ``/``. Or a function of path and parameter that returns True for the leaves meant.
        Or a list of these, each of which must match something. A path comes before a glob, and brackets that the paths
        themselves have before brackets of a glob: where there is a key ``w[0]``, ``"w[0]/*"`` means what is below it.
        Paths are written as :func:`path_of` writes them.
      flag: True to let them train, False to fix them.

    Returns:
      A static mask of the same structure. With ``flag=True``, a glob, a sub-tree or a function passes over leaves that
      cannot train (integers, bools, random keys); they stay False.

    Raises:
      NoMatchError: ``where``, or one of the list, matches no leaf. The message has the nearest names.
      TypeError: ``flag`` is True, and ``where`` names a leaf that cannot train, or matches only such leaves; ``flag``
        is not a bool; the mask is not static; or a container changes the bools that it is given.
      ValueError: ``params`` and the mask differ in structure; or ``where`` is the path of two places, since a key
        holds a slash.

    The counterpart of ``gpflow.set_trainable``, which changes a model in place.

    >>> params = {"encoder": {"bias": 0.0, "kernel": 1.0}, "head": 2.0}
    >>> mask = all_trainable(params)
    >>> set_trainable(params, mask, "encoder", False)
    {'encoder': {'bias': False, 'kernel': False}, 'head': True}
    >>> set_trainable(params, mask, ["*/bias", "head"], False)
    {'encoder': {'bias': False, 'kernel': True}, 'head': False}
    """
    if not isinstance(flag, bool):
        advice = ": bool(flag)" if isinstance(flag, np.bool_) else ""
        raise TypeError(f"flag is True (trains) or False (fixed), not {_described(flag)}{advice}.")
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
    """The places of the leaves that ``where`` means. There is one at least."""
    if callable(where):
        meant = [place for place, (path, (_, leaf)) in enumerate(zip(paths, pairs, strict=True)) if where(path, leaf)]
        if not meant:
            raise _no_match("the function is true for no leaf", "", paths)
        return meant
    if not isinstance(where, str):
        raise TypeError(
            f"where is a path, a glob, a function of path and parameter, or a list of these, not {_described(where)}."
        )
    if meant := _at_or_below(where, pairs, paths):
        return meant
    for glob in dict.fromkeys([where.replace("[", "[[]"), where]):  # first with brackets that mean themselves
        if meant := [place for place, path in enumerate(paths) if fnmatch.fnmatchcase(path, glob)]:
            return meant
    raise _no_match(f"{where!r} matches no leaf", where, paths)


def _at_or_below(where: str, pairs: list[tuple[tuple[Any, ...], Any]], paths: list[str]) -> list[int]:
    """The places of the leaves at the path or below it.

    Whether a leaf is below is a question about its keys: with a slash in a key, ``a/b`` need not be below ``a``.
    """
    meant: list[int] = []
    nodes: list[tuple[Any, ...]] = []
    for place, path in enumerate(paths):
        keys = pairs[place][0]
        if path.startswith(where) or (_is_in_a_box(keys) and where == _path(keys)):
            if not any(keys[: len(node)] == node for node in nodes):
                # A path of n slashes has at most n + 1 keys. The tree itself is no place, unless it is the leaf.
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
            f"{where!r} is the path of {len(nodes)} places, since a key holds a slash: {places}. Say which by a "
            f"function, such as lambda path, leaf: leaf is params{last}."
        )
    return meant


def _no_match(question: str, where: str, paths: list[str]) -> NoMatchError:
    """The error that nothing is meant, with few paths however many there are."""
    if len(paths) <= _MOST_PATHS:
        answer = f"There are: {', '.join(paths) or 'no parameters at all'}."
    else:
        # Nodes and single keys are names, too: of "*/bais" the nearest is "bias".
        keys = [path.split("/") for path in paths]
        names = dict.fromkeys(key for each in keys for key in each)
        names |= dict.fromkeys("/".join(each[:length]) for each in keys for length in range(1, len(each) + 1))
        near = difflib.get_close_matches(where.strip("*?/"), names, _MOST_PATHS) if where else []
        answer = f"There are {len(paths)} leaves, "
        answer += f"and the nearest names are: {', '.join(near)}." if near else f"the first is {paths[0]}."
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
    leaves, flags, structure = _flat(params, trainable)
    for place, train in enumerate(flags):
        if not isinstance(train, bool) and (getattr(train, "dtype", None) != np.bool_ or np.shape(train) != ()):
            path, _ = _paths_and_leaves(trainable)[place]
            raise TypeError(
                f"a mask has one truth value for a leaf, a Python bool or a boolean array of shape (), and at "
                f"{path or 'its leaf'} there is {_described(train)}."
            )

    def stop(leaf, train):
        if isinstance(train, bool):
            return leaf if train else jax.lax.stop_gradient(leaf)
        return jnp.where(train, leaf, jax.lax.stop_gradient(leaf))

    return _unflatten(structure, list(map(stop, leaves, flags)), "arrays whose gradient is stopped")


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
      TypeError: the mask is not static, or a container of ``params`` changes the None that it is given.

    The names are those of Equinox.

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
    """Put the parts that :func:`partition` made together again.

    Args:
      train, fixed: pytrees of one structure, with None where the other has a leaf.
      trainable: the static mask of the partition, if you want the parts compared with it. Parameters may hold None
        themselves, and a place that is None in both parts stays None. Only the mask can tell such a place from a leaf
        that was lost, because the parts come from partitions under different masks.

    Returns:
      The pytree with all the leaves, each the very object that was in its part.

    Raises:
      ValueError: the parts differ in structure, or both have a leaf in one place; or a part does not have what it
        should under the mask. The message names the first place.
      TypeError: the mask is not static.

    >>> combine({"a": None, "b": 2.0}, {"a": 1.0, "b": None})
    {'a': 1.0, 'b': 2.0}
    """
    parts, structure = jax.tree.flatten(train, _is_hole)
    others = _flat_like(structure, fixed)
    if others is None:
        raise _differ_in_structure(train, fixed, ("the first part", "the second"), _is_hole)
    for place, (leaf, other) in enumerate(zip(parts, others, strict=True)):
        if leaf is not None and other is not None:
            path = _hole_path(train, place)
            raise ValueError(f"both parts have a leaf at {path}: they are not of one partition.")
    if trainable is not None:
        _check_parts(train, structure, parts, others, trainable)
    leaves = [other if leaf is None else leaf for leaf, other in zip(parts, others, strict=True)]
    return _unflatten(structure, leaves, "the leaves of both parts")


def _flat_like(structure: Any, part: PyTree) -> list[Any] | None:
    """The leaves and holes of a part, in the order of a structure; None if it is not of this structure."""
    try:
        found = structure.flatten_up_to(part)
    except ValueError:
        return None
    # A hole of the other part takes whatever is there, a whole sub-tree, too.
    return found if jax.tree_util.all_leaves([leaf for leaf in found if leaf is not None]) else None


def _hole_path(part: PyTree, place: int) -> str:
    """The path of a place in a part, holes counted."""
    return path_of(jax.tree_util.tree_flatten_with_path(part, _is_hole)[0][place][0]) or "the top"


def _check_parts(train: PyTree, structure: Any, parts: list[Any], others: list[Any], trainable: PyTree) -> None:
    """That of each leaf the part has it that should, and that None is only where the mask has None, too."""
    _check_static(trainable)
    flags = _flat_like(structure, trainable)
    if flags is None:
        raise _differ_in_structure(trainable, train, ("the mask", "the first part"), _is_hole)
    for place, (flag, leaf, other) in enumerate(zip(flags, parts, others, strict=True)):
        if (leaf is not None, other is not None) != (flag is True, flag is False):
            path = _hole_path(train, place)
            has = "neither part has a leaf" if leaf is other else "the wrong part has a leaf"
            raise ValueError(f"the mask is {flag} at {path}, and {has} there: they are not of this partition.")


def move_state(
    params: PyTree,
    old: PyTree,
    new: PyTree,
    optimizer: optax.GradientTransformation,
    state: PyTree,
) -> PyTree:
    """Carry an optimizer's state over to a new mask.

    Args:
      params: the parameters as they are now; what is freshly initialised may depend on their values.
      old, new: static masks.
      optimizer: an Optax optimizer.
      state: the state of ``optimizer`` over the part of ``params`` that trains under ``old``, that is, of the
        structure of ``optimizer.init(partition(params, old)[0])``.

    Returns:
      A state of ``optimizer`` over the trainable part under ``new``. What belongs to leaves that train under both
      masks is carried over bit for bit, and so is what belongs to no single leaf, such as Adam's count of steps. What
      belongs to leaves that are freed is freshly initialised, and what belongs to leaves that are fixed is dropped.

    Two optimizers need more than this.

    - Adam and its kin keep one count of steps for all leaves. To a leaf that is freed late the count is wrong: its
      averages start at zero, and nothing makes up for that. Under a constant gradient, after 2,000 steps, the first
      step of a freed leaf is 2.9 learning rates long and the largest one 6.1. Give what is freed a state of its own,
      with a count that starts at zero, as chapter 5b does, or a small learning rate for some hundred steps.
    - ``optax.lbfgs`` keeps differences of parameters and gradients. Those of a freed leaf are zero, and those of the
      others were measured while it was fixed, so the curvature is of neither problem. Start it anew, with
      ``optimizer.init(partition(params, new)[0])``.

    Raises:
      ValueError: ``state`` does not belong to this optimizer, these parameters and ``old``, or a mask differs in
        structure from the parameters; the message names the first place.
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
        # To trace the optimizer takes several times as long as to run it, and is done only where there is a doubt.
        _check_state(jax.eval_shape(optimizer.init, trained), state, ("the state for the old mask", "the one given"))
    return jax.tree.unflatten(structure, [kept.get(keys, leaf) for keys, leaf in pairs])


def _is_state_of(state: dict[Any, Any], fresh: dict[Any, Any], old: PyTree, new: PyTree) -> bool:
    """Whether a state surely belongs to the old mask, by comparison with a fresh one of the new mask.

    Both are dictionaries of leaves by their keys. The keys of what a state has for a parameter end in the parameter's.
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
    """A table of the parameters that says which of them train, to be looked at before training.

    Args:
      params: a pytree of arrays or numbers.
      trainable: a static mask.
      max_rows: how many leaves have a row; a line below says how many have none. All leaves are counted.

    Returns:
      A table with a row for each leaf, of path, shape, dtype, whether it trains, and first value. What has no gradient
      never trains, and the row says why: ``integer, never trains``. Below it, how many numbers there are and how many
      bytes they take, and how many of them train. Where the values are not known, as inside a jitted function, from
      ``jax.eval_shape``, or on another process, that column is empty; of donated arrays it says ``deleted``. One number
      of each array is fetched from its device, and none of those without a row.

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
        f"… and {len(pairs) - len(rows)} leaves more, without a row" if len(pairs) > len(rows) else "",
    )


def _whether_it_trains(dtype: Any, train: bool) -> str:
    if _has_gradient(dtype):
        return str(train)
    kinds = {jnp.integer: "integer", jnp.bool_: "bool", jax.dtypes.prng_key: "key"}
    kind = next((name for kind, name in kinds.items() if jnp.issubdtype(dtype, kind)), "no gradient")
    return f"{kind}, cannot train" if train else f"{kind}, never trains"


def _first_value(leaf: Any) -> str:
    """The first number of a leaf, in as few digits as tell it from another."""
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
    """The first number of an array, and no other one; None if it is on another process."""
    if isinstance(leaf, jax.Array):
        shards = leaf.addressable_shards
        leaf = next((shard.data for shard in shards if not any(part.start for part in shard.index)), None)
        if leaf is None:
            return None
        # NumPy looks at the memory of a CPU without a copy. From elsewhere comes one number.
        if next(iter(leaf.devices())).platform != "cpu":
            leaf = _first_on_device(leaf)
    return np.asarray(leaf)[(0,) * np.ndim(leaf)].item()


def _first_on_device(leaf: jax.Array) -> jax.Array:
    """The first number of an array on one device, found there, whatever mesh is set for the computations around."""
    no_mesh = jax.sharding.Mesh(np.empty((), object), ())
    with jax.set_mesh(no_mesh), jax.ensure_compile_time_eval():
        return leaf[(0,) * leaf.ndim]
