"""Masks for parts of arrays: some lengthscales, some rows of an embedding.

An *elementwise mask* is a pytree with the structure of the parameters. For each parameter it has a boolean array of the
same shape, or one Python bool for the whole parameter. True means that an entry trains. No function here changes its
arguments.
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
    """The name of each number in the parameters, in the order of ``jax.flatten_util.ravel_pytree``.

    Args:
      params: a pytree of arrays of any shapes, or of Python numbers. None has no entries.

    Returns:
      A list with one name for each number. It is the path of the leaf, followed by the index if the leaf has axes.

    >>> entry_names({"kernel": jnp.ones([1, 2]), "scale": 2.0})
    ['kernel[0, 0]', 'kernel[0, 1]', 'scale']
    """
    return [
        path + (f"[{', '.join(map(str, index))}]" if index else "")
        for path, leaf in _paths_and_leaves(params)
        for index in np.ndindex(np.shape(leaf))
    ]


def _check_flags(path: str, flags: Any) -> None:
    """Check that the mask of one leaf is a Python bool or a boolean array with known values."""
    if isinstance(flags, jax.core.Tracer):
        raise TypeError(
            f"the mask of {path} is traced. It decides the shapes of the parts, so make it outside the jitted "
            f"function, and do not pass it as an argument."
        )
    if not isinstance(flags, bool) and getattr(flags, "dtype", None) != np.bool_:
        raise TypeError(
            f"an elementwise mask must have boolean arrays or Python bools, but at {path} it has {flags!r}."
        )


def _on_every_device(leaf: Any) -> Any:
    """The array, replicated if it is sharded over explicit axes: otherwise JAX needs a sharding for what is indexed."""
    sharding = jax.typeof(leaf).sharding
    if all(axes is None for axes in sharding.spec):
        return leaf
    return jax.sharding.reshard(leaf, jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec()))


def partition_entries(params: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
    """Split the parameters, entry by entry, into the free part, which trains, and the fixed part.

    Each number goes into exactly one part. An optimizer that gets only the free part cannot move the fixed entries,
    whether by weight decay, momentum or a line search.

    Args:
      params: a pytree of arrays of any shapes and dtypes, or of Python numbers.
      mask: a pytree with the same structure. For each leaf it has a boolean array of the same shape, or a Python bool
        for the whole leaf. True means that an entry trains. The arrays must not be traced.

    Returns:
      Two pytrees, ``(free, fixed)``, with the structure of ``params``. Where the mask has an array, they have the free
      and the fixed entries of the leaf as vectors, in the order of ``leaf.ravel()``. Where it has a Python bool, one of
      them has the whole leaf, as in :func:`~trainability.partition`. A part that has no entry of a leaf has None
      there. If an array is sharded over explicit axes, its vectors are replicated on every device, because their
      lengths may not be divisible by the number of devices. ``jax.sharding.reshard`` restores the sharding of the
      combined leaf.

    Raises:
      ValueError: the parameters and the mask differ in structure, or a leaf and its mask differ in shape; the message
        names the first place.
      TypeError: the mask is traced; it has a leaf that is neither a bool nor a boolean array; or it is True for entries
        that have no gradient (integers, bools, random keys).

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
                f"{path} has the shape {np.shape(leaf)}, but its mask has the shape {np.shape(flags)}. Masks are not "
                f"broadcast: use np.broadcast_to(mask, {np.shape(leaf)}) if you want that."
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
    """Join the two parts that :func:`partition_entries` returned, with each entry in its place.

    Args:
      free: a pytree with the structure of ``mask``. It has vectors where the mask has arrays, whole leaves where it has
        Python bools, and None where it has nothing.
      fixed: the same for the fixed entries.
      mask: the elementwise mask of the partition.

    Returns:
      The parameters, with every entry bit for bit as it was in its part. The places of the entries are constants of the
      compiled program. If only a few rows of a very large array train, split off these rows by hand instead, and put
      them back with ``table.at[rows].set(free_rows)``.

    Raises:
      ValueError: a part and the mask differ in structure, or in the number of entries; the message names the first
        place.
      TypeError: the mask is traced, or has a leaf that is neither a bool nor a boolean array.

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
                names = _NAMES[flags], _NAMES[not flags]
                raise ValueError(
                    f"the mask is {flags} at {path}, so the {names[0]} part must have this leaf, and the {names[1]} "
                    f"part must not."
                )
            return free if flags else fixed
        flags = np.asarray(flags)
        expected = int(flags.sum()), int((~flags).sum())
        numbers = tuple(0 if part is None else np.size(part) for part in parts)
        if numbers != expected:
            raise ValueError(
                f"at {path} the mask has {expected[0]} free and {expected[1]} fixed entries, but the parts have "
                f"{numbers[0]} and {numbers[1]}."
            )
        # the positions of the free entries, then of the fixed ones; argsort says where each entry comes from
        places = np.concatenate([np.flatnonzero(flags), np.flatnonzero(~flags)])
        entries = jnp.concatenate([_on_every_device(part) for part in parts if part is not None])
        return entries[np.argsort(places)].reshape(flags.shape)

    _check_structure(mask, free, ("the mask", "the free part"), _is_hole)
    _check_structure(mask, fixed, ("the mask", "the fixed part"), _is_hole)
    return jax.tree.map_with_path(join, mask, free, fixed, is_leaf=_is_hole)
