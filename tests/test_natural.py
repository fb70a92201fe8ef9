"""The package's natural gradient step, against its definitions by dense algebra; every error, every example.

tests/mutants/trainability/natural.toml breaks the module on purpose; this file must turn red each time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import trainability as tr
from hypothesis import given
from hypothesis import strategies as st
from package_checks import (
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
    same_bits,
)
from trainability import natural
from trainability.natural import natural_gradient


@pytest.fixture(autouse=True, scope="module")
def sixty_four_bits():
    with jax.enable_x64(True):
        yield


def close(ours, others, rtol=1e-9):
    np.testing.assert_allclose(ours, others, rtol=rtol, atol=rtol * np.max(np.abs(others), initial=0))


# ---- two models of u ~ N(0, prior), of which f = a @ u is observed ---------------------------------------------------


def draw(seed, count, latents=1):
    """A distribution q, and what a loss needs beside it: the matrix a, observations, the inverse of the prior."""
    random = np.random.default_rng(seed)
    root = np.tril(random.normal(size=(latents, count, count)) / 3) + np.eye(count)
    q = {"mean": random.normal(size=(count, latents)) / 3, "root": root}
    a, y, half = random.normal(size=(5, count)) / 2, random.poisson(2.0, 5), random.normal(size=(count, count)) / 2
    return (q, (a, y, np.linalg.inv(half @ half.T + np.eye(count))))


def divergence(q, inverse):
    """KL(q | N(0, prior)), summed over the distributions, up to a constant."""
    mean, root = q["mean"], jnp.tril(q["root"])
    squares = jnp.einsum("lab,ac,lcb", root, inverse, root) + jnp.einsum("il,ij,jl", mean, inverse, mean)
    return squares / 2 - jnp.log(jnp.abs(jnp.diagonal(root, axis1=1, axis2=2))).sum()


def of_observations(q, a):
    """Mean and variance of the sum of all f, of shape (5,)."""
    return (a @ q["mean"]).sum(1), ((a @ jnp.tril(q["root"])) ** 2).sum((0, 2))


def gaussian_loss(q, a, y, inverse, noise=0.7):
    mean, variance = of_observations(q, a)
    return (((y - mean) ** 2 + variance) / noise).sum() / 2 + divergence(q, inverse)


def poisson_loss(q, a, y, inverse):
    """Minus the ELBO of counts whose rate is exp(f), where f is the sum of all functions, so that they are coupled."""
    mean, variance = of_observations(q, a)
    return (jnp.exp(mean + variance / 2) - y * mean).sum() + divergence(q, inverse)


slopes_of = {loss: jax.jit(jax.grad(loss)) for loss in (gaussian_loss, poisson_loss)}


def stepped(loss, q, data, rate):
    optimizer = natural_gradient(rate)
    update, _ = optimizer.update(slopes_of[loss](q, *data), optimizer.init(q), q)
    return added(q, update)


def added(q, update):
    """As optax.apply_updates, in NumPy, which compiles nothing."""
    return jax.tree.map(lambda leaf, change: np.asarray(leaf) + np.asarray(change), q, update)


def naturals(q):
    """The natural parameters: inverse(S) mean and -inverse(S) / 2, for each distribution."""
    inverses = np.linalg.inv(q["root"] @ np.swapaxes(q["root"], 1, 2))
    return np.einsum("lij,jl->il", inverses, q["mean"]), -inverses / 2


def pairs(*trees):
    return zip(*map(jax.tree.leaves, trees), strict=True)


# ---- the definitions -------------------------------------------------------------------------------------------------


def fisher(mean, root):
    """The Fisher matrix of N(mean, root rootᵀ) with respect to the mean and the lower triangle of the root."""
    count = len(mean)
    inverse = np.linalg.inv(root @ root.T)
    directions = []
    for row, column in zip(*np.tril_indices(count), strict=True):
        change = np.zeros([count, count])
        change[row, column] = 1
        directions.append(inverse @ (change @ root.T + root @ change.T))
    ofroot = [[np.trace(one @ other) / 2 for other in directions] for one in directions]
    return np.block([[inverse, np.zeros([count, len(ofroot)])], [np.zeros([len(ofroot), count]), np.array(ofroot)]])


def as_vectors(tree):
    """For each distribution, a vector of the mean and the lower triangle of the root."""
    below = np.tril_indices(len(tree["mean"]))
    pairs = zip(np.array(tree["mean"]).T, np.array(tree["root"]), strict=True)
    return [np.concatenate([mean, root[below]]) for mean, root in pairs]


@pytest.mark.parametrize("loss", [gaussian_loss, poisson_loss])
def test_the_fisher_matrix_times_a_small_step_is_minus_rate_times_the_gradient(loss):
    q, data = draw(0, 3, latents=2)
    rate = 1e-6  # the error is of the order of the rate
    optimizer = natural_gradient(rate)
    slope = slopes_of[loss](q, *data)
    step, _ = optimizer.update(slope, optimizer.init(q), q)
    for number, (change, slopes) in enumerate(zip(as_vectors(step), as_vectors(slope), strict=True)):
        matrix = fisher(np.array(q["mean"][:, number]), np.array(q["root"][number]))
        close(matrix @ change, -rate * slopes, rtol=1e-4)
        # The control: the matrix is far from the identity, so an ordinary gradient step is something else.
        assert np.abs(matrix - np.eye(len(matrix))).max() > 1


@examples
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.1]))
def test_a_step_moves_the_natural_parameters_against_the_gradient_of_the_expectation_parameters(seed, rate):
    q, data = draw(seed, 3, latents=2)
    outer = np.einsum("il,jl->lij", q["mean"], q["mean"])
    slopes = slopes_of_expectations(q["mean"], q["root"] @ np.swapaxes(q["root"], 1, 2) + outer, *data)
    for mine, old, slope in pairs(naturals(stepped(poisson_loss, q, data, rate)), naturals(q), slopes):
        close(mine, old - rate * slope)


@jax.jit
def slopes_of_expectations(first, second, *data):
    def loss(first, second):
        outer = jnp.einsum("il,jl->lij", first, first)
        return poisson_loss({"mean": first, "root": jnp.linalg.cholesky(second - outer)}, *data)

    return jax.grad(loss, (0, 1))(first, second)


def posterior(a, y, inverse, noise=0.7):
    covariance = np.linalg.inv(inverse + a.T @ a / noise)
    return covariance @ a.T @ y / noise, covariance


@examples
@given(st.integers(0, 1000), st.sampled_from([1, 4]))
def test_one_step_with_rate_1_is_the_posterior_from_any_start(seed, count):
    q, data = draw(seed, count)
    mean, covariance = posterior(*map(np.array, data))
    after = stepped(gaussian_loss, q, data, 1.0)
    close(after["mean"][:, 0], mean)
    close(after["root"][0] @ after["root"][0].T, covariance)
    close(after["root"][0], np.linalg.cholesky(covariance))
    assert np.abs(after["mean"] - q["mean"]).max() > 1e-3


def test_a_smaller_rate_goes_a_part_of_the_way_between_the_natural_parameters():
    q, data = draw(1, 3)
    ends = naturals(q), naturals(stepped(gaussian_loss, q, data, 1.0))
    for mine, start, end in zip(naturals(stepped(gaussian_loss, q, data, 0.3)), *ends, strict=True):
        close(mine, 0.7 * start + 0.3 * end)


def test_steps_find_the_minimum_of_a_loss_that_is_not_gaussian():
    q, data = draw(2, 3)
    for _ in range(50):
        q = stepped(poisson_loss, q, data, 0.5)
    assert max(np.abs(slope).max() for slope in jax.tree.leaves(slopes_of[poisson_loss](q, *data))) < 1e-8


def test_a_step_is_the_same_whitened_or_not():
    """With u = factor @ v, a step for the distribution of v is the step for that of u."""
    q, (a, y, inverse) = draw(3, 3, latents=2)
    factor = np.linalg.cholesky(np.linalg.inv(inverse))
    unwhitened = jax.tree.map(lambda part: factor @ part, q)
    inside = stepped(poisson_loss, q, (a @ factor, y, jnp.eye(3)), 0.1)
    outside = stepped(poisson_loss, unwhitened, (a, y, inverse), 0.1)
    for mine, other in pairs(outside, jax.tree.map(lambda part: factor @ part, inside)):
        close(mine, other)


def test_each_distribution_makes_its_own_step():
    q, data = draw(4, 3, latents=2)
    slope = slopes_of[poisson_loss](q, *data)
    both, _ = natural_gradient(0.1).update(slope, (), q)
    for number in range(2):
        one = {"mean": (slice(None), slice(number, number + 1)), "root": slice(number, number + 1)}
        part = [{name: tree[name][place] for name, place in one.items()} for tree in (slope, q, both)]
        alone, _ = natural_gradient(0.1).update(part[0], (), part[1])
        close(alone["mean"], part[2]["mean"])
        close(alone["root"], part[2]["root"])


# ---- roots -----------------------------------------------------------------------------------------------------------


def test_the_root_stays_lower_triangular_and_above_it_nothing_counts():
    q, data = draw(5, 3)
    above = np.triu(np.full([3, 3], 0.1), 1)
    filled = {**q, "root": q["root"] + above}
    plain, other = stepped(gaussian_loss, q, data, 0.4), stepped(gaussian_loss, filled, data, 0.4)
    assert (np.triu(plain["root"][0], 1) == 0).all()
    assert (np.triu(other["root"][0], 1) == above).all()
    close(np.tril(other["root"]), plain["root"])
    close(other["mean"], plain["mean"])


def test_a_root_may_have_negative_numbers_on_its_diagonal():
    q, data = draw(6, 3)
    signs = jnp.array([1.0, -1.0, 1.0])
    one, other = (stepped(gaussian_loss, part, data, 0.4) for part in (q, {**q, "root": q["root"] * signs}))
    close(other["mean"], one["mean"])
    close(other["root"], one["root"] * signs)


def test_without_a_gradient_not_a_bit_changes():
    q, data = draw(7, 4, latents=2)
    assert same_bits(stepped(gaussian_loss, q, data, 0.4), q) is False
    nothing = jax.tree.map(jnp.zeros_like, q)
    update, _ = natural_gradient(1.0).update(nothing, (), q)
    assert same_bits(added(q, update), q)


# ---- rates -----------------------------------------------------------------------------------------------------------


def test_a_schedule_gives_the_rate_of_each_step():
    q, data = draw(8, 3)
    wanted, rates = q, [0.1, 0.2, 0.4]
    for rate in rates:
        wanted = stepped(gaussian_loss, wanted, data, rate)
    optimizer = natural_gradient(lambda count: 0.1 * 2**count)
    state = optimizer.init(q)
    for _ in rates:
        update, state = optimizer.update(slopes_of[gaussian_loss](q, *data), state, q)
        q = added(q, update)
    for mine, other in pairs(q, wanted):
        close(mine, other)
    assert state.count == 3


def test_a_schedule_and_a_rate_that_is_an_argument_work_in_fit_and_jit():
    q, data = draw(9, 3)
    wanted = stepped(gaussian_loss, stepped(gaussian_loss, q, data, 0.1), data, 0.2)
    optimizer = natural_gradient(optax.piecewise_constant_schedule(0.1, {1: 2.0}))
    fitted = tr.fit(gaussian_loss, q, tr.all_trainable(q), optimizer, 2, args=data)
    twice = jax.jit(lambda rate: natural_gradient(rate).update(slopes_of[gaussian_loss](q, *data), (), q)[0])
    for mine, other in pairs(fitted.params, wanted):
        close(mine, other)
    for rate in (0.1, 0.3):
        after = optax.apply_updates(q, twice(rate))
        close(after["root"], stepped(gaussian_loss, q, data, rate)["root"])
    injected = optax.inject_hyperparams(natural_gradient)(rate=0.3)
    update, _ = injected.update(slopes_of[gaussian_loss](q, *data), injected.init(q), q)
    close(added(q, update)["root"], stepped(gaussian_loss, q, data, 0.3)["root"])


# ---- beside other optimizers -----------------------------------------------------------------------------------------


def whole_loss(params, a, y, inverse):
    """With a noise variance, a scale and a mean of the observations, beside q."""
    noise, scale = jnp.exp(params["noise"]["log"]), params["prior"]["scale"]
    shifted = y - params["shift"]
    return gaussian_loss(params["deep"]["q"], a, shifted, inverse * scale, noise) + 2.5 * params["noise"]["log"]


def four_parts(seed):
    q, data = draw(seed, 3)
    others = {"noise": {"log": jnp.array(0.5)}, "prior": {"scale": jnp.array(2.0)}, "shift": jnp.array(0.1)}
    return {"deep": {"q": q}, **others}, data


def together():
    """Natural gradients, Adam and nothing at all, each for its part."""
    ways = {"natural": natural_gradient(0.3), "adam": optax.adam(0.1), "fixed": optax.set_to_zero()}
    return optax.partition(ways, {"deep": "natural", "noise": "adam", "prior": "fixed", "shift": "adam"})


def test_one_tree_is_split_between_two_optimizers_and_parts_that_are_fixed_by_a_label_and_by_the_mask():
    params, data = four_parts(10)
    mask = tr.all_trainable(params, but="shift")
    fitted = tr.fit(whole_loss, params, mask, together(), 3, args=data)
    assert tr.moved(params, fitted.params) == tr.all_trainable(params, but=["prior", "shift"])

    adam = optax.adam(0.1)

    @jax.jit
    def one_step(wanted, state):
        slope = jax.grad(whole_loss)(wanted, *data)
        deep, _ = natural_gradient(0.3).update(slope["deep"], (), wanted["deep"])
        noise, state = adam.update(slope["noise"], state)
        both = {"deep": deep, "noise": noise}
        return {**wanted, **optax.apply_updates({name: wanted[name] for name in both}, both)}, state

    wanted, state = params, adam.init(params["noise"])
    for _ in range(3):
        wanted, state = one_step(wanted, state)
    for mine, other in pairs(fitted.params, wanted):
        close(mine, other)


def test_a_distribution_that_is_fixed_is_not_touched():
    params, data = four_parts(11)
    mask = tr.all_fixed(params, but="noise")
    fitted = tr.fit(whole_loss, params, mask, together(), 3, args=data)
    assert tr.moved(params, fitted.params) == mask
    assert natural_gradient(0.1).update({"q": None}, (), {"q": None}) == ({"q": None}, ())


def test_several_nodes_and_a_tree_that_is_a_node():
    one, two = draw(12, 3)[0], draw(13, 3, latents=2)[0]
    slopes = jax.tree.map(lambda leaf: 0.1 * leaf, (one, two))
    both, _ = natural_gradient(0.2).update({"a": slopes[0], "b": [slopes[1]]}, (), {"a": one, "b": [two]})
    for ours, slope, q in ((both["a"], slopes[0], one), (both["b"][0], slopes[1], two)):
        alone, _ = natural_gradient(0.2).update(slope, (), q)
        for mine, other in pairs(ours, alone):
            close(mine, other)


def test_many_starts_at_once():
    starts, data = (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *(draw(seed, 3)[0] for seed in (0, 1))),
        draw(2, 3)[1],
    )
    everything = tr.all_trainable(draw(0, 3)[0])
    run = lambda q: tr.fit(gaussian_loss, q, everything, natural_gradient(1.0), 1, args=data).params  # noqa: E731
    ends = jax.vmap(run)(starts)
    mean, _ = posterior(*map(np.array, data))
    close(ends["mean"][:, :, 0], np.stack([mean, mean]))


# ---- jit and precision -----------------------------------------------------------------------------------------------


def test_a_jitted_step_is_the_eager_one():
    q, data = draw(14, 3)
    optimizer = natural_gradient(0.3)
    step = jax.jit(lambda q: optimizer.update(slopes_of[poisson_loss](q, *data), optimizer.init(q), q)[0])
    for mine, other in pairs(step(q), optimizer.update(slopes_of[poisson_loss](q, *data), (), q)[0]):
        close(mine, other)


def test_a_step_that_leaves_no_covariance_gives_nan_inside_jit():
    q, slope = too_far()
    update, _ = jax.jit(natural_gradient(1.0).update)(slope, (), q)
    assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(update))
    assert np.isfinite(natural_gradient(0.1).update(slope, (), q)[0]["root"]).all()


@pytest.mark.parametrize("rate", [0.3, lambda count: jnp.full((), 0.3, float)], ids=["number", "schedule"])
def test_the_dtype_of_each_array_is_kept(rate):
    q, data = draw(15, 3)
    wanted = stepped(gaussian_loss, q, data, 0.3)
    small, floats = (jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree) for tree in (q, data))
    optimizer = natural_gradient(rate)
    slope = slopes_of[gaussian_loss](small, *floats)
    update, _ = optimizer.update(slope, optimizer.init(small), small)
    assert {leaf.dtype for leaf in jax.tree.leaves(update)} == {np.dtype(np.float32)}
    for mine, other in pairs(optax.apply_updates(small, update), wanted):
        close(mine, other, rtol=1e-5)
    mixed = {"mean": small["mean"], "root": q["root"]}
    update, _ = optimizer.update({**slope, "root": slope["root"].astype(float)}, optimizer.init(mixed), mixed)
    assert (update["mean"].dtype, update["root"].dtype) == (np.float32, np.float64)


# ---- bad input -------------------------------------------------------------------------------------------------------


def too_far():
    """A distribution, and a gradient along which a step with rate 1 leaves no covariance."""
    q = {"mean": jnp.zeros([2, 1]), "root": jnp.eye(2)[None]}
    return q, {"mean": jnp.ones([2, 1]), "root": -2 * jnp.eye(2)[None]}


def started(**changes):
    q, _ = too_far()
    return natural_gradient(0.1).init({"q": {**q, **changes}})


def updated(rate, **changes):
    q, slope = too_far()
    return natural_gradient(rate).update({"q": {**slope, **changes}}, (), {"q": q})


def by_schedule(rate):
    q, slope = too_far()
    return natural_gradient(rate).update(slope, natural_gradient(rate).init(q), q)


def with_the_gradient_of_the_mean_only():
    q, slope = too_far()
    return natural_gradient(0.1).update({"q": {"mean": slope["mean"]}}, (), {"q": q})


def partly_fixed(where):
    params, data = four_parts(0)
    mask = tr.all_trainable(params, but=where)
    return tr.fit(whole_loss, params, mask, together(), 1, args=data)


def on_everything():
    params, data = four_parts(0)
    return tr.fit(whole_loss, params, tr.all_trainable(params), natural_gradient(0.1), 1, args=data)


BOTH = "A natural gradient step moves both: fix both or none."
RATE = "rate must be a positive number or a schedule, not"
ERRORS = {
    "no rate": (lambda: natural_gradient(None), ValueError, f"{RATE} None."),
    "a rate that is zero": (lambda: natural_gradient(0), ValueError, f"{RATE} 0."),
    "a rate that is negative": (lambda: natural_gradient(-0.1), ValueError, f"{RATE} -0.1."),
    "a rate that is infinite": (lambda: natural_gradient(np.inf), ValueError, f"{RATE} inf."),
    "a rate that is NaN": (lambda: natural_gradient(np.nan), ValueError, f"{RATE} nan."),
    "a rate that is a bool": (lambda: natural_gradient(True), ValueError, f"{RATE} True."),
    "a rate for each number": (lambda: natural_gradient((0.1, 0.2)), ValueError, f"{RATE} (0.1, 0.2)."),
    "no parameters": (
        lambda: natural_gradient(0.1).update(too_far()[1], ()),
        ValueError,
        "a natural gradient step needs the parameters: call update(gradient, state, params).",
    ),
    "other parameters": (
        on_everything,
        ValueError,
        "noise/log is not the mean or the root of a normal distribution, so it cannot make a natural gradient step. "
        "Give it another optimizer by optax.partition.",
    ),
    "an array alone": (
        lambda: natural_gradient(0.1).init(jnp.ones(2)),
        ValueError,
        "the parameter is not the mean or the root of a normal distribution",
    ),
    "a root that is missing": (
        lambda: started(root=None),
        ValueError,
        f"q/root does not train, or is not there, but q/mean trains. {BOTH}",
    ),
    "a fixed root": (
        lambda: partly_fixed("deep/q/root"),
        ValueError,
        f"deep/q/root does not train, or is not there, but deep/q/mean trains. {BOTH}",
    ),
    "a fixed mean": (
        lambda: partly_fixed("deep/q/mean"),
        ValueError,
        f"deep/q/mean does not train, or is not there, but deep/q/root trains. {BOTH}",
    ),
    "a mean without its axis": (
        lambda: started(mean=jnp.zeros(2)),
        ValueError,
        "q/mean must have the shape (M, L), not (2,).",
    ),
    "variances in place of a root": (
        lambda: started(root=jnp.ones([2, 1])),
        ValueError,
        "q/root must have the shape (1, 2, 2), since q/mean has the shape (2, 1), but it has (2, 1).",
    ),
    "a root of too few distributions": (
        lambda: started(mean=jnp.zeros([2, 3])),
        ValueError,
        "q/root must have the shape (3, 2, 2), since q/mean has the shape (2, 3), but it has (1, 2, 2).",
    ),
    "integers": (
        lambda: started(mean=jnp.zeros([2, 1], int)),
        TypeError,
        "q/mean must hold real floating point numbers, not int64.",
    ),
    "complex numbers": (
        lambda: started(root=jnp.eye(2)[None] * 1j),
        TypeError,
        "q/root must hold real floating point numbers, not complex128.",
    ),
    "a singular covariance": (
        lambda: started(root=jnp.array([[[1.0, 0.0], [3.0, 0.0]]])),
        ValueError,
        "q/root has a zero on its diagonal, so the covariance is singular and has no natural parameters. Start from "
        "another root, such as the identity matrix.",
    ),
    "a gradient of other parameters": (
        with_the_gradient_of_the_mean_only,
        ValueError,
        "the tree of parameters and the gradient differ in structure",
    ),
    "a gradient that is NaN": (
        lambda: updated(0.1, root=jnp.full([1, 2, 2], np.nan)),
        ValueError,
        "the gradient of q/root has a value that is not finite: the gradient of q/root[0, 0, 0] is nan.",
    ),
    "a gradient of the mean that is infinite": (
        lambda: updated(0.1, mean=jnp.full([2, 1], np.inf)),
        ValueError,
        "the gradient of q/mean has a value that is not finite: the gradient of q/mean[0, 0] is inf.",
    ),
    "a step that is too long": (
        lambda: updated(1.0),
        ValueError,
        "after a step with rate 1, the covariance of q would not be positive definite. Use a smaller rate.",
    ),
    "a step of a schedule that is too long": (
        lambda: by_schedule(lambda count: 0.75),
        ValueError,
        "after a step with rate 0.75, the covariance of the distribution would not be positive definite.",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_errors(case):
    check_error(case)


def test_the_errors_of_the_docstring_are_in_the_list():
    check_every_function_is_asked_for_its_errors(natural, ERRORS)


def test_the_examples_run():
    with jax.enable_x64(False):
        check_examples(natural)
