"""The package's training loops: on random pytrees, against loops written by hand, every error, every example.

tests/mutants/trainability/training.toml breaks the module on purpose; this file must turn red each time.
"""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
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
    trees_and_masks,
)
from trainability import training as module
from trainability.masks import combine, move_state, partition
from trainability.training import fit, fit_lbfgs

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
    part = fit(loss_fn, PARAMS, A_FIXED, ADAM, 3)
    rest = fit(loss_fn, part.params, A_FIXED, ADAM, 3, state=part.state)
    assert same_bits(rest.params, whole.params) and same_bits(rest.state, whole.state)
    assert np.array_equal(np.r_[part.losses, rest.losses], whole.losses)
    forgetful = fit(loss_fn, part.params, A_FIXED, ADAM, 3)
    assert not same_bits(forgetful.params, whole.params)


def test_the_state_goes_through_move_state():
    first = fit(loss_fn, PARAMS, A_FIXED, ADAM, 3)
    state = move_state(first.params, A_FIXED, BOTH, ADAM, first.state)
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


# ---- never stale -----------------------------------------------------------------------------------------------------

NUMBERS = {
    "a Python number": float,
    "a NumPy number": np.float32,
    "a NumPy array": lambda value: np.array([value], np.float32),
    "an array": jnp.float32,
    "an array with an axis": lambda value: jnp.array([value]),
}
STARTS = {
    "a Python number": 1.0,
    "a weakly typed array": jnp.array(1.0),
    "an array": jnp.float32(1.0),
    "a NumPy array": np.array(1.0, np.float32),
}


class World:
    """What a loss may take from outside: an attribute of an object."""

    target: object
    rate: object


def way_of(world, form):
    """A loss of one number; its inner functions are made once, so that JAX may remember what they meant before."""

    def plain(x):
        return jnp.sum((x - world.target) ** 2)

    def times(x):
        return x * jnp.sum(world.target)

    @jax.custom_vjp
    def own_gradient(x):
        return plain(x)

    def forwards(x):
        return plain(x), x

    def backwards(x, slope):
        return (slope * 2 * (x - jnp.sum(world.target)),)

    own_gradient.defvjp(forwards, backwards)

    def body(x, _):
        return 0.5 * x + 0.1 * jnp.sum(world.target), None

    checkpointed = jax.checkpoint(plain)
    jitted_part = jax.jit(plain)
    forms = {
        "plain": plain,
        "scan": lambda x: (jax.lax.scan(body, x + jnp.float32(0), length=2)[0] - 2) ** 2,
        "cond": lambda x: (jax.lax.cond(x > -100, times, lambda x: x, x) - 2) ** 2,
        "checkpoint": lambda x: checkpointed(x),
        "checkpoint alone": checkpointed,
        "custom_vjp": lambda x: own_gradient(x),
        "custom_vjp alone": own_gradient,
        "a jitted part": lambda x: jitted_part(x) + plain(x),
        "jit": jax.jit(plain),
    }
    return forms[form]


FORMS = [
    "plain",
    "scan",
    "cond",
    "checkpoint",
    "checkpoint alone",
    "custom_vjp",
    "custom_vjp alone",
    "a jitted part",
    "jit",
]


def by_hand(loss, params, optimizer, steps):
    params, state, losses = jax.tree.map(jnp.asarray, params), optimizer.init(params), []
    for _ in range(steps):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(value)
    return params, losses


@settings(examples, max_examples=30)
@given(st.data())
def test_fit_is_what_the_loop_by_hand_is_at_that_moment(data):
    world, form = World(), data.draw(st.sampled_from(FORMS))
    loss = way_of(world, form)
    start = STARTS[data.draw(st.sampled_from(sorted(STARTS)))]
    optimizer = optax.sgd(lambda count: world.rate)
    asked = {
        "nobody": lambda: None,
        "loss": lambda: loss(start),
        "fit": lambda: fit(loss, start, True, optimizer, 2),
        "hand": lambda: by_hand(loss, start, optimizer, 2),
    }
    for value in (0.5, 2.0):
        world.target = NUMBERS[data.draw(st.sampled_from(sorted(NUMBERS)))](value)
        world.rate = 0.1 * value
        asked[data.draw(st.sampled_from(sorted(asked)))]()
    if data.draw(st.booleans()):
        fitted, (params, losses) = fit(loss, start, True, optimizer, 2), by_hand(loss, start, optimizer, 2)
        now = loss(start)
    else:
        now, (params, losses) = loss(start), by_hand(loss, start, optimizer, 2)
        fitted = fit(loss, start, True, optimizer, 2)
    np.testing.assert_allclose(fitted.losses[0], now, rtol=1e-6, err_msg=form)
    np.testing.assert_allclose(fitted.losses, losses, rtol=1e-5, atol=1e-7, err_msg=form)
    np.testing.assert_allclose(fitted.params, params, rtol=1e-5, err_msg=form)


def test_the_check_at_the_start_looks_at_the_loss_as_it_is():
    world = World()
    world.target, world.rate = np.nan, 0.5

    def loss(x):
        return (x - world.target) ** 2

    for run in (lambda: fit(loss, 1.0, True, optax.sgd(0.5), 1), lambda: fit_lbfgs(loss, 1.0, True)):
        for world.target in (np.nan, 3.0, np.inf, 5.0):
            if np.isfinite(world.target):
                fitted = run()
                np.testing.assert_allclose(fitted.params, world.target, rtol=1e-6)
                assert fitted.losses[0] == loss(1.0)
            else:
                with pytest.raises(ValueError, match=r"the loss is \w+ at the start"):
                    run()


@settings(examples, max_examples=12)
@given(st.data())
def test_fit_lbfgs_starts_and_ends_where_the_loss_is_at_that_moment(data):
    world, form = World(), data.draw(st.sampled_from([form for form in FORMS if form != "cond"]))  # it is quadratic
    loss, start = way_of(world, form), STARTS[data.draw(st.sampled_from(sorted(STARTS)))]
    asked = {"nobody": lambda: None, "loss": lambda: loss(start), "fit": lambda: fit_lbfgs(loss, start, True)}
    for value in (0.5, 2.0):
        world.target = NUMBERS[data.draw(st.sampled_from(sorted(NUMBERS)))](value)
        asked[data.draw(st.sampled_from(sorted(asked)))]()
    fitted = fit_lbfgs(loss, start, True)
    np.testing.assert_allclose(fitted.losses[0], loss(start), rtol=1e-6, err_msg=form)
    weak = jax.typeof(start).weak_type  # a jitted loss may know another old value for the other type
    slope = jax.grad(loss)(float(fitted.params) if weak else fitted.params)
    np.testing.assert_allclose(slope, 0, atol=1e-2, err_msg=form)


def test_the_shape_of_the_loss_is_that_at_the_time_of_the_call():
    world = World()

    def loss(x):
        return (x - world.target) ** 2

    for world.target in (np.ones(2), 3.0, np.ones(2)):
        try:
            fit(loss, 1.0, True, ADAM, 1)
            said = ""
        except ValueError as error:
            said = str(error)
        assert ("the loss must be a scalar" in said) == bool(np.shape(world.target))


def test_fit_lbfgs_shows_the_loss_the_types_that_were_given():
    seen = []

    def loss(params):
        seen.append(jax.tree.map(lambda leaf: jax.typeof(leaf).weak_type, params))
        return (params["x"] - 3) ** 2 + (params["y"] - 3) ** 2

    fit_lbfgs(loss, {"x": 1.0, "y": jnp.float32(1.0)}, {"x": True, "y": True})
    assert len(seen) == 2 and all(types == {"x": True, "y": False} for types in seen)


def test_a_program_is_traced_anew_for_a_function_that_jax_knows():
    world = World()

    def function(x):
        return x * world.target

    for world.target in (2.0, 3.0):
        assert module._Program(function, 1.0)(1.0) == world.target


@pytest.mark.parametrize("start", [1.0, jnp.array(1.0), jnp.float32(1.0)])
def test_a_jitted_loss_gives_what_it_gives_for_the_numbers_as_they_are(start):
    for other in (1.0, jnp.float32(1.0)):  # jax.jit knows an old value for one type, and maybe not for the other
        for run in (lambda loss: fit(loss, start, True, optax.sgd(0.1), 1), lambda loss: fit_lbfgs(loss, start, True)):
            world = World()
            world.target = 0.5
            loss = way_of(world, "jit")
            loss(other)
            world.target = 3.0
            fitted = run(loss)
            assert fitted.losses[0] == loss(start)


def test_data_are_arguments_and_come_before_the_batch():
    def loss(params, scale, data, batch):
        return jnp.sum((params["a"] * params["b"] * scale - data - 2 * batch) ** 2)

    data, batches = np.array([3.0, 1.0], np.float32), jnp.array([[0.0], [1.0]])
    fitted = fit(loss, PARAMS, A_FIXED, ADAM, 2, args=(2, data), batches=batches)
    closed = fit(lambda params, batch: loss(params, 2, data, batch), PARAMS, A_FIXED, ADAM, 2, batches=batches)
    np.testing.assert_allclose(fitted.params["b"], closed.params["b"], rtol=1e-6)
    np.testing.assert_allclose(fitted.losses[0], loss(PARAMS, 2, data, batches[0]), rtol=1e-6)


def test_what_the_loss_returns_beside_its_value_is_kept_for_each_step():
    def loss(params):
        return loss_fn(params), {"b": params["b"], "number": 3, "key": params["key"]}

    fitted = fit(loss, PARAMS, A_FIXED, ADAM, 5, has_aux=True, chunk=2)
    plain = fit(loss_fn, PARAMS, A_FIXED, ADAM, 5)
    np.testing.assert_allclose(fitted.params["b"], plain.params["b"], rtol=1e-6)
    np.testing.assert_allclose(fitted.losses, plain.losses, rtol=1e-6)
    assert plain.aux is None and fitted.aux["b"].shape == (5, 2) and np.array_equal(fitted.aux["number"], [3] * 5)
    assert np.array_equal(fitted.aux["b"][0], PARAMS["b"]) and fitted.aux["key"].shape == (5,)
    values = jax.vmap(lambda b: loss_fn({**PARAMS, "b": b}))(fitted.aux["b"])
    np.testing.assert_allclose(values, fitted.losses, rtol=1e-5)


def test_the_result_does_not_depend_on_the_chunk():
    whole = fit(loss_fn, PARAMS, A_FIXED, ADAM, 7)
    for chunk in (1, 3):
        parts = fit(loss_fn, PARAMS, A_FIXED, ADAM, 7, chunk=chunk)
        np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-6)
        np.testing.assert_allclose(parts.params["b"], whole.params["b"], rtol=1e-6)
    assert parts.losses.dtype == whole.losses.dtype == np.float32 and isinstance(whole.losses, jax.Array)


@pytest.mark.parametrize("last", [1, 3, 5, 9])
@pytest.mark.parametrize("start", [1.0, np.float32(1.0)])
def test_progress_can_end_the_training(start, last):
    told = []

    def progress(number, loss):
        told.append(number)
        if number == last:
            raise StopIteration

    arguments = (lambda x: ((x - 3) ** 2, x), start, True, optax.adam(0.1))
    fitted = fit(*arguments, 9, has_aux=True, progress=progress, chunk=4)
    short = fit(*arguments, last, has_aux=True, chunk=4)
    assert told == list(range(1, last + 1)) and same_bits(fitted, short)


def test_an_exception_of_progress_comes_out_as_it_is():
    def progress(number, loss):
        raise KeyError("mine")

    for call in (
        lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 3, progress=progress),
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, progress=progress),
    ):
        with pytest.raises(KeyError, match="mine"):
            call()


# ---- under transformations -------------------------------------------------------------------------------------------

WAYS = {
    "vmap": lambda run, starts: jax.vmap(run)(starts),
    "lax.map": lambda run, starts: jax.lax.map(run, starts),
    "jit": lambda run, starts: jax.tree.map(lambda *leaves: jnp.stack(leaves), *[jax.jit(run)(x) for x in starts]),
}


@pytest.mark.parametrize("way", WAYS)
def test_many_starts_train_under_a_transformation(way):
    starts = jnp.array([0.5, 1.0, 2.0])
    for first, start_trains in itertools.product((1.0, np.float32(1.0)), (False, True)):
        mask = {"a": start_trains, "b": True, "n": False}

        def run(start, first=first, mask=mask):
            params = {"a": start, "b": first, "n": 3}
            return fit(lambda params: (params["a"] * params["b"] - 3) ** 2, params, mask, ADAM, 4)

        together, alone = WAYS[way](run, starts), [run(start) for start in np.asarray(starts)]
        np.testing.assert_allclose(together.params["b"], [one.params["b"] for one in alone], rtol=1e-5)
        np.testing.assert_allclose(together.losses, [one.losses for one in alone], rtol=1e-4)


def test_one_step_and_a_loss_that_is_not_finite_under_vmap():
    losses = jax.vmap(lambda start: fit(lambda x: jnp.log(x), start, True, ADAM, 1).losses)(jnp.array([1.0, -1.0]))
    assert losses.shape == (2, 1) and losses[0] == 0 and jnp.isnan(losses[1])


def test_what_is_traced_may_come_from_outside():
    def end(target, rate):
        return fit(lambda x: (x - target) ** 2, 1.0, True, optax.sgd(rate), 1).params

    np.testing.assert_allclose(jax.vmap(end)(jnp.array([3.0, 5.0]), jnp.array([0.5, 0.25])), [3.0, 3.0])
    np.testing.assert_allclose(jax.grad(end, argnums=(0, 1))(3.0, 0.25), (0.5, 4.0))


# ---- compiled once ---------------------------------------------------------------------------------------------------

COMPILED = []


def count_compilations(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(seconds)


jax.monitoring.register_event_duration_secs_listener(count_compilations)


def compilations(call):
    before = len(COMPILED)
    call()
    return len(COMPILED) - before


@pytest.mark.parametrize("optimizer", [ADAM, optax.lbfgs()])
@pytest.mark.parametrize("start", [1.0, np.ones(3, np.float32)])
def test_a_second_call_with_the_same_program_compiles_nothing(optimizer, start):
    outside = {}

    @jax.custom_vjp
    def own(x):
        return jnp.sum(x**2)

    own.defvjp(lambda x: (own(x), x), lambda x, slope: (2 * slope * x,))

    def run(target, steps):
        outside["target"] = jnp.asarray(target)

        def loss(params, scale):  # a new function each time, and an array from outside that is another one
            value = jax.checkpoint(lambda x: x * scale + outside["target"])(params["x"])
            return own(jax.lax.cond(True, jnp.cos, jnp.sin, value)) + 0 * jnp.sum(value)

        return fit(loss, {"x": start, "n": 3}, {"x": True, "n": False}, optimizer, steps, args=(2.0,))

    assert compilations(lambda: run(np.full(3, 1.0, np.float32), 5)) > 0
    assert compilations(lambda: run(np.full(3, 1.5, np.float32), 5)) == 0
    assert compilations(lambda: run(np.full(3, 2.0, np.float32), 9)) == 0


def test_a_second_call_of_fit_lbfgs_compiles_nothing():
    def run(target):
        return fit_lbfgs(lambda params, target: jnp.sum((params["x"] - target) ** 2), PLANE, X_ONLY, args=(target,))

    assert compilations(lambda: run(np.zeros(2, np.float32))) > 0
    assert compilations(lambda: run(np.ones(2, np.float32))) == 0


PLANE, X_ONLY = {"x": jnp.zeros(2), "n": 3}, {"x": True, "n": False}


def test_another_program_is_never_taken_for_a_kept_one():
    first, second = jnp.float32(1.0), jnp.float32(2.0)
    pairs = [
        (lambda a, b: a, lambda a, b: b),
        (lambda a, b: 3 * a, lambda a, b: 3 * b),
        (lambda a, b: {"x": a, "y": b}, lambda a, b: {"y": b, "z": a}),
        (lambda a, b: a * 2.0000002, lambda a, b: a * 2.0000005),
        (lambda a, b: jax.lax.convert_element_type(a, float), lambda a, b: a),
        (lambda a, b: jax.random.key(1, impl="rbg"), lambda a, b: jax.random.key(1, impl="unsafe_rbg")),
    ]
    for pair in pairs:
        for function in pair:
            found, expected = module._Program(function, first, second)(first, second), function(first, second)
            assert jax.tree.structure(found) == jax.tree.structure(expected)
            assert jax.tree.map(jax.typeof, found) == jax.tree.map(jax.typeof, expected)
            assert same_bits(found, expected)


def test_a_loss_that_calls_python_back_is_never_stale():
    def run(target):
        def from_host(x):
            return jax.pure_callback(lambda: np.float32(target), jax.ShapeDtypeStruct((), np.float32))

        def loss(x):
            return (x - jax.lax.stop_gradient(from_host(x))) ** 2

        return float(fit(loss, 1.0, True, optax.sgd(0.5), 1).params)

    assert [run(3.0), run(5.0)] == [3.0, 5.0]


def test_not_more_than_so_many_programs_are_kept(monkeypatch):
    monkeypatch.setattr(module, "_KEPT", {})
    monkeypatch.setattr(module, "_MOST_KEPT", 2)

    def run(power):
        return compilations(lambda: module._Program(lambda x: x**power, 2.0)(2.0))

    assert [run(power) for power in (2, 3, 2, 4)] == [1, 1, 0, 1] and len(module._KEPT) == 2
    assert [run(power) for power in (2, 4, 3)] == [0, 0, 1]


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
    assert fitted.result.success and fitted.result.names == ["free[0]", "free[1]"]
    assert np.array_equal(fitted.result.x, fitted.params["free"])
    np.testing.assert_allclose(fitted.losses[0], rosenbrock([-1.2, 1.0, 0.0]), rtol=1e-12)
    assert fitted.losses[-1] == fitted.result.fun
    assert said == list(enumerate(fitted.losses[1:], start=1)) and len(said) == fitted.result.nit


def test_fit_lbfgs_stops_where_it_is_told_to_and_says_so():
    fitted = fit_lbfgs(lambda x: jnp.sum((x**2 - jnp.arange(1.0, 4)) ** 4), jnp.ones(3), True, maxiter=2)
    assert len(fitted.losses) == 3 and not fitted.result.success and "ITERATIONS" in fitted.result.message.upper()


def test_fit_lbfgs_of_mixed_dtypes():
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2)}
    fitted = fit_lbfgs(distance_from_three, params, {"half": True, "single": True})
    assert jax.tree.map(lambda leaf: leaf.dtype, fitted.params) == jax.tree.map(lambda leaf: leaf.dtype, params)
    np.testing.assert_allclose(fitted.params["single"], 3, rtol=1e-3)


def test_fit_lbfgs_keeps_to_its_bounds():
    def loss(params):
        return jnp.sum((params["a"] - 3) ** 2) + jnp.sum((params["b"] + 3) ** 2) + 0 * params["n"]

    params = {"a": jnp.zeros(2), "b": 0.5, "n": 1}
    mask = {"a": True, "b": True, "n": False}
    high = {"a": np.array([1.0, np.inf]), "b": None, "n": 0.0}
    fitted = fit_lbfgs(loss, params, mask, bounds=(-1.0, high))
    np.testing.assert_allclose(fitted.params["a"], [1.0, 3.0], rtol=1e-5)
    assert fitted.params["b"] == -1.0 and fitted.result.success
    np.testing.assert_allclose(fit_lbfgs(loss, params, mask, bounds=(None, None)).params["b"], -3.0, rtol=1e-5)
    np.testing.assert_allclose(fit_lbfgs(lambda x: (x - 3) ** 2, 1.0, True, bounds=(None, 2)).params, 2.0)


def test_fit_lbfgs_obeys_its_tolerances():
    def loss(x):
        return jnp.sum((x**2 - jnp.arange(1.0, 4)) ** 4)

    with jax.enable_x64(True):
        usual = fit_lbfgs(loss, jnp.ones(3), True)
        early = fit_lbfgs(loss, jnp.ones(3), True, gtol=1e-1)
        late = fit_lbfgs(loss, jnp.ones(3), True, gtol=1e-9, ftol=0)
        rough = fit_lbfgs(loss, jnp.ones(3), True, ftol=1e-1)
    assert early.result.nit < usual.result.nit < late.result.nit and rough.result.nit < usual.result.nit
    assert np.abs(early.result.jac).max() < 1e-1 and np.abs(late.result.jac).max() < 1e-9
    assert "PROJECTED GRADIENT" in early.result.message.upper() and "REDUCTION" in rough.result.message.upper()


def test_progress_can_end_fit_lbfgs():
    def progress(number, loss):
        if number == 2:
            raise StopIteration

    fitted = fit_lbfgs(lambda x: jnp.sum((x**2 - jnp.arange(1.0, 4)) ** 4), jnp.ones(3), True, progress=progress)
    short = fit_lbfgs(lambda x: jnp.sum((x**2 - jnp.arange(1.0, 4)) ** 4), jnp.ones(3), True, maxiter=2)
    assert np.array_equal(fitted.losses, short.losses) and same_bits(fitted.params, short.params)


# ---- several devices -------------------------------------------------------------------------------------------------

ON_EIGHT_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, optax, trainability.training as module
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

for kind in (AxisType.Auto, AxisType.Explicit):
    sharding = NamedSharding(jax.make_mesh((8,), ("d",), axis_types=(kind,)), P("d", None))
    a, b, data = (jax.device_put(jnp.full((8, 2), value), sharding) for value in (1.0, 2.0, 3.0))
    params, mask, told = {"a": a, "b": b}, {"a": False, "b": True}, []

    def loss(params, data):
        return jnp.mean((params["a"] * params["b"] - data) ** 2)

    with jax.set_mesh(sharding.mesh):
        fitted = module.fit(
            loss, params, mask, optax.adam(0.1), 6, args=(data,), chunk=2, progress=lambda *said: told.append(said)
        )
        by_scipy = module.fit_lbfgs(loss, params, mask, args=(data,))
    assert [number for number, _ in told] == [1, 2, 3, 4, 5, 6] and fitted.losses[-1] < fitted.losses[0]
    for leaf in (fitted.params["b"], fitted.state[0].mu["b"], by_scipy.params["b"]):
        assert leaf.sharding.is_equivalent_to(sharding, 2), leaf.sharding
    assert fitted.params["a"] is a and abs(by_scipy.params["b"] - 3).max() < 1e-3
"""


def test_shardings_are_kept_on_eight_devices():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_EIGHT_DEVICES]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]


FIFTY_FITS = """
import jax
jax.config.update("jax_num_cpu_devices", 8)
import jax.numpy as jnp, optax, trainability as tr
from jax.sharding import NamedSharding, PartitionSpec as P

mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
a, b, data = (jax.device_put(jnp.full((64, 8), value), NamedSharding(mesh, P("d"))) for value in (1.0, 2.0, 3.0))

def loss(params, data):
    return jnp.mean((params["a"] * params["b"] - data) ** 2)

for _ in range(50):
    fitted = tr.fit(loss, {"a": a, "b": b}, {"a": False, "b": True}, optax.adam(0.1), 20, args=(data,), chunk=5)
print("all ended")
"""


def test_fifty_fits_in_a_row_do_not_hang_on_eight_devices():
    """A loop of sharded steps that are not waited for can hang where there are fewer cores than devices."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", FIFTY_FITS]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert result.stdout == "all ended\n", result.stderr[-2000:]


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
    "a Python integer that should train": (
        lambda: fit_lbfgs(lambda params: params["a"] * params["b"], {"a": 1, "b": 1.0}, {"a": True, "b": True}),
        TypeError,
        "a cannot train: it is int32, which has no gradient. To train it, start from a floating point number, such as "
        "1.0 instead of 1.",
    ),
    "args that are no tuple": (
        lambda: fit(loss_on, PARAMS, A_FIXED, ADAM, 1, args=TARGETS),
        TypeError,
        "args must be a tuple, such as (data,), not a dict.",
    ),
    "no chunk": (
        lambda: fit(lambda x: x**2, 1.0, True, ADAM, 1, chunk=0),
        ValueError,
        "chunk must be a positive integer",
    ),
    "no pair": (
        lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 1, has_aux=True),
        ValueError,
        "with has_aux=True the loss must return a pair (loss, aux), not",
    ),
    "progress under vmap": (
        lambda: jax.vmap(lambda x: fit(lambda y: y**2, x, True, ADAM, 1, progress=print).params)(jnp.ones(2)),
        ValueError,
        "progress is called from Python between steps, which does not work under a transformation",
    ),
    "progress in a loss that is traced": (
        lambda: jax.jit(lambda x: fit(lambda y: (x - y) ** 2, 1.0, True, ADAM, 1, progress=print).params)(1.0),
        ValueError,
        "progress is called from Python between steps, which does not work under a transformation",
    ),
    "L-BFGS under vmap": (
        lambda: jax.vmap(lambda x: fit_lbfgs(lambda y: (x - y) ** 2, 1.0, True).params)(jnp.ones(2)),
        ValueError,
        "fit_lbfgs runs scipy from Python, which does not work under a transformation",
    ),
    "a tolerance that is none": (
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, gtol=-1),
        ValueError,
        "gtol must be a non-negative number, not -1.",
    ),
    "bounds that are no pair": (
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, bounds={"b": 3}),
        TypeError,
        "bounds must be a pair (low, high), not a dict. Use None where there is no bound.",
    ),
    "bounds of another structure": (
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, bounds=({"b": 0.0}, None)),
        ValueError,
        "the tree of parameters and the lower bound differ in structure:\nat the top the lower bound lacks 'a'.",
    ),
    "bounds of another shape": (
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, bounds=(None, {**NOTHING_HERE, "b": np.ones(3)})),
        ValueError,
        "the upper bound at b has the shape (3,), but the parameter has (2,).",
    ),
    "a start outside its bounds": (
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, bounds=(0, None)),
        ValueError,
        "b[1] starts at -1, outside its bounds 0 and inf.",
    ),
    "a loss for each number": (
        lambda: fit(lambda params: params["b"], PARAMS, A_FIXED, ADAM, 1),
        ValueError,
        "the loss must be a scalar, of shape (), but it has the shape (2,). Return its mean or its sum.",
    ),
    "a loss and something else": (
        lambda: fit(lambda params: (loss_fn(params), 1), PARAMS, A_FIXED, ADAM, 1),
        ValueError,
        "it is <class 'tuple'>. If it also returns something else, use fit(…, has_aux=True).",
    ),
    "an integer loss": (
        lambda: fit_lbfgs(lambda params: jnp.array(1), PARAMS, A_FIXED),
        TypeError,
        "the loss must be a floating point number, but it is int32.",
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
    "True steps": (
        lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, True),
        ValueError,
        "must be a positive integer, not True",
    ),
    "no step": (lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 0), ValueError, "must be a positive integer, not 0."),
    "half a step": (
        lambda: fit(loss_fn, PARAMS, A_FIXED, ADAM, 1.5),
        ValueError,
        "must be a positive integer, not 1.5",
    ),
    "no iteration": (
        lambda: fit_lbfgs(loss_fn, PARAMS, A_FIXED, maxiter=0),
        ValueError,
        "maxiter must be a positive integer, not 0.",
    ),
    "too few batches": (
        lambda: fit(loss_on, PARAMS, A_FIXED, ADAM, 4, batches=TARGETS),
        ValueError,
        "a leading axis of 4, one slice for each step, but target has the shape (3, 2).",
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
        "the parameter is complex64, but L-BFGS-B needs real numbers.",
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
