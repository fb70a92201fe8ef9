"""What moved, and the check of a training step: on random pytrees, each error, every example.

tests/mutants/trainability/checks.toml breaks the module on purpose; this file must turn red each time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from package_checks import (
    FLOATS,
    OTHERS,
    as_arrays,
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    deleted,
    examples,
    trees,
    trees_and_masks,
)
from trainability import checks as module
from trainability.checks import check_step, moved
from trainability.masks import all_fixed, combine, partition, stop_fixed, trainable_paths

PARAMS = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0), "steps": jnp.array(3), "key": jax.random.key(0)}
ONLY_B = {"a": False, "b": True, "steps": False, "key": False}
FREE = {"a": True, "b": True, "steps": False, "key": False}


# ---- what moved ------------------------------------------------------------------------------------------------------


@examples
@given(trees([*FLOATS, *OTHERS]), st.data())
def test_what_moved_is_what_has_other_bits(params, data):
    params = as_arrays(params)
    copy = jax.tree.map(jnp.copy, params)
    flips = jax.tree.map(lambda leaf: data.draw(st.booleans()), params)

    def flip(leaf, flipped):
        if not flipped:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(leaf, 1)[0]
        known = np.array(leaf)
        known.reshape(-1)[-1:].view(np.uint8)[0] ^= 1  # the last bit of a number
        return jnp.asarray(known)

    assert moved(params, jax.tree.map(flip, copy, flips)) == flips
    assert moved(params, copy) == all_fixed(params)


def test_moved_knows_zeros_nan_keys_numbers_and_dtypes():
    before = {"zero": jnp.array(-0.0), "nan": jnp.array(jnp.nan), "key": jax.random.key(0), "number": 1.0, "old": 1.0}
    after = {"zero": jnp.array(0.0), "nan": jnp.array(jnp.nan), "key": jax.random.key(0), "number": jnp.array(1.0)}
    after["old"] = jnp.array(1.0, jnp.bfloat16)
    assert trainable_paths(moved(before, after)) == ["old", "zero"]
    assert moved([jnp.ones(2)], [jnp.ones([2, 1])]) == [True]


def test_what_moved_is_found_without_a_walk_for_messages(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("walked without need")

    monkeypatch.setattr("trainability.masks._difference", refuse)
    moved(PARAMS, PARAMS)


# ---- a training step -------------------------------------------------------------------------------------------------


def loss_fn(params, target):
    return jnp.sum((params["a"] * params["b"] - target) ** 2)


def step_with(optimizer, mask):
    """A step as readers write it: gradients stopped by the mask, one optimizer over all that is a float."""

    @jax.jit
    def step(params, state, target):
        gradient = jax.grad(lambda params: loss_fn(stop_fixed(params, mask), target), allow_int=True)(params)
        train, others = partition(params, FREE)
        updates, state = optimizer.update(partition(gradient, FREE)[0], state, train)
        return combine(optax.apply_updates(train, updates), others), state, gradient["b"]

    return step, optimizer.init(partition(PARAMS, FREE)[0])


def test_a_right_step_passes():
    step, state = step_with(optax.sgd(0.01), ONLY_B)
    assert check_step(step, PARAMS, ONLY_B, state, 7.0) is None


def test_decay_of_a_fixed_leaf_is_found_and_named():
    step, state = step_with(optax.adamw(0.01), ONLY_B)
    with pytest.raises(AssertionError, match=r"^after 3 steps fixed leaves have moved: a\.$"):
        check_step(step, PARAMS, ONLY_B, state, 7.0)


def test_a_leaf_that_does_not_train_is_found_and_named():
    step, state = step_with(optax.sgd(0.01), ONLY_B)
    with pytest.raises(AssertionError, match=r"^after 1 step trainable leaves have not moved: a\.$"):
        check_step(step, PARAMS, FREE, state, 7.0, steps=1)
    with pytest.raises(AssertionError, match=r"leaves have moved: b; trainable leaves have not moved: a\.$"):
        check_step(step, PARAMS, {**ONLY_B, "a": True, "b": False}, state, 7.0)


def test_a_warm_up_needs_its_steps():
    """The rate of the first step is zero: what decays is still in its place after it."""
    warm_up = optax.linear_schedule(0.0, 0.1, 2)
    step, state = step_with(optax.adamw(warm_up), ONLY_B)
    with pytest.raises(AssertionError, match="after 1 step trainable leaves have not moved: b"):
        check_step(step, PARAMS, ONLY_B, state, 7.0, steps=1)
    with pytest.raises(AssertionError, match="after 3 steps fixed leaves have moved: a"):
        check_step(step, PARAMS, ONLY_B, state, 7.0)


def test_a_step_may_donate_what_it_is_given():
    step, state = step_with(optax.adam(0.01), ONLY_B)
    donating = jax.jit(lambda *given: step(*given)[:2], donate_argnums=(0, 1))
    try:
        check_step(donating, PARAMS, ONLY_B, state, 7.0)
    except ValueError as error:
        raise AssertionError("the step was given the parameters themselves") from error
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((PARAMS, state)))


def test_many_paths_are_counted():
    params, mask = [jnp.ones(1)] * 13, [False] * 12 + [True]

    def step(params, state):
        return jax.tree.map(lambda leaf: leaf + 1, params), state

    with pytest.raises(AssertionError, match=r"moved: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more\.$"):
        check_step(step, params, mask, None)


@examples
@given(trees_and_masks(leaves=FLOATS), st.data())
def test_each_leaf_is_judged_by_its_flag(drawn, data):
    params, mask = drawn
    params = as_arrays(params)
    moves = jax.tree.map(lambda leaf: data.draw(st.booleans()), params)

    def step(params, state):
        return jax.tree.map(lambda leaf, moves: leaf + 1 if moves else leaf, params, moves), state

    if not any(jax.tree.leaves(mask)):
        with pytest.raises(ValueError, match="nothing trains"):
            check_step(step, params, mask, None)
    elif mask == moves:
        check_step(step, params, mask, None)
    else:
        with pytest.raises(AssertionError, match="after 3 steps"):
            check_step(step, params, mask, None)


# ---- errors and docstrings -------------------------------------------------------------------------------------------


def unchanged(params, state):
    return params, state


ERRORS = {
    "trees of two structures": (
        lambda: moved({"a": 1.0}, {"b": 1.0}),
        ValueError,
        "the tree before and the tree after differ in structure:\nat the top the tree after lacks 'a'.",
    ),
    "a donated array": (
        lambda: moved({"a": deleted()}, {"a": jnp.ones(2)}),
        ValueError,
        "a of the tree before was donated or deleted, so its values are gone. Make a copy before that: ",
    ),
    "a word that moved": (lambda: moved(["a"], ["b"]), TypeError, "0 is a str. A parameter must be an array or a"),
    "what moved, asked while tracing": (
        lambda: jax.jit(lambda params: moved(params, {"a": 1.0}))({"a": 1.0}),
        TypeError,
        "a is traced, so its bytes are not known. Call moved outside the jitted function.",
    ),
    "a mask of another structure": (
        lambda: check_step(unchanged, PARAMS, {"a": True}, None),
        ValueError,
        "the tree of parameters and the mask differ in structure:",
    ),
    "a traced mask": (
        lambda: check_step(unchanged, PARAMS, {**ONLY_B, "b": jnp.array(True)}, None),
        TypeError,
        "a static mask is needed",
    ),
    "nothing trains": (lambda: check_step(unchanged, PARAMS, all_fixed(PARAMS), None), ValueError, "nothing trains: "),
    "no steps": (
        lambda: check_step(unchanged, PARAMS, ONLY_B, None, steps=0),
        ValueError,
        "steps must be a positive integer",
    ),
    "the parameters alone": (
        lambda: check_step(lambda params, state: params, PARAMS, ONLY_B, None),
        TypeError,
        "the step must return a tuple (params, state, ...), not <class 'dict'>.",
    ),
    "the state first": (
        lambda: check_step(lambda params, state: (state, params), PARAMS, ONLY_B, None, steps=1),
        ValueError,
        "the tree before and the tree after differ in structure:",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_errors(case):
    check_error(case)


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(module, ERRORS)


def test_examples():
    check_examples(module)
