"""A flag on each parameter of a live Flax NNX model that says whether it trains. One line changes it in place.

The flag is metadata of the ``nnx.Param``. :func:`trainable` is the filter that reads it, for ``nnx.Optimizer(wrt=)``
and ``nnx.DiffState``. Only an ``nnx.Param`` can train: the statistics of a BatchNorm and random states never train.

Paths are written like ``encoder/kernel``, as everywhere in this package. A parameter that two layers share has two
paths, and you can use either.

This module needs Flax (0.12 or later) and is loaded when it is first used.
"""

from __future__ import annotations

import difflib
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from trainability.masks import (
    NoMatchError,
    Row,
    Summary,
    _can_train,
    _check_flag,
    _described,
    _dtype,
    _first_value,
    _meant,
    _whether_it_trains,
    path_of,
)

if not hasattr(nnx.Variable, "set_metadata"):
    raise ImportError("trainability.live needs Flax 0.12 or later: pip install --upgrade flax.")

# A path or glob, a class, a function, or a part of the model itself.
Where = str | type | nnx.Pytree | nnx.Variable[Any] | Callable[[str, Any], bool]
_PARTS = (nnx.Pytree, nnx.Variable)


class _Place(NamedTuple):
    """A leaf of a model under one of its names."""

    keys: tuple[Any, ...]
    leaf: Any  # an nnx.Variable or a plain array
    owners: tuple[Any, ...]  # the modules on the way to it

    @property
    def path(self) -> str:
        return path_of(self.keys)


# ---- the leaves of a model -------------------------------------------------------------------------------------------


def _places(model: Any) -> list[_Place]:
    """Every leaf of a model under each of its names. The first name of a leaf is the one that ``nnx.state`` uses."""
    if not isinstance(model, nnx.Pytree):
        raise TypeError(
            f"a live nnx.Module is needed, not {_described(model)}. For a pytree of parameters, such as those of Linen "
            f"or nnx.state, use a mask: trainability.set_trainable."
        )
    nodes = dict(nnx.iter_graph(model))  # each once, under its first name
    targets = {path: path for path in nodes if path}
    for first, *others in nnx.find_duplicates(model):
        targets |= dict.fromkeys(others, first)
    for path in list(targets):  # a shared dict is not a node of NNX, so add what leads to its second name
        for length in range(1, len(path)):
            targets.setdefault(path[:length], path[:length])
    children: dict[Any, list[Any]] = {}
    for path in targets:
        children.setdefault(path[:-1], []).append(path)
    found: list[_Place] = []

    def visit(node: Any, keys: tuple[Any, ...], way: tuple[Any, ...]) -> None:
        value = nodes.get(node)
        if isinstance(value, (nnx.Variable, jax.Array, np.ndarray)):
            found.append(_Place(keys, value, tuple(nodes.get(place) for place in way)))
        elif node not in way:  # a model may contain itself
            for child in children.get(node, []):
                visit(targets[child], (*keys, jax.tree_util.DictKey(child[-1])), (*way, node))

    visit((), (), ())
    order = {id(value): (number, path) for number, (path, value) in enumerate(nodes.items())}
    return sorted(found, key=lambda place: (order[id(place.leaf)][0], _parts(place) != order[id(place.leaf)][1]))


def _parts(place: _Place) -> tuple[Any, ...]:
    """The path as NNX writes it."""
    return tuple(key.key for key in place.keys)


def _values(leaf: Any) -> list[tuple[str, Any]]:
    """The arrays of a leaf, nearly always one, with their paths below it."""
    value = leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf
    return [(path_of(keys), array) for keys, array in jax.tree.leaves_with_path(value)]


def _has_gradient(leaf: Any) -> bool:
    values = _values(leaf)
    return bool(values) and all(_can_train(path, array) for path, array in values)


def _kind(leaf: Any) -> str:
    return type(leaf).__name__ if isinstance(leaf, nnx.Variable) else "array"


def _by_leaf(places: Sequence[_Place]) -> dict[int, list[_Place]]:
    """The names of each leaf."""
    leaves: dict[int, list[_Place]] = {}
    for place in places:
        leaves.setdefault(id(place.leaf), []).append(place)
    return leaves


# ---- the flag --------------------------------------------------------------------------------------------------------


def trainable(path: Any, variable: Any) -> bool:
    """Whether a variable trains. Pass this function wherever NNX takes a filter.

    Args:
      path: the path of the variable, which NNX passes to every filter. Only the error message uses it.
      variable: an ``nnx.Variable``.

    Returns:
      True for an ``nnx.Param`` of floating point or complex numbers, unless its metadata has ``trainable=False``.
      False for every other variable.

    Raises:
      TypeError: the flag in the metadata is not a bool.

    >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> set_trainable(model, "kernel", False)
    >>> list(nnx.state(model, trainable))
    ['bias']
    """
    if not isinstance(variable, nnx.Param):
        return False
    flag = variable.get_metadata().get("trainable", True)
    if not isinstance(flag, bool):
        name = "/".join(map(str, path))
        raise TypeError(f"{name} has trainable={flag!r} in its metadata. It must be True (trains) or False (fixed).")
    return flag and _has_gradient(variable)


def set_trainable(model: Any, where: Where | Sequence[Where], flag: bool) -> None:
    """Fix parameters of a live model, or let them train, in place.

    If the model already has an optimizer, call :func:`move_optimizer` afterwards.

    Args:
      model: an ``nnx.Module``.
      where: which parameters to set, in one of six forms. (1) A path such as ``"encoder/kernel"``. The path of a
        module, such as ``"encoder"``, matches all parameters below it. (2) The module or parameter itself, such as
        ``model.encoder``. (3) A glob such as ``"*/bias"``, whose ``*`` also matches ``/``. (4) A class of modules, such
        as ``nnx.LayerNorm``, for the parameters of every layer of this type, or a class of variables, such as
        ``nnx.LoRAParam``. (5) A function of path and variable that returns True for the parameters to set. (6) A list
        of these, each of which must match a parameter.
      flag: True if the parameters should train, False if they should be fixed.

    A shared parameter has several paths, and each of them sets it. A module, glob, class or function must match all of
    its paths or none of them; otherwise it is an error. To set the shared parameter too, add one of its paths in a
    list: ``["encoder", "decoder/kernel"]``.

    Raises:
      NoMatchError: ``where``, or an entry of the list, matches nothing. The message has the nearest names.
      TypeError: ``where`` is the path of a variable that is not an ``nnx.Param``, such as the mean of a BatchNorm, or
        matches only such variables; ``flag`` is True, and ``where`` is the path of a parameter without a gradient (an
        integer), or matches only such parameters; ``flag`` is not a bool; or ``model`` is not a module.
      ValueError: ``where`` matches only some of the paths of a shared parameter; or it is the path of two places,
        because a key contains a slash.

    The counterpart of ``gpflow.set_trainable(model.encoder, False)``.

    >>> model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.LayerNorm(3, rngs=nnx.Rngs(1)))
    >>> set_trainable(model, "layers/0", False)
    >>> trainable_paths(model)
    ['layers/1/bias', 'layers/1/scale']
    >>> set_trainable(model, nnx.LayerNorm, False)
    >>> set_trainable(model, "*/bias", True)
    >>> trainable_paths(model)
    ['layers/0/bias', 'layers/1/bias']
    """
    _check_flag(flag)
    wheres: list[Any] = list(where) if isinstance(where, (list, tuple)) else [where]
    if not wheres:
        raise NoMatchError("where is an empty list, which matches no parameter.")
    places = _places(model)
    chosen: dict[int, set[str]] = {}  # the paths that are meant, of each leaf
    named: set[int] = set()
    for one in wheres:
        meant = _meant_places(one, places)
        exact = [place for place in meant if place.leaf is one or place.path == one]
        _check_can_be_set(meant, flag)
        named |= {id(place.leaf) for place in exact}
        for place in meant:
            chosen.setdefault(id(place.leaf), set()).add(place.path)
    names = _by_leaf(places)
    chosen = {number: paths for number, paths in chosen.items() if _can_be_set(names[number][0].leaf, flag)}
    for number, paths in chosen.items():
        missed = [place.path for place in names[number] if place.path not in paths]
        if missed and number not in named:
            raise ValueError(
                f"{min(paths)} is the same parameter as {' and '.join(missed)}, which {_said(where)} does not match. "
                f"To set this parameter too, add its path: pass a list that contains {missed[0]!r}. To leave it as it "
                f"is, select the others without it."
            )
    for number in chosen:
        names[number][0].leaf.set_metadata(trainable=flag)


def _said(where: Any) -> str:
    return getattr(where, "__name__", repr(where))


def _can_be_set(leaf: Any, flag: bool) -> bool:
    return isinstance(leaf, nnx.Param) and not (flag and not _has_gradient(leaf))


def _check_can_be_set(meant: list[_Place], flag: bool) -> None:
    if any(_can_be_set(place.leaf, flag) for place in meant):
        return
    path, leaf = meant[0].path, meant[0].leaf
    if isinstance(leaf, nnx.Param):
        raise TypeError(f"{path} cannot train: it is {_values(leaf)[0][1].dtype}, which has no gradient.")
    message = f"{path} never trains: it is of type {_kind(leaf)}, and only an nnx.Param has a flag."
    if isinstance(leaf, nnx.BatchStat):
        message += " The layer itself writes to it in train mode; to stop that, call eval() of the layer."
    raise TypeError(message)


def _meant_places(where: Any, places: list[_Place]) -> list[_Place]:
    """The places that ``where`` matches, at least one."""
    if isinstance(where, _PARTS):
        if meant := [place for place in places if any(thing is where for thing in (*place.owners, place.leaf))]:
            return meant
        raise NoMatchError(f"the {type(where).__name__} given is not in the model, or has no parameter.")
    if isinstance(where, type):
        if issubclass(where, nnx.Variable):
            meant = [place for place in places if isinstance(place.leaf, where)]
        else:
            meant = [place for place in places if any(isinstance(owner, where) for owner in place.owners)]
        if not meant:
            raise _no_such_type(where, places)
        return meant
    pairs = [(place.keys, place.leaf) for place in places]
    return [places[number] for number in _meant(where, pairs, [place.path for place in places])]


def _no_such_type(where: type, places: list[_Place]) -> NoMatchError:
    objects = [thing for place in places for thing in (*place.owners, place.leaf) if isinstance(thing, _PARTS)]
    names = sorted({type(thing).__name__ for thing in objects})
    near = difflib.get_close_matches(where.__name__, names, 10) or names
    few = f"Its types are: {', '.join(names)}" if len(names) <= 10 else f"The nearest are: {', '.join(near[:10])}"
    what = "variable of type" if issubclass(where, nnx.Variable) else "parameter in a"
    text = f"the model has no {what} {where.__name__}. {few}."
    return NoMatchError(textwrap.fill(text, 80, break_on_hyphens=False))


def trainable_paths(model: Any) -> list[str]:
    """The paths of the parameters that train. A shared parameter has the path that ``nnx.state`` uses.

    Args:
      model: an ``nnx.Module``.

    Returns:
      A list of paths such as ``encoder/kernel``, in the order of ``nnx.state``.

    Raises:
      TypeError: ``model`` is not a module.

    >>> trainable_paths(nnx.BatchNorm(3, rngs=nnx.Rngs(0)))
    ['bias', 'scale']
    """
    names = _by_leaf(_places(model)).values()
    return [places[0].path for places in names if trainable(_parts(places[0]), places[0].leaf)]


# ---- optimizers ------------------------------------------------------------------------------------------------------


class Optimizer(nnx.Optimizer[Any]):
    """An ``nnx.Optimizer`` for the parameters that train. It raises an error if it was not moved after a flag changed.

    It is ``nnx.Optimizer(model, tx, wrt=trainable)`` with two checks: that some parameter trains, and that no flag has
    changed since the optimizer was made or moved. A plain ``nnx.Optimizer`` has neither. After a flag has changed, it
    fails with a message about pytrees if ``tx`` is Adam, and silently trains the new set if ``tx`` is SGD.

    Args:
      model: an ``nnx.Module``.
      tx: an Optax optimizer.

    Raises:
      ValueError: no parameter trains. In ``update``: a flag has changed, and you have not called
        :func:`move_optimizer`.

    >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> optimizer = Optimizer(model, optax.sgd(0.1))
    >>> set_trainable(model, "bias", False)
    >>> move_optimizer(model, optimizer)
    >>> optimizer.paths
    ('kernel',)
    """

    def __init__(self, model: Any, tx: optax.GradientTransformation) -> None:
        paths = tuple(trainable_paths(model))
        if not paths:
            raise ValueError("nothing trains: every parameter of the model is fixed, or the model has none.")
        super().__init__(model, tx, wrt=trainable)
        self.paths = paths

    def update(self, model: Any, grads: Any, /, **kwargs: Any) -> Any:
        """Change the model by one step, as ``nnx.Optimizer.update`` does."""
        paths = trainable_paths(model)
        if tuple(paths) != self.paths:
            freed, fixed = set(paths) - set(self.paths), set(self.paths) - set(paths)
            changes = {"trainable now": sorted(freed), "no longer trainable": sorted(fixed)}
            said = "; ".join(f"{what}: {', '.join(names)}" for what, names in changes.items() if names)
            raise ValueError(
                f"flags have changed since the optimizer was made or moved ({said}). Call "
                f"live.move_optimizer(model, optimizer)."
            )
        return super().update(model, grads, **kwargs)


def move_optimizer(model: Any, optimizer: nnx.Optimizer[Any]) -> None:
    """Adapt an optimizer, in place, to the changed flags of its model.

    The state of parameters that keep training is kept bit for bit, and so is what belongs to no single parameter, such
    as Adam's count of steps. Parameters that you freed get an initial state. The state of those that you fixed is
    dropped.

    Args:
      model: an ``nnx.Module``, after its flags have changed.
      optimizer: an ``nnx.Optimizer`` whose ``wrt`` is :func:`trainable`, or ``nnx.All`` of it and other filters.

    Adam keeps one count of steps for all parameters. For a parameter that is freed late the count is too high, and its
    first steps are too long: see :func:`trainability.move_state`. With ``optax.lbfgs``, make a new optimizer instead.

    Raises:
      ValueError: ``wrt`` matches no parameter that trains; it matches a fixed one, because it does not include
        :func:`trainable`; or a parameter and its state differ in shape.

    >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> optimizer = nnx.Optimizer(model, optax.trace(0.9), wrt=trainable)
    >>> set_trainable(model, "kernel", False)
    >>> move_optimizer(model, optimizer)
    >>> list(optimizer.opt_state.trace)
    ['bias']
    """
    chosen = nnx.to_flat_state(nnx.state(model, optimizer.wrt))
    if not list(chosen):
        raise ValueError("nothing trains: the optimizer's filter wrt matches no parameter of the model.")
    for path, variable in chosen:
        if not trainable(path, variable):
            raise ValueError(
                f"{'/'.join(map(str, path))} is fixed, but the optimizer's filter wrt matches it. Make the optimizer "
                f"with wrt=live.trainable, or nnx.All(live.trainable, …)."
            )
    fresh = nnx.Optimizer(model, optimizer.tx, wrt=optimizer.wrt).opt_state
    pairs, structure = jax.tree_util.tree_flatten_with_path(fresh)
    kept = dict(jax.tree.leaves_with_path(optimizer.opt_state))
    for keys, leaf in pairs:
        if keys in kept and np.shape(kept[keys]) != np.shape(leaf):
            raise ValueError(
                f"the optimizer's state has the shape {np.shape(kept[keys])} at {path_of(keys)} "
                f"and should have {np.shape(leaf)}: the parameter has been replaced. Make a new optimizer."
            )
    optimizer.opt_state = nnx.data(jax.tree.unflatten(structure, [kept.get(keys, leaf) for keys, leaf in pairs]))
    if isinstance(optimizer, Optimizer):
        optimizer.paths = tuple(trainable_paths(model))


# ---- looking at a model ----------------------------------------------------------------------------------------------


def summary(model: Any, *, max_rows: int = 100) -> Summary:
    """A table of a live model that shows which of its parameters train.

    Args:
      model: an ``nnx.Module``.
      max_rows: the largest number of rows. A line below them says how many are not shown. The totals are for all.

    Returns:
      A table like that of :func:`trainability.summary`, with a row for each variable. A shared parameter has one row
      with all its paths, and is counted once. Statistics and random states are marked ``never trains``.

    Raises:
      TypeError: ``model`` is not a module.

    >>> model = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
    >>> set_trainable(model, "scale", False)
    >>> summary(model)
    path   shape  dtype    trainable                value
    bias   (2,)   float32  True                     0 …
    mean   (2,)   float32  BatchStat, never trains  0 …
    scale  (2,)   float32  False                    1 …
    var    (2,)   float32  BatchStat, never trains  1 …
    2 of 8 numbers train (8 of 32 bytes)
    """
    rows: list[Row] = []
    numbers, size, all_numbers, all_size = 0, 0, 0, 0
    for places in _by_leaf(_places(model)).values():
        leaf = places[0].leaf
        train = trainable(_parts(places[0]), leaf)
        for below, array in _values(leaf):
            dtype, shape = _dtype(places[0].path, array), np.shape(array)
            count = math.prod(shape)
            all_numbers, all_size = all_numbers + count, all_size + count * dtype.itemsize
            if train:
                numbers, size = numbers + count, size + count * dtype.itemsize
            names = " = ".join("/".join(filter(None, (place.path, below))) for place in places)
            is_param = isinstance(leaf, nnx.Param)
            whether = _whether_it_trains(dtype, train) if is_param else f"{_kind(leaf)}, never trains"
            rows.append(Row(names, str(shape), str(dtype), whether, ""))
            if len(rows) <= max_rows:
                rows[-1] = rows[-1]._replace(value=_first_value(array))
    return Summary(
        tuple(rows[:max_rows]),
        f"{numbers} of {all_numbers} numbers train ({size} of {all_size} bytes)",
        f"… and {len(rows) - max_rows} more, not shown" if len(rows) > max_rows else "",
    )
