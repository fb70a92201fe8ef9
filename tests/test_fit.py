"""The package's training loops: on random pytrees, against loops written by hand, every error, every example.

tests/mutants/trainability/fit.toml breaks the module on purpose; this file must turn red each time.
"""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from hypothesis import given, settings
from package_checks import (
    FLOATS,
    OTHERS,
    as_arrays,
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
    same_bits,
    trees_and_masks,
)
from trainability.fit import fit, fit_lbfgs
from trainability.masks import combine, move_state, partition

module = importlib.import_module("trainability.fit")  # in the package, the name is the function's

PARAMS = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([1.0, -1.0]), "steps": jnp.array(3), "key": jax.random.key(0)}
A_FIXED = {"a": False, "b": True, "steps": False, "key": False}
BOTH = {**A_FIXED, "a": True}
ADAM = optax.adam(0.1)


def loss_fn(params):
    return jnp.sum((params["a"] * params["b"] - 3) ** 2)


def loss_on(params, batch):
    return jnp.sum((params["a"] * params["b"] - batch["target"]) ** 2)


def distance_from_three(params):
    """A loss with a gradient everywhere: the distance of all that is a float from 3."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return sum(jnp.sum((leaf.astype(np.float32) - 3) ** 2) for leaf in leaves)


# ---- fit -------------------------------------------------------------------------------------------------------------


@settings(examples, max_examples=10)  # two programs to compile for each
@given(trees_and_masks(leaves=(*FLOATS[:3], *OTHERS)))
def test_what_trains_moves_and_nothing_else(drawn):
    params, mask = drawn
    params = as_arrays(params)
    if not any(jax.tree.leaves(mask)):
        with pytest.raises(ValueError, match="nothing trains"):
            fit(distance_from_three, params, mask, ADAM, 2)
        return
    fitted = fit(distance_from_three, params, mask, optax.adamw(0.1, weight_decay=0.5), 2)
    assert jax.tree.structure(fitted.params) == jax.tree.structure(params)
    for old, new, train in zip(*map(jax.tree.leaves, (params, fitted.params, mask)), strict=True):
        assert (not np.array_equal(old, new)) if train else old is new
    assert fitted.losses[0] == distance_from_three(params) and fitted.losses.shape == (2,)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.01, momentum=0.9), ADAM, optax.adamw(0.1, weight_decay=0.3)])
def test_fit_is_the_loop_by_hand(optimizer):
    train, fixed = partition(PARAMS, A_FIXED)
    state, losses = optimizer.init(train), []

    @jax.jit
    def step(train, fixed, state):
        value, gradient = jax.value_and_grad(lambda train: loss_fn(combine(train, fixed)))(train)
        updates, state = optimizer.update(gradient, state, train)
        return optax.apply_updates(train, updates), state, value

    for _ in range(7):
        train, state, value = step(train, fixed, state)
        losses.append(value)
    fitted = fit(loss_fn, PARAMS, A_FIXED, optimizer, 7)
    # a scan may be compiled to other last bits than a step
    np.testing.assert_allclose(fitted.params["b"], train["b"], rtol=1e-6)
    np.testing.assert_allclose(fitted.losses, losses, rtol=1e-5)
    assert jax.tree.structure(fitted.state) == jax.tree.structure(state)


def test_going_on_with_the_state_is_one_run():
    whole = fit(loss_fn, PARAMS, A_FIXED, ADAM, 6)
    half = fit(loss_fn, PARAMS, A_FIXED, ADAM, 3)
    rest = fit(loss_fn, half.params, A_FIXED, ADAM, 3, state=half.state)
    assert same_bits(rest.params, whole.params) and same_bits(rest.state, whole.state)
    assert np.array_equal(np.r_[half.losses, rest.losses], whole.losses)
    forgetful = fit(loss_fn, half.params, A_FIXED, ADAM, 3)
    assert not same_bits(forgetful.params, whole.params)


def test_the_state_goes_through_move_state():
    first = fit(loss_fn, PARAMS, A_FIXED, ADAM, 3)
    state = move_state(first.state, ADAM, first.params, A_FIXED, BOTH)
    second = fit(loss_fn, first.params, BOTH, ADAM, 3, state=state)
    assert second.state[0].count == 6 and not np.array_equal(second.params["a"], PARAMS["a"])


def test_each_step_is_given_its_batch():
    targets = jnp.array([[3.0, 3.0], [-5.0, 0.0], [1.0, 2.0]])
    fitted = fit(loss_on, PARAMS, A_FIXED, optax.sgd(0.1), 3, batches={"target": targets})
    params = PARAMS
    for target, value in zip(targets, fitted.losses, strict=True):
        np.testing.assert_allclose(value, loss_on(params, {"target": target}), rtol=1e-6)
        slope = jax.grad(lambda b, target=target: loss_on({**PARAMS, "b": b}, {"target": target}))(params["b"])
        params = {**params, "b": params["b"] - 0.1 * slope}
    np.testing.assert_allclose(fitted.params["b"], params["b"], rtol=1e-6)


def test_lbfgs_of_optax_is_given_what_it_asks_for():
    fitted = fit(loss_fn, PARAMS, A_FIXED, optax.lbfgs(), 10)
    np.testing.assert_allclose(fitted.params["b"], [3.0, 1.5], rtol=1e-5)
    assert fitted.params["a"] is PARAMS["a"]


def test_an_optimizer_is_given_value_gradient_and_function():
    def update(updates, state, params, *, value, grad, value_fn):
        disagreement = value_fn(params) - value
        return jax.tree.map(lambda slope, same: slope - same + disagreement, updates, grad), state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), update)
    assert same_bits(fit(loss_fn, PARAMS, A_FIXED, optimizer, 2).params, PARAMS)


def test_values_from_outside_are_those_at_the_time_of_the_call():
    target = {"value": 3.0}

    def loss(params):
        return (params - target["value"]) ** 2

    for target["value"] in (3.0, 5.0):
        np.testing.assert_allclose(fit(loss, 1.0, True, optax.sgd(0.5), 1).params, target["value"])
        np.testing.assert_allclose(fit_lbfgs(loss, 1.0, True).params, target["value"], rtol=1e-6)


def test_progress_is_told_each_step_and_changes_nothing(capfd):
    said = []
    told = fit(loss_fn, PARAMS, A_FIXED, ADAM, 4, progress=lambda number, loss: said.append((number, loss)))
    silent = fit(loss_fn, PARAMS, A_FIXED, ADAM, np.int64(4))
    assert said == [(number, float(loss)) for number, loss in enumerate(told.losses, start=1)]
    assert all(type(number) is int and type(loss) is float for number, loss in said)
    np.testing.assert_allclose(told.params["b"], silent.params["b"], rtol=1e-6)  # two programs, other last bits
    assert told.params["a"] is silent.params["a"] is PARAMS["a"]
    assert capfd.readouterr() == ("", "")


def test_what_was_given_is_still_there():
    params = jax.tree.map(jnp.copy, PARAMS)
    state = ADAM.init(partition(params, A_FIXED)[0])
    fit(loss_fn, params, A_FIXED, ADAM, 2, state=state)
    assert same_bits(params, PARAMS) and not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, state)))


def test_complex_numbers_go_downhill():
    params = {"fixed": jnp.array(1j), "free": jnp.array(0j)}
    fitted = fit(
        lambda params: jnp.abs(params["free"] - 3 - 2 * params["fixed"]) ** 2,
        params,
        {"fixed": False, "free": True},
        optax.sgd(0.1),
        100,
    )
    np.testing.assert_allclose(fitted.params["free"], 3 + 2j, rtol=1e-5)


def test_python_numbers_are_parameters_too():
    params = {"a": 1.0, "b": 2.0}
    fitted = fit(loss_fn, params, {"a": False, "b": True}, ADAM, 2)
    assert fitted.params["a"] is params["a"] and fitted.params["b"].dtype == np.float32


# ---- fit_lbfgs -------------------------------------------------------------------------------------------------------


def test_fit_lbfgs_is_scipy_over_what_trains():
    def rosenbrock(x):
        return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2 + (x[2] - x[1]) ** 2

    with jax.enable_x64(True):
        params = {"fixed": jnp.array(-1.2), "free": jnp.array([1.0, 0.0])}

        def loss(params):
            return rosenbrock([params["fixed"], *params["free"]])

        said = []
        fitted = fit_lbfgs(
            loss, params, {"fixed": False, "free": True}, progress=lambda number, loss: said.append((number, loss))
        )
    by_scipy = scipy.optimize.minimize(lambda free: rosenbrock([-1.2, *free]), [1.0, 0.0], method="BFGS", tol=1e-9)
    np.testing.assert_allclose(fitted.params["free"], by_scipy.x, rtol=1e-5)
    assert fitted.params["fixed"] is params["fixed"] and fitted.params["free"].dtype == np.float64
    assert fitted.state.success and fitted.state.names == ["free[0]", "free[1]"]
    assert np.array_equal(fitted.state.x, fitted.params["free"])
    np.testing.assert_allclose(fitted.losses[0], rosenbrock([-1.2, 1.0, 0.0]), rtol=1e-12)
    assert fitted.losses[-1] == fitted.state.fun
    assert said == list(enumerate(fitted.losses[1:], start=1)) and len(said) == fitted.state.nit


def test_fit_lbfgs_stops_where_it_is_told_to_and_says_so():
    fitted = fit_lbfgs(lambda x: jnp.sum((x**2 - jnp.arange(1.0, 4)) ** 4), jnp.ones(3), True, maxiter=2)
    assert len(fitted.losses) == 3 and not fitted.state.success and "ITERATIONS" in fitted.state.message.upper()


def test_fit_lbfgs_of_mixed_dtypes():
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    fitted = fit_lbfgs(distance_from_three, params, {"half": True, "single": True})
    assert jax.tree.map(lambda leaf: leaf.dtype, fitted.params) == jax.tree.map(lambda leaf: leaf.dtype, params)
    np.testing.assert_allclose(fitted.params["single"], 3, rtol=1e-3)


# ---- errors ----------------------------------------------------------------------------------------------------------

NOTHING = dict.fromkeys(PARAMS, False)
TRACED = {name: jnp.array(flag) for name, flag in A_FIXED.items()}
TARGETS = {"target": jnp.ones([3, 2])}

ERRORS = {
    "nothing trains": (lambda: fit(loss_fn, PARAMS, NOTHING, ADAM, 1), ValueError, "nothing trains: every leaf"),
    "nothing trains in L-BFGS": (lambda: fit_lbfgs(loss_fn, PARAMS, NOTHING), ValueError, "nothing trains"),
    "another structure": (
        lambda: fit(loss_fn, PARAMS, {"a": True}, ADAM, 1),
        ValueError,
        "the tree of parameters and the mask differ in structure:\nat the top the mask lacks 'b'.",
    ),
    "a traced mask": (lambda: fit(loss_fn, PARAMS, TRACED, ADAM, 1), TypeError, "a static mask is needed"),
    "an integer that should train": (
        lambda: fit(loss_fn, PARAMS, {**A_FIXED, "steps": True}, ADAM, 1),
        TypeError,
        "steps cannot train: it is int32, which has no gradient.",
    ),
    "a loss for each number": (
        lambda: fit(lambda params: params["b"], PARAMS, A_FIXED, ADAM, 1),
        ValueError,
        "the loss must be one number, of shape (), and it has the shape (2,). Return its mean or its sum.",
    ),
    "a loss and something else": (
        lambda: fit(lambda params: (loss_fn(params), 1), PARAMS, A_FIXED, ADAM, 1),
        ValueError,
        "the loss must be one number, of shape (), and it is <class 'tuple'>.",
    ),
    "an integer loss": (
        lambda: fit_lbfgs(lambda params: jnp.array(1), PARAMS, A_FIXED),
        TypeError,
        "the loss must be a floating point number, and it is int32.",
    ),
    "a loss that is not finite": (
        lambda: fit(lambda params: jnp.log(-1.0 * loss_fn(params)), PARAMS, A_FIXED, ADAM, 1),
        ValueError,
        "the loss is nan at the start.",
    ),
    "an infinite loss in L-BFGS": (
        lambda: fit_lbfgs(lambda params: loss_fn(params) / 0, PARAMS, A_FIXED),
        ValueError,
        "the loss is inf at the start.",
    ),
    "no step": (lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 0), ValueError, "whole number from 1 on, not 0."),
    "half a step": (lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 1.5), ValueError, "whole number from 1 on, not 1.5"),
    "True steps": (lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, True), ValueError, "whole number from 1 on, not True"),
    "no iteration": (
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, maxiter=0),
        ValueError,
        "maxiter is a whole number from 1 on, not 0.",
    ),
    "too few batches": (
        lambda: fit(loss_on, PARAMS, A_FIXED, ADAM, 4, batches=TARGETS),
        ValueError,
        "a leading axis of 4, one slice for each step, and target has the shape (3, 2).",
    ),
    "the state of all parameters": (
        lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 1, state=ADAM.init(partition(PARAMS, BOTH)[0])),
        ValueError,
        "the state for this mask and the one given differ in structure:\nat 0/mu/a the state for this mask has a None",
    ),
    "a state of other shapes": (
        lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 1, state=ADAM.init({**NOTHING_HERE, "b": jnp.ones(3)})),
        ValueError,
        "at 0/mu/b (2,) and (3,).",
    ),
    "a complex number in L-BFGS": (
        lambda: fit_lbfgs(lambda z: jnp.abs(z) ** 2, jnp.array(1j), True),
        TypeError,
        "the parameter is complex64, and scipy's numbers are real.",
    ),
}
NOTHING_HERE = dict.fromkeys(PARAMS)


@pytest.mark.parametrize("name", ERRORS)
def test_error_says_what_was_wrong(name):
    check_error(ERRORS[name])


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(module, ERRORS)


# ---- examples --------------------------------------------------------------------------------------------------------


def test_examples_of_the_docstrings_run():
    check_examples(module)
