"""The package's masks: every function on random pytrees, every error, every example in a docstring.

tests/mutants/trainability/masks.toml breaks the package on purpose; this file must turn red each time.
"""

import functools
import operator
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from package_checks import (
    FLOATS,
    OTHERS,
    as_arrays,
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
    same_bits,
    trees,
    trees_and_masks,
)
from trainability import masks
from trainability.masks import NoMatchError, all_trainable, combine, move_state, partition, set_trainable, stop_fixed

# ---- on random pytrees -----------------------------------------------------------------------------------------------


@st.composite
def trees_masks_and_nodes(draw):
    """Parameters, a mask, and the tuple of keys that leads to some node of theirs."""
    params, mask = draw(trees_and_masks())
    keys = draw(st.sampled_from([keys for keys, _ in jax.tree.leaves_with_path(params)]))
    return params, mask, keys[: draw(st.integers(0, len(keys)))]


@examples
@given(trees_and_masks())
def test_combine_after_partition_is_the_identity(drawn):
    params, mask = drawn
    train, fixed = partition(params, mask)
    assert len(jax.tree.leaves(train)) == sum(jax.tree.leaves(mask))
    assert len(jax.tree.leaves(train)) + len(jax.tree.leaves(fixed)) == len(jax.tree.leaves(params))
    whole = combine(train, fixed)
    assert jax.tree.structure(whole) == jax.tree.structure(params)
    assert all(map(operator.is_, jax.tree.leaves(whole), jax.tree.leaves(params)))
    assert all(map(operator.is_, jax.tree.leaves(combine(fixed, train)), jax.tree.leaves(params)))


@examples
@given(trees_and_masks())
def test_partition_and_combine_work_under_jit_and_vmap(drawn):
    params, mask = drawn
    params = as_arrays(params)
    assert same_bits(jax.jit(lambda params: combine(*partition(params, mask)))(params), params)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    assert same_bits(jax.vmap(lambda params: combine(*partition(params, mask)))(stacked), stacked)


@examples
@given(trees([*FLOATS, *OTHERS]))
def test_all_trainable_is_what_grad_accepts(params):
    def is_accepted(leaf):
        try:
            return jax.grad(lambda leaf: jnp.float32(0))(leaf).shape == leaf.shape
        except TypeError as error:
            assert "grad requires real- or complex-valued inputs" in str(error)
            return False

    assert all_trainable(params) == jax.tree.map(is_accepted, params)


@examples
@given(trees_masks_and_nodes(), st.booleans())
def test_a_node_sets_what_is_below_it_and_nothing_else(drawn, flag):
    params, mask, node = drawn
    where = masks.path_of(node)
    below = [keys[: len(node)] == node for keys, _ in jax.tree.leaves_with_path(params)]
    able, before = jax.tree.leaves(all_trainable(params)), jax.tree.leaves(mask)
    if node == () and not jax.tree_util.all_leaves([params]):
        with pytest.raises(NoMatchError):  # "" is a slip, and no way to say "everything"
            set_trainable(mask, where, flag, params)
        return
    if flag and not any(map(operator.and_, below, able)):
        with pytest.raises(TypeError, match="cannot train"):
            set_trainable(mask, where, flag, params)
        return
    changed = set_trainable(mask, where, flag, params)
    expected = [flag and can if chosen else old for chosen, can, old in zip(below, able, before, strict=True)]
    assert jax.tree.leaves(changed) == expected
    assert jax.tree.structure(changed) == jax.tree.structure(mask)
    assert jax.tree.leaves(mask) == before  # the old mask is as it was
    assert set_trainable(changed, where, flag, params) == changed


@examples
@given(trees_and_masks(), st.sampled_from(["*", "*kernel", "a*", "?", "*/[ab]"]), st.booleans())
def test_a_glob_sets_what_it_matches_and_nothing_else(drawn, glob, flag):
    params, mask = drawn
    pattern = {"*": ".*", "*kernel": ".*kernel", "a*": "a.*", "?": ".", "*/[ab]": ".*/[ab]"}[glob]
    paths = [masks.path_of(keys) for keys, _ in jax.tree.leaves_with_path(params)]
    chosen = [re.fullmatch(pattern, path) is not None for path in paths]
    able, before = jax.tree.leaves(all_trainable(params)), jax.tree.leaves(mask)
    expected = [flag and can if hit else old for hit, can, old in zip(chosen, able, before, strict=True)]
    ways = {"a glob": glob, "a function": lambda path, leaf: re.fullmatch(pattern, path) is not None}
    for where in ways.values():
        set_again = functools.partial(set_trainable, where=where, flag=flag, params=params)
        if not any(chosen):
            with pytest.raises(NoMatchError, match=f"There are:\\s{re.escape(paths[0])}"):
                set_again(mask)
        elif flag and not any(map(operator.and_, chosen, able)):
            with pytest.raises(TypeError, match="cannot train"):
                set_again(mask)
        else:
            changed = set_again(mask)
            assert jax.tree.leaves(changed) == expected
            assert set_again(changed) == changed


def sum_of_squares(params):
    """A loss whose gradient is twice the conjugate of every leaf; integers and keys stay out of it."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return sum((jnp.sum(jnp.abs(leaf.astype(np.complex64)) ** 2) for leaf in leaves), jnp.float32(0))


@settings(examples, max_examples=15)  # four programs to compile for each
@given(trees_and_masks())
def test_stop_fixed_keeps_values_and_stops_gradients(drawn):
    params, mask = drawn
    params = as_arrays(params)
    can_train, rest = partition(params, all_trainable(params))

    def loss(train, mask):
        return sum_of_squares(stop_fixed(combine(train, rest), mask))

    def slope(leaf, train):
        return 2 * jnp.conj(leaf) if train else jnp.zeros_like(leaf)

    expected = jax.tree.map(slope, can_train, partition(mask, all_trainable(params))[0])
    traced = as_arrays(mask)
    static_gradient = functools.partial(jax.grad(loss), mask=mask)
    for gradient in (
        static_gradient(can_train),
        jax.jit(static_gradient)(can_train),
        jax.jit(jax.grad(loss))(can_train, traced),
    ):
        assert same_bits(gradient, expected)
    for kept in (stop_fixed(params, mask), jax.jit(stop_fixed)(params, traced)):
        assert same_bits(kept, params)

    if jax.tree.leaves(can_train):
        stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), can_train)
        batched = jax.vmap(static_gradient)(stacked)
        assert same_bits(jax.tree.map(lambda leaf: leaf[1], batched), expected)


@examples
@given(trees_and_masks(leaves=FLOATS[:3], number=2))
def test_move_state_keeps_what_trains_on_and_starts_afresh_what_is_freed(drawn):
    params, old, new = drawn
    params = as_arrays(params)
    adam = optax.adam(0.1)
    train, _ = partition(params, old)
    state = adam.init(train)
    for _ in range(2):
        _, state = adam.update(train, state, train)
    moved = move_state(state, adam, params, old, new)
    fresh = adam.init(partition(params, new)[0])
    assert jax.tree.structure(moved) == jax.tree.structure(fresh)
    assert moved[0].count == 2  # which belongs to no single leaf

    for name in ("mu", "nu"):
        before, after, untouched = (dict(paths_and_leaves(getattr(each[0], name))) for each in (state, moved, fresh))
        assert list(after) == list(untouched)
        for path, leaf in after.items():
            assert same_bits(leaf, before.get(path, untouched[path]))
            assert bool(np.any(leaf)) == (path in before)
    same = move_state(moved, adam, params, new, new)
    assert same_bits(same, moved)


def paths_and_leaves(tree):
    return [(masks.path_of(keys), leaf) for keys, leaf in jax.tree.leaves_with_path(tree)]


# ---- errors ----------------------------------------------------------------------------------------------------------

PARAMS = {"layer": {"a": jnp.ones(2), "b": jnp.array(1.0)}, "steps": jnp.array(3), "key": jax.random.key(0)}
MASK = {"layer": {"a": True, "b": False}, "steps": False, "key": False}
ADAM = optax.adam(0.1)
STATE = ADAM.init(partition(PARAMS, MASK)[0])
TRACED = jax.tree.map(jnp.asarray, MASK)
SHALLOW = {**MASK, "layer": True}
STRUCTURE = "the tree of parameters and the mask differ in structure:\n"

ERRORS = {
    "no such path": (
        lambda: set_trainable(MASK, "layer/c", False),
        NoMatchError,
        "'layer/c' matches no path. There are: key, layer/a, layer/b, steps.",
    ),
    "half a name": (lambda: set_trainable(MASK, "lay", False), NoMatchError, "'lay' matches no path. There are: key, "),
    "the empty path": (lambda: set_trainable(MASK, "", False), NoMatchError, "'' matches no path. There are: key, "),
    "a glob in other letters": (
        lambda: set_trainable(MASK, "LAYER/*", False),
        NoMatchError,
        "'LAYER/*' matches no path. There are: key, ",
    ),
    "a function that is never true": (
        lambda: set_trainable(MASK, lambda path, leaf: False, False, PARAMS),
        NoMatchError,
        "the function is true for no leaf. There are: key, layer/a, layer/b, steps.",
    ),
    "no parameters": (lambda: set_trainable({}, "*", False), NoMatchError, "There are: no parameters at all."),
    "an integer is named": (
        lambda: set_trainable(MASK, "steps", True, PARAMS),
        TypeError,
        "steps cannot train: it is int32, which has no gradient.",
    ),
    "a key is named": (lambda: set_trainable(MASK, "key", True, PARAMS), TypeError, "key cannot train: it is key<fry>"),
    "a glob for integers only": (lambda: set_trainable(MASK, "st*", True, PARAMS), TypeError, "steps cannot train: "),
    "True without params": (
        lambda: set_trainable(MASK, "layer", True),
        TypeError,
        "set_trainable needs params, to know which leaves can train: ",
    ),
    "a function without params": (
        lambda: set_trainable(MASK, lambda path, leaf: True, False),
        TypeError,
        "set_trainable needs params, to give them to the function: ",
    ),
    "a flag that is none": (
        lambda: set_trainable(MASK, "layer", 0),
        TypeError,
        "flag is True (trains) or False (fixed), not 0.",
    ),
    "a place that is none": (
        lambda: set_trainable(MASK, 3, False),
        TypeError,
        "where is a path, a glob, or a function of path and parameter, not 3.",
    ),
    "a traced mask to set": (
        lambda: set_trainable(TRACED, "layer", False),
        TypeError,
        "a static mask is needed, a pytree of Python bools, and key is a ArrayImpl.",
    ),
    "a traced mask to partition": (
        lambda: partition(PARAMS, TRACED),
        TypeError,
        "a static mask is needed, a pytree of Python bools, and key is a ArrayImpl. "
        "For a mask of known truth values: jax.tree.map(bool, mask).",
    ),
    "numbers for bools": (lambda: partition([1.0], [1]), TypeError, "a static mask is needed"),
    "a traced mask to summarise": (lambda: masks.summary(PARAMS, TRACED), TypeError, "a static mask is needed"),
    "a traced mask to move to": (
        lambda: move_state(STATE, ADAM, PARAMS, MASK, TRACED),
        TypeError,
        "a static mask is needed",
    ),
    "a shallow mask": (
        lambda: partition(PARAMS, SHALLOW),
        ValueError,
        STRUCTURE + "at layer the tree of parameters has a dict, the mask a leaf.",
    ),
    "a leaf too few": (
        lambda: stop_fixed(PARAMS, {**MASK, "layer": {"a": True}}),
        ValueError,
        STRUCTURE + "at layer the mask lacks 'b'.",
    ),
    "a leaf too many": (
        lambda: set_trainable({**MASK, "c": True}, "layer", True, PARAMS),
        ValueError,
        STRUCTURE + "at the top the mask has also 'c'.",
    ),
    "a frozen mask": (
        lambda: masks.summary(PARAMS, flax.core.freeze(MASK)),
        ValueError,
        STRUCTURE + "at the top the tree of parameters has a dict, the mask a FrozenDict.",
    ),
    "a list for a tuple": (
        lambda: partition(([1.0], (1.0, 2.0)), ([True], [True, False])),
        ValueError,
        STRUCTURE + "at 1 the tree of parameters has a tuple, the mask a list.",
    ),
    "a tuple too short": (lambda: partition((1.0, 2.0), (True,)), ValueError, "at the top the mask lacks '1'."),
    "None for a flag": (
        lambda: partition([1.0], [None]),
        ValueError,
        "at 0 the tree of parameters has a leaf, the mask a NoneType.",
    ),
    "another constant of a class": (
        lambda: partition(jax.tree_util.Partial(abs, 1.0), jax.tree_util.Partial(max, True)),
        ValueError,
        "at the top both have a Partial, but not the same one: ",
    ),
    "an array of flags": (
        lambda: stop_fixed([jnp.ones(2)], [jnp.array([True, False])]),
        TypeError,
        "a mask has one truth value for a leaf, a Python bool or a boolean array of shape (), and at 0 there is Array(",
    ),
    "numbers as a traced mask": (lambda: stop_fixed([1.0], [jnp.array(1)]), TypeError, "and at 0 there is Array(1"),
    "a word among the parameters": (
        lambda: all_trainable({"a": "word"}),
        TypeError,
        "a is a str, and a parameter is an array or a number.",
    ),
    "both halves have it": (
        lambda: combine({"a": 1.0, "b": 1.0}, {"a": None, "b": 2.0}),
        ValueError,
        "both halves have a leaf at b: they are not of one partition.",
    ),
    "halves of two trees": (
        lambda: combine({"a": 1.0}, {"b": None}),
        ValueError,
        "the first half and the second differ in structure:\nat the top the second lacks 'a'.",
    ),
    "a state of the wrong half": (
        lambda: move_state(ADAM.init(PARAMS["layer"]), ADAM, PARAMS, MASK, MASK),
        ValueError,
        "the state for the old mask and the one given differ in structure:\nat 0/mu the one given lacks 'key'.",
    ),
    "a state of all parameters": (
        lambda: move_state(ADAM.init(PARAMS["layer"]), ADAM, PARAMS["layer"], MASK["layer"], MASK["layer"]),
        ValueError,
        "at 0/mu/b the state for the old mask has a NoneType, the one given a leaf.",
    ),
    "a state of other shapes": (
        lambda: move_state(ADAM.init([jnp.ones(3)]), ADAM, [jnp.ones(2)], [True], [True]),
        ValueError,
        "the state for the old mask and the one given differ in shape:\nat 0/mu/0 (2,) and (3,).",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_says_what_was_wrong(name):
    check_error(ERRORS[name])


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(masks, ERRORS)


# ---- examples --------------------------------------------------------------------------------------------------------


def test_examples_of_the_docstrings_run():
    check_examples(masks)


def test_summary_counts_and_shows():
    table = masks.summary(PARAMS, MASK)
    assert str(table).splitlines() == [
        "path     shape  dtype     trainable  value",
        "key      ()     key<fry>  False",
        "layer/a  (2,)   float32   True       1 …",
        "layer/b  ()     float32   False      1",
        "steps    ()     int32     False      3",
        "2 of 5 numbers train (8 of 24 bytes)",
    ]
    assert table._repr_html_().count("<tr>") == 5 and "&lt;fry&gt;" in table._repr_html_()
    odd = masks.summary([jnp.ones(2, jnp.bfloat16), jnp.zeros([0]), True, 1j, 2.5], [True, True, False, True, True])
    assert [row.value for row in odd.rows] == ["1 …", "", "True", "0+1j", "2.5"]


def test_summary_works_where_values_are_not_known():
    shapes = jax.eval_shape(lambda: PARAMS["layer"])
    known, unknown = masks.summary(PARAMS["layer"], MASK["layer"]), masks.summary(shapes, MASK["layer"])
    assert unknown.totals == known.totals and [row.value for row in unknown.rows] == ["", ""]
    seen = []
    jax.jit(lambda params: seen.append(masks.summary(params, MASK["layer"])))(PARAMS["layer"])
    assert seen == [unknown]


def test_a_name_that_looks_like_a_glob_is_a_name_first():
    mask = {"w[0]": True, "w0": True}
    assert set_trainable(mask, "w[0]", False) == {"w[0]": False, "w0": True}
    assert set_trainable({"w0": True, "w1": True}, "w[0]", False) == {"w0": False, "w1": True}
