"""Masks for parts of arrays: some lengthscales, some rows of an embedding.

An *elementwise mask* is a pytree with the structure of the parameters and, for each leaf, a boolean array of the leaf's
shape, or a Python bool that speaks for the whole leaf. True trains. Nothing here changes its arguments.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from trainability.masks import _can_train, _cannot_train, _check_structure, _is_hole, _paths_and_leaves, path_of

PyTree = Any
_NAMES = {True: "free", False: "fixed"}


def entry_names(params: PyTree) -> list[str]:
    """The name of each number in the parameters, in the order in which a vector of all of them has them.

    Args:
      params: a pytree of arrays of any shapes, or of Python numbers. None has no entries.

    Returns:
      A list of as many names as there are numbers, in the order of ``jax.flatten_util.ravel_pytree``: the path, and for
      arrays with axes the index.

    >>> entry_names({"kernel": jnp.ones([1, 2]), "scale": 2.0})
    ['kernel[0, 0]', 'kernel[0, 1]', 'scale']
    """
    return [
        path + (f"[{', '.join(map(str, index))}]" if index else "")
        for path, leaf in _paths_and_leaves(params)
        for index in np.ndindex(np.shape(leaf))
    ]


def _check_flags(path: str, flags: Any) -> None:
    """That the mask of one leaf is a Python bool or a known array of truth values."""
    if isinstance(flags, jax.core.Tracer):
        raise TypeError(
            f"the mask of {path} is traced. It decides the shapes of the parts, so it must be known while JAX traces: "
            f"make it outside of the jitted function, and do not pass it as an argument."
        )
    if not isinstance(flags, bool) and getattr(flags, "dtype", None) != np.bool_:
        raise TypeError(f"an elementwise mask has boolean arrays or Python bools, and at {path} there is {flags!r}.")


def _on_every_device(leaf: Any) -> Any:
    """The array without its sharding over explicit axes, where JAX asks how the result of indexing is to be sharded."""
    sharding = jax.typeof(leaf).sharding
    if all(axes is None for axes in sharding.spec):
        return leaf
    return jax.sharding.reshard(leaf, jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec()))


def partition_entries(params: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
    """Split the parameters, entry by entry, into what trains and what is fixed.

    Each number goes into one part and is not in the other. An optimizer that is given the free part has no hold on the
    fixed entries, whatever it does: decay, momentum, a line search.

    Args:
      params: a pytree of arrays of any shapes and dtypes, or of Python numbers.
      mask: a pytree of that structure. For each leaf it has a boolean array of the leaf's shape, or a Python bool,
        which speaks for the whole leaf. True trains. The arrays must be known while JAX traces.

    Returns:
      Two pytrees, ``(free, fixed)``, with the structure of ``params``. Where the mask has an array, they have the free
      and the fixed entries of the leaf as vectors, in the order of ``leaf.ravel()``. Where it has a Python bool, one of
      them has the leaf as it is, as in :func:`~trainability.partition`. A part that has nothing of a leaf has
      None. Of an array that is sharded over explicit axes, the vectors are on every device: their lengths need not be
      divisible by the number of devices. Give the combined leaf its sharding again with ``jax.sharding.reshard``.

    Raises:
      ValueError: the parameters and the mask differ in structure, or a leaf and its mask in shape; the message names
        the first place.
      TypeError: the mask is traced, or has something other than truth values; or it lets entries train that have no
        gradient (integers, bools, random keys).

    >>> params = {"lengthscales": jnp.array([0.5, 1.0, 2.0]), "variance": jnp.array(1.5)}
    >>> mask = {"lengthscales": np.array([True, False, True]), "variance": False}
    >>> free, fixed = partition_entries(params, mask)
    >>> print(free["lengthscales"], free["variance"])
    [0.5 2. ] None
    >>> print(fixed["lengthscales"], fixed["variance"])
    [1.] 1.5
    """
    _check_structure(params, mask)

    def check(keys, leaf, flags):
        path = path_of(keys) or "the parameter"
        _check_flags(path, flags)
        if not isinstance(flags, bool) and np.shape(flags) != np.shape(leaf):
            raise ValueError(
                f"{path} has the shape {np.shape(leaf)} and its mask {np.shape(flags)}. A mask is not broadcast: "
                f"np.broadcast_to(mask, {np.shape(leaf)}) if that is what you mean."
            )
        if np.any(flags) and not _can_train(path, leaf):
            raise _cannot_train(path, leaf)

    def part(wanted):
        def pick(leaf, flags):
            if isinstance(flags, bool):
                return leaf if flags == wanted else None
            places = np.flatnonzero(np.asarray(flags) == wanted)
            empty = places.size == 0 and (wanted or np.size(leaf) > 0)  # a leaf without entries is in the fixed part
            return None if empty else jnp.ravel(_on_every_device(leaf))[places]

        return jax.tree.map(pick, params, mask)

    jax.tree.map_with_path(check, params, mask)
    return part(True), part(False)


def combine_entries(free: PyTree, fixed: PyTree, mask: PyTree) -> PyTree:
    """Put the parts that :func:`partition_entries` made together again, each entry in its place.

    Args:
      free, fixed: pytrees of the structure of ``mask``: vectors where the mask has arrays, and None where a part has
        nothing.
      mask: the elementwise mask of the partition.

    Returns:
      The parameters, every entry bit for bit as it was in its part. The place of each entry is a constant of the
      program that is compiled, so of a very large array of which a few rows train, split the rows off by hand:
      ``table.at[rows].set(free_rows)``.

    Raises:
      ValueError: a part and the mask differ in structure, or a part has another number of entries than the mask says;
        the message names the first place.
      TypeError: the mask is traced, or has something other than truth values.

    >>> mask = {"lengthscales": np.array([True, False, True])}
    >>> free, fixed = partition_entries({"lengthscales": jnp.array([0.5, 1.0, 2.0])}, mask)
    >>> free = {"lengthscales": 10 * free["lengthscales"]}
    >>> print(combine_entries(free, fixed, mask)["lengthscales"])
    [ 5.  1. 20.]
    """

    def join(keys, flags, free, fixed):
        if flags is None:
            return None
        path = path_of(keys) or "the parameter"
        _check_flags(path, flags)
        parts = (free, fixed)
        if isinstance(flags, bool):
            if [part is not None for part in parts] != [flags, not flags]:
                raise ValueError(f"the mask is {flags} at {path}, so only the {_NAMES[flags]} part may have it.")
            return free if flags else fixed
        flags = np.asarray(flags)
        expected = int(flags.sum()), int((~flags).sum())
        numbers = tuple(0 if part is None else np.size(part) for part in parts)
        if numbers != expected:
            raise ValueError(
                f"at {path} the mask has {expected[0]} free entries and {expected[1]} fixed ones, the parts have "
                f"{numbers[0]} and {numbers[1]}."
            )
        # the places of the free entries and then of the fixed ones; sorting them says where each entry came from
        places = np.concatenate([np.flatnonzero(flags), np.flatnonzero(~flags)])
        entries = jnp.concatenate([_on_every_device(part) for part in parts if part is not None])
        return entries[np.argsort(places)].reshape(flags.shape)

    _check_structure(mask, free, ("the mask", "the free part"), _is_hole)
    _check_structure(mask, fixed, ("the mask", "the fixed part"), _is_hole)
    return jax.tree.map_with_path(join, mask, free, fixed, is_leaf=_is_hole)
