"""The package's masks for parts of arrays: every function on random pytrees, every error, every example.

tests/mutants/trainability/entries.toml breaks the module on purpose; this file must turn red each time.
"""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from package_checks import (
    FLOATS,
    as_arrays,
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
    on_eight_devices,
    same_bits,
    trees,
    trees_and_masks,
)
from trainability import entries
from trainability.entries import combine_entries, entry_names, partition_entries
from trainability.masks import all_trainable, partition

# ---- on random pytrees -----------------------------------------------------------------------------------------------


@st.composite
def trees_and_elementwise_masks(draw, leaves=None):
    """Parameters as arrays, and masks of theirs with a bool or an array of bools for each leaf."""
    params, _ = draw(trees_and_masks() if leaves is None else trees_and_masks(leaves=leaves))

    def flags(leaf, can_train):
        if not can_train:
            return draw(st.sampled_from([False, np.zeros(np.shape(leaf), bool)]))
        bits = draw(st.lists(st.booleans(), min_size=np.size(leaf), max_size=np.size(leaf)))
        return draw(st.sampled_from([bits[0], np.reshape(bits, np.shape(leaf))]))

    return as_arrays(params), jax.tree.map(flags, params, all_trainable(params))


def number_of_entries(tree):
    return sum(np.size(leaf) for leaf in jax.tree.leaves(tree))


@examples
@given(trees_and_elementwise_masks())
def test_combine_after_partition_is_the_identity(drawn):
    params, mask = drawn
    free, fixed = partition_entries(params, mask)
    wanted = jax.tree.map(lambda leaf, flags: int(np.sum(np.broadcast_to(flags, leaf.shape))), params, mask)
    assert number_of_entries(free) == sum(jax.tree.leaves(wanted))
    assert number_of_entries(free) + number_of_entries(fixed) == number_of_entries(params)
    assert same_bits(combine_entries(free, fixed, mask), params)


@settings(examples, max_examples=15)  # a program to compile for each
@given(trees_and_elementwise_masks())
def test_both_work_under_jit_and_vmap(drawn):
    params, mask = drawn

    def there_and_back(params):
        return combine_entries(*partition_entries(params, mask), mask)

    assert same_bits(jax.jit(there_and_back)(params), params)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    assert same_bits(jax.vmap(there_and_back)(stacked), stacked)


@examples
@given(trees_and_masks())
def test_bools_alone_are_the_mask_of_whole_leaves(drawn):
    params, mask = drawn
    params = as_arrays(params)
    for part, same_part in zip(partition_entries(params, mask), partition(params, mask), strict=True):
        assert same_bits(part, same_part)


@examples
@given(trees_and_elementwise_masks(leaves=FLOATS[:2]))
def test_under_decay_and_momentum_only_free_entries_move(drawn):
    params, mask = drawn
    params, mask = [params], [mask]  # if the parameters are one fixed number, None is all that is left for Optax
    free, fixed = partition_entries(params, mask)
    optimizer = optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale(-0.1))
    state, ones = optimizer.init(free), jax.tree.map(jnp.ones_like, free)
    for _ in range(2):
        updates, state = optimizer.update(ones, state, free)
        free = optax.apply_updates(free, updates)
    after = combine_entries(free, fixed, mask)
    for old, new, flags in zip(*map(jax.tree.leaves, (params, after, mask)), strict=True):
        assert np.array_equal(old != new, np.broadcast_to(flags, old.shape))


@examples
@given(trees(FLOATS[:2]))
def test_names_are_in_the_order_of_the_vector(params):
    params = as_arrays(params)
    vector, as_tree = ravel_pytree(params)
    names = entry_names(params)
    assert len(names) == len(vector) and len(set(names)) == len(names)
    for position, name in enumerate(names):
        only_one = as_tree(jnp.zeros_like(vector).at[position].set(1))
        path, _, index = name.partition("[")
        ((found, leaf),) = [
            (entries.path_of(keys), leaf) for keys, leaf in jax.tree.leaves_with_path(only_one) if leaf.any()
        ]
        assert found == path
        assert leaf[tuple(map(int, index.rstrip("]").split(","))) if index else ()] == 1


# ---- errors ----------------------------------------------------------------------------------------------------------

PARAMS = {"ell": jnp.array([0.5, 1.0, 2.0]), "steps": jnp.array([3, 4]), "variance": jnp.array(1.5)}
MASK = {"ell": np.array([True, False, True]), "steps": False, "variance": False}
FREE, FIXED = partition_entries(PARAMS, MASK)

ERRORS = {
    "a mask of another shape": (
        lambda: partition_entries(PARAMS, {**MASK, "ell": np.array([True])}),
        ValueError,
        "ell has the shape (3,), but its mask has the shape (1,). Masks are not broadcast: use "
        "np.broadcast_to(mask, (3,)) if you want that.",
    ),
    "a leaf too few": (
        lambda: partition_entries(PARAMS, {"ell": True}),
        ValueError,
        "the tree of parameters and the mask differ in structure:\nat the top the mask lacks 'steps'.",
    ),
    "integers that should train": (
        lambda: partition_entries(PARAMS, {**MASK, "steps": np.array([False, True])}),
        TypeError,
        "steps cannot train: it is int32, which has no gradient.",
    ),
    "numbers for truth values": (
        lambda: partition_entries(PARAMS, {**MASK, "ell": np.array([1, 0, 1])}),
        TypeError,
        "an elementwise mask must have boolean arrays or Python bools, but at ell it has array([1, 0, 1])",
    ),
    "a traced mask": (
        lambda: jax.jit(lambda flags: partition_entries(PARAMS, {**MASK, "ell": flags}))(MASK["ell"]),
        TypeError,
        "the mask of ell is traced. It decides the shapes of the parts",
    ),
    "a traced mask to combine": (
        lambda: jax.jit(lambda flags: combine_entries(FREE, FIXED, {**MASK, "ell": flags}))(MASK["ell"]),
        TypeError,
        "the mask of ell is traced.",
    ),
    "too few entries": (
        lambda: combine_entries({**FREE, "ell": jnp.ones(1)}, FIXED, MASK),
        ValueError,
        "at ell the mask has 2 free and 1 fixed entries, but the parts have 1 and 1.",
    ),
    "a part that lacks a leaf": (
        lambda: combine_entries({"ell": jnp.ones(2)}, FIXED, MASK),
        ValueError,
        "the mask and the free part differ in structure:\nat the top the free part lacks 'steps'.",
    ),
    "the parts the wrong way round": (
        lambda: combine_entries(FIXED, FREE, MASK),
        ValueError,
        "at ell the mask has 2 free and 1 fixed entries, but the parts have 1 and 2.",
    ),
    "both parts have it": (
        lambda: combine_entries({**FREE, "variance": jnp.ones(())}, FIXED, MASK),
        ValueError,
        "the mask is False at variance, so the fixed part must have this leaf, and the free part must not.",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_says_what_was_wrong(name):
    check_error(ERRORS[name])


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(entries, ERRORS)


# ---- examples --------------------------------------------------------------------------------------------------------


def test_examples_of_the_docstrings_run():
    check_examples(entries)


def test_each_entry_comes_back_to_its_place():
    leaf, mask = jnp.arange(6.0).reshape(2, 3), np.array([[False, True, True], [False, False, True]])
    free, fixed = partition_entries(leaf, mask)
    assert np.array_equal(free, [1, 2, 5]) and np.array_equal(fixed, [0, 3, 4])
    assert np.array_equal(combine_entries(free, fixed, mask), leaf)


def test_a_part_that_has_nothing_of_a_leaf_has_none():
    for flags, expected in ((True, (False, True)), (False, (True, False))):
        parts = partition_entries(jnp.ones(2), np.array([flags, flags]))
        assert tuple(part is None for part in parts) == expected


def test_a_leaf_without_entries_survives():
    params, mask = [jnp.zeros([0, 2])], [np.zeros([0, 2], bool)]
    free, fixed = partition_entries(params, mask)
    assert free == [None] and same_bits(combine_entries(free, fixed, mask), params)


def test_holes_of_another_partition_stay_holes():
    """A part of `partition` can itself be cut by entries, and come back with its holes."""
    params = flax.core.freeze({"a": jnp.ones(2), "b": None})
    mask = flax.core.freeze({"a": np.array([True, False]), "b": None})
    free, fixed = partition_entries(params, mask)
    assert free["b"] is None and same_bits(combine_entries(free, fixed, mask), params)


def test_the_gradient_of_the_free_part_is_that_of_its_entries():
    free, fixed = partition_entries(PARAMS, MASK)

    def loss(free):
        return jnp.sum(combine_entries(free, fixed, MASK)["ell"] ** 2)

    assert np.array_equal(jax.grad(loss)(free)["ell"], [1.0, 4.0])


def test_entries_of_arrays_on_eight_devices():
    on_eight_devices("""
        from trainability.entries import combine_entries, partition_entries
        params = {"a": sharded(jnp.arange(16.0).reshape(8, 2)), "b": sharded(jnp.ones(8))}
        mask = {"a": np.arange(16).reshape(8, 2) % 3 == 0, "b": False}
        def there_and_back(params):
            return combine_entries(*partition_entries(params, mask), mask)
        def check():
            free, fixed = partition_entries(params, mask)
            assert np.array_equal(free["a"], [0, 3, 6, 9, 12, 15]) and fixed["b"] is params["b"]
            for whole in (there_and_back(params), jax.jit(there_and_back)(params)):
                assert np.array_equal(whole["a"], params["a"])
            parts = {"a": sharded(jnp.zeros(8))}, {"a": sharded(jnp.ones(8))}
            whole = combine_entries(*parts, {"a": np.arange(16) < 8})
            assert np.array_equal(whole["a"], [0] * 8 + [1] * 8)
        check()
        with jax.set_mesh(mesh):
            check()
    """)
