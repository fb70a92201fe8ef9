"""The package's likelihoods, against scipy's densities and sums over a fine grid; every error, every example.

tests/mutants/trainability/likelihoods.toml breaks the module on purpose; this file must turn red each time.
"""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from package_checks import (
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
)
from trainability import likelihoods
from trainability.likelihoods import (
    Bernoulli,
    Gaussian,
    Heteroskedastic,
    Poisson,
    RobustMax,
    Softmax,
    StudentT,
    log_quadrature,
    quadrature,
)

# One program for each, because outside of jax.jit every operation would be compiled by itself.
bernoulli, gaussian, heteroskedastic, poisson, robust_max, softmax, student_t = map(
    jax.jit,
    (
        likelihoods.bernoulli,
        likelihoods.gaussian,
        likelihoods.heteroskedastic,
        likelihoods.poisson,
        likelihoods.robust_max,
        likelihoods.softmax,
        likelihoods.student_t,
    ),
)


@pytest.fixture(autouse=True, scope="module")
def sixty_four_bits():
    with jax.enable_x64(True):
        yield


def close(ours, others, rtol=1e-12):
    np.testing.assert_allclose(ours, others, rtol=rtol, atol=rtol * np.max(np.abs(others), initial=0))


# ---- averages over a normal distribution -----------------------------------------------------------------------------


DEGREES = np.arange(20)
powers = jax.jit(lambda mean, variance: quadrature(lambda f: f**DEGREES, jnp.full(20, mean), variance))


def moment(degree, mean, variance):
    """The expectation of a power of a normal number, by the binomial formula."""
    of_standard = [np.prod(np.arange(k - 1.0, 0, -2)) if k % 2 == 0 else 0 for k in range(degree + 1)]
    terms = (scipy.special.comb(degree, k) * mean ** (degree - k) * variance ** (k / 2) for k in range(degree + 1))
    return sum(term * standard for term, standard in zip(terms, of_standard, strict=True))


@examples
@given(st.floats(-2, 2), st.floats(0, 4))
def test_quadrature_is_exact_for_polynomials(mean, variance):
    found = powers(mean, variance)
    size = abs(mean) + np.sqrt(variance) + 1
    for degree in DEGREES:  # rounding, relative to the terms, which may cancel
        assert abs(found[degree] - moment(degree, mean, variance)) < 1e-12 * moment(degree, size, size**2)


@pytest.mark.parametrize("points", [1, 2, 5])
def test_how_many_points_decides_which_degree_is_exact(points):
    degree = 2 * points
    exact = moment(degree, 0.0, 1.0)
    assert abs(quadrature(lambda f: f**degree, 0.0, 1.0, points) - exact) > 0.5
    close(quadrature(lambda f: f**degree, 0.0, 1.0, points + 1), exact)


def test_quadrature_against_closed_forms():
    mean, variance = np.linspace(-1, 1, 6).reshape(2, 3), np.linspace(0, 2, 6).reshape(2, 3)
    close(quadrature(jnp.exp, mean, variance), np.exp(mean + variance / 2))
    close(quadrature(jnp.sin, mean, variance), np.sin(mean) * np.exp(-variance / 2))
    close(quadrature(jnp.sin, mean, 2.0), np.sin(mean) * np.exp(-1))  # shapes that broadcast
    close(log_quadrature(lambda f: 2 * f, mean, variance), 2 * mean + 2 * variance)
    close(log_quadrature(lambda f: 2 * f - 5000, mean, variance), 2 * mean + 2 * variance - 5000)


def test_the_function_is_called_once_with_all_places():
    shapes = []
    quadrature(lambda f: shapes.append(f.shape) or f, np.zeros([3, 2]), np.ones([3, 2]), points=7)
    assert shapes == [(7, 3, 2)]


def test_the_gradients_of_quadrature():
    """The derivative by the variance is half the expectation of the second derivative (Price's theorem)."""
    by_both = jax.grad(lambda mean, variance: quadrature(jnp.sin, mean, variance), (0, 1))
    close(by_both(0.3, 0.5), (np.cos(0.3) * np.exp(-0.25), -0.5 * np.sin(0.3) * np.exp(-0.25)))
    close(by_both(0.3, 0.0), (np.cos(0.3), 0.0))  # finite where the standard deviation has no derivative


# ---- log densities ---------------------------------------------------------------------------------------------------

F = np.array([-2.5, -0.3, 0.0, 0.7, 3.0])
CLASSES = np.array([[0.5, -1.0, 2.0], [3.0, 2.9, -4.0], [0.0, 0.1, 0.2], [-9.0, 9.0, 0.0], [1.0, 0.0, 0.5]])
Y = np.array([0.3, -1.0, 2.0, 0.7, 2.5])
LABELS = np.array([0, 1, 2, 1, 0])
COUNTS = np.array([0, 1, 2, 7, 3])
EXPOSURE = np.array([0.5, 1.0, 2.0, 3.0, 0.1])


def test_the_densities_are_those_of_scipy():
    close(gaussian(F, Y, 0.3), scipy.stats.norm.logpdf(Y, F, np.sqrt(0.3)))
    close(student_t(F, Y, 0.4, 2.5), scipy.stats.t.logpdf(Y, 2.5, F, 0.4))
    close(poisson(F, COUNTS, EXPOSURE), scipy.stats.poisson.logpmf(COUNTS, EXPOSURE * np.exp(F)))
    close(poisson(F, COUNTS), scipy.stats.poisson.logpmf(COUNTS, np.exp(F)))
    squeezed = 0.001 + 0.998 * scipy.stats.norm.cdf(F)
    for y in (LABELS == 1, (LABELS == 1).astype(int), (LABELS == 1).astype(float)):
        close(bernoulli(F, y), scipy.stats.bernoulli.logpmf(LABELS == 1, squeezed))
    close(softmax(CLASSES, LABELS), scipy.special.log_softmax(CLASSES, axis=1)[np.arange(5), LABELS])
    hit = CLASSES.argmax(axis=1) == LABELS
    assert hit.any() and not hit.all()
    close(robust_max(CLASSES, LABELS, 0.02), np.where(hit, np.log(0.98), np.log(0.01)))
    close(heteroskedastic(CLASSES[:, :2], Y), scipy.stats.norm.logpdf(Y, CLASSES[:, 0], np.exp(CLASSES[:, 1])))


@jax.jit
def totals(f):
    numbers = np.arange(100)
    logs = (
        bernoulli(f[0], numbers[:2]),
        softmax(f, numbers[:3]),
        robust_max(f, numbers[:3], 0.3),
        poisson(f[0], numbers),
    )
    return jnp.array([jnp.exp(log).sum() for log in logs])


@examples
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_probabilities_sum_to_one(f):
    close(totals(np.array(f)), np.ones(4))


GRID = np.linspace(-20, 20, 40_001)


@pytest.mark.parametrize("first", [-1.0, 0.3])
def test_densities_integrate_to_one(first):
    close(np.trapezoid(np.exp(gaussian(first, GRID, 0.7)), GRID), 1)
    close(np.trapezoid(np.exp(heteroskedastic(jnp.array([first, 0.2]), GRID)), GRID), 1)
    # The tails of ten degrees of freedom beyond 20 hold less than 1e-8.
    close(np.trapezoid(np.exp(student_t(first, GRID, 0.5, 10.0)), GRID), 1, rtol=1e-8)


def test_what_is_impossible_has_no_probability():
    """As in scipy: scipy.stats.bernoulli.logpmf(2, 0.5) is -inf."""
    f = jnp.array([0.5, 2.0, 1.0])
    assert bernoulli(0.0, np.array([2.0, 0.5, -1.0])).tolist() == [-np.inf] * 3
    assert poisson(0.0, np.array([-1.0, 0.5, -3.0])).tolist() == [-np.inf] * 3
    assert softmax(f, np.array([3, -1])).tolist() == [-np.inf] * 2
    assert robust_max(f, np.array([3, -1]), 0.1).tolist() == [-np.inf] * 2


def test_limits_of_the_densities():
    close(student_t(F, Y, 0.5, 1e9), gaussian(F, Y, 0.25), rtol=1e-6)  # many degrees of freedom: normal
    close(heteroskedastic(np.stack([F, np.full(5, np.log(0.5))], axis=1), Y), gaussian(F, Y, 0.25))
    two = np.stack([F, np.zeros(5)], axis=1)
    close(softmax(two, np.zeros(5, int)), scipy.special.log_expit(F))  # two classes: the logistic function
    close(bernoulli([-99.0, 99.0], [1, 0]), [np.log(0.001)] * 2)  # the most that a wrong label costs
    close(robust_max(CLASSES, LABELS, 2 / 3), np.full(5, np.log(1 / 3)))  # two labels of three wrong: no information
    assert abs(softmax(jnp.array([-5000.0, 0.0]), jnp.array(0)) + 5000) < 1e-9  # no underflow


def test_the_dtype_is_what_the_arguments_promote_to():
    single = F.astype(np.float32)
    dtype = lambda function, *arguments: jax.eval_shape(function, *arguments).dtype  # noqa: E731
    assert dtype(gaussian, single, single, np.float32(1)) == np.float32
    assert dtype(bernoulli, single, LABELS == 1) == dtype(poisson, single, COUNTS) == np.float32
    assert dtype(gaussian, single, Y, 1.0) == dtype(gaussian, 0, 1, 1) == np.float64
    assert dtype(lambda mean: quadrature(jnp.sin, mean, np.float32(1)), single) == np.float32


# ---- the containers: settings of each --------------------------------------------------------------------------------

random = np.random.default_rng(0)
MEAN = random.normal(size=(5, 3))
VARIANCE = random.uniform(0.05, 0.6, (5, 3))
DRAWS = random.normal(size=(400, 5, 3))

# {name: (the likelihood, its observations, what else it takes)}
SETTINGS = {
    "Gaussian": (Gaussian(0.3), Y, {}),
    "Bernoulli": (Bernoulli(), LABELS == 1, {}),
    "Softmax": (Softmax(3), LABELS, {"draws": DRAWS}),
    "RobustMax": (RobustMax(3, 0.02), LABELS, {}),
    "Poisson": (Poisson(), COUNTS, {"exposure": EXPOSURE}),
    "StudentT": (StudentT(0.8, 4.0), Y, {}),
    "Heteroskedastic": (Heteroskedastic(), Y, {}),
}
ALL = pytest.mark.parametrize("name", SETTINGS)


PARAMS = {
    **{name: {} for name in SETTINGS},
    "Gaussian": {"variance": 0.3},
    "RobustMax": {"epsilon": 0.02},
    "StudentT": {"scale": 0.8},
}


def params_of(likelihood, y, data):
    columns = likelihood.latents
    start = jax.jit(lambda: likelihood.init(jax.random.key(0), MEAN[:, :columns], VARIANCE[:, :columns], y, **data))
    return start().get("params", {})


def moments(name):
    columns = SETTINGS[name][0].latents
    return MEAN[:, :columns], VARIANCE[:, :columns]


def run(name, method, *arguments, mean=None, variance=None, params=None, **others):
    """A method of a likelihood with its settings."""
    first, second = moments(name)
    mean, variance = first if mean is None else mean, second if variance is None else variance
    variables = {"params": PARAMS[name] if params is None else params}
    return program(name, method)(variables, mean, variance, *arguments, **{**SETTINGS[name][2], **others})


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def apply(likelihood, params, *arguments, method="__call__", **others):
    return likelihood.apply({"params": params}, *arguments, method=method, **others)


@functools.cache
def program(name, method):
    return jax.jit(functools.partial(SETTINGS[name][0].apply, method=method))


def expected(name, y=None, **others):
    return run(name, "__call__", SETTINGS[name][1] if y is None else y, **others)


def log_density(name, y=None, **others):
    return run(name, "log_density", SETTINGS[name][1] if y is None else y, **others)


def predict(name, **others):
    return run(name, "predict", **others)


# ---- the containers: against a fine grid -----------------------------------------------------------------------------

Z = np.linspace(-9, 9, 1201)
MASS = scipy.stats.norm.pdf(Z) * (Z[1] - Z[0])

# What scipy says of an observation, given the functions f of shape (…, L): its log density, and its distribution.
GIVEN = {
    "Gaussian": lambda f, n: scipy.stats.norm(f[..., 0], np.sqrt(0.3)),
    "Bernoulli": lambda f, n: scipy.stats.bernoulli(0.001 + 0.998 * scipy.stats.norm.cdf(f[..., 0])),
    "Poisson": lambda f, n: scipy.stats.poisson(EXPOSURE[n] * np.exp(f[..., 0])),
    "StudentT": lambda f, n: scipy.stats.t(4.0, f[..., 0], 0.8),
    "Heteroskedastic": lambda f, n: scipy.stats.norm(f[..., 0], np.exp(f[..., 1])),
}
# Twenty points are not exact for these; GPflow has the same error.
RTOL = {"StudentT": 2e-4, "Bernoulli": 1e-7, "Heteroskedastic": 3e-3, "Poisson": 1e-6, "Gaussian": 1e-10}


def on_the_grid(name, n):
    """The distribution of observation n given each f of a grid, and the mass of each f."""
    mean, variance = (part[n] for part in moments(name))
    axes = np.meshgrid(*[Z[::2]] * 2, indexing="ij") if len(mean) == 2 else [Z]
    mass = np.multiply.outer(MASS[::2] * 2, MASS[::2] * 2) if len(mean) == 2 else MASS
    f = np.stack([m + np.sqrt(v) * z for m, v, z in zip(mean, variance, axes, strict=True)], axis=-1)
    return GIVEN[name](f, n), mass


@pytest.mark.parametrize("name", GIVEN)
def test_the_three_methods_are_averages_over_the_functions(name):
    y = np.asarray(SETTINGS[name][1])
    ours = np.array(expected(name)), np.array(log_density(name)), *map(np.array, predict(name))
    discrete = name in ("Bernoulli", "Poisson")
    for n in range(5):
        given, mass = on_the_grid(name, n)
        log = given.logpmf(y[n]) if discrete else given.logpdf(y[n])
        mean = (given.mean() * mass).sum()
        variance = ((given.var() + given.mean() ** 2) * mass).sum() - mean**2
        theirs = (log * mass).sum(), np.log((np.exp(log) * mass).sum()), mean, variance
        exact = [name not in ("Bernoulli", "StudentT"), name in ("Gaussian", "Bernoulli"), True, True]
        for mine, other, is_exact in zip(ours, theirs, exact, strict=True):
            np.testing.assert_allclose(mine[n], other, rtol=1e-9 if is_exact else RTOL[name])


def test_robust_max_with_two_classes_has_a_closed_form():
    """The first of two functions is the larger with the probability Φ of the scaled difference of their means."""
    likelihood, y = RobustMax(2, 0.02), LABELS % 2
    mean, variance = MEAN[:, :2], VARIANCE[:, :2]
    params = {"epsilon": 0.02}
    largest = scipy.stats.norm.cdf((mean[:, 0] - mean[:, 1]) / np.sqrt(variance.sum(axis=1)))
    largest = np.where(y == 0, largest, 1 - largest)
    call = lambda method: apply(likelihood, params, mean, variance, y, method=method)  # noqa: E731
    # The squeeze of the factors changes a probability by 1e-6, the quadrature by less than 1e-4.
    np.testing.assert_allclose(call("__call__"), largest * np.log(0.98) + (1 - largest) * np.log(0.02), atol=1e-3)
    np.testing.assert_allclose(call("log_density"), np.log(largest * 0.98 + (1 - largest) * 0.02), atol=1e-3)


def largest_by_sampling(seed, count=200_000):
    f = MEAN + np.sqrt(VARIANCE) * np.random.default_rng(seed).normal(size=(count, 5, 3))
    return f.argmax(axis=2)


def test_robust_max_with_three_classes_against_samples():
    largest = (largest_by_sampling(0)[..., None] == np.arange(3)).mean(axis=0)  # (N, C)
    error = 5 * np.sqrt(largest * (1 - largest) / 200_000) + 1e-3
    assert (np.abs(predict("RobustMax")[0] - (largest * 0.98 + (1 - largest) * 0.01)) < error).all()
    of_y = largest[np.arange(5), LABELS]
    error = error[np.arange(5), LABELS] * np.log(98)
    assert (np.abs(expected("RobustMax") - (of_y * np.log(0.98) + (1 - of_y) * np.log(0.01))) < error).all()


def test_robust_max_has_the_squeeze_and_the_least_variance_of_gpflow():
    """Without any doubt about the functions, a factor of a function that is larger is the squeeze, not 0."""
    params, mean, none = {"epsilon": 0.02}, np.array([[-9.0, 9.0, 0.0]]), np.zeros([1, 3])
    for y, largest in ((0, 1e-12), (1, (1 - 1e-6) ** 2), (2, 1e-6 * (1 - 1e-6))):
        value = apply(RobustMax(3), params, mean, none, np.array([y]), method="log_density")
        close(np.exp(value), [largest * 0.98 + (1 - largest) * 0.01])
    # Functions that are equal: the smallest variance, 1e-10, decides.
    equal = apply(RobustMax(2), params, np.zeros([1, 2]), np.zeros([1, 2]), method="predict")[0]
    np.testing.assert_allclose(equal, 0.5, atol=0.01)
    # Apart by 1e-5, with variances of 0.5e-10 for the one that is chosen and 1e-10 for the other.
    apart = apply(RobustMax(2), params, np.array([[1e-5, 0.0]]), np.zeros([1, 2]), method="predict")[0][0, 0]
    largest = scipy.stats.norm.cdf(1 / np.sqrt(1.5))
    np.testing.assert_allclose(apart, largest * 0.98 + (1 - largest) * 0.02, atol=0.01)


# ---- the containers: what holds for each -----------------------------------------------------------------------------


@ALL
def test_the_expected_log_density_is_at_most_the_log_of_the_expected_density(name):
    """Jensen's inequality; with doubt about the functions it is strict."""
    assert (expected(name) < log_density(name) - 1e-4).all()


@examples
@given(st.integers(0, 1000), st.sampled_from(sorted(SETTINGS)))
def test_jensen_at_random_settings(seed, name):
    rng = np.random.default_rng(seed)
    shape = moments(name)[0].shape
    others = {"mean": 2 * rng.normal(size=shape), "variance": rng.uniform(0, 3, shape)}
    assert (JITTED[name](others) <= 1e-9).all()


def gap(name):
    """Jensen's inequality, as one program for each likelihood."""
    y = np.asarray(SETTINGS[name][1])
    return jax.jit(lambda others: expected(name, y, **others) - log_density(name, y, **others))


JITTED = {name: gap(name) for name in SETTINGS}


@ALL
def test_without_doubt_about_the_functions_all_is_the_density_at_the_mean(name):
    mean, variance = moments(name)
    if name == "RobustMax":  # it has a smallest variance, and its density jumps
        mean = np.where(CLASSES[:, 1:2] == CLASSES, 5.0, mean)
    f = mean if mean.shape[1] > 1 else mean[:, 0]
    density = {
        "Gaussian": lambda: gaussian(f, Y, 0.3),
        "Bernoulli": lambda: bernoulli(f, LABELS == 1),
        "Softmax": lambda: softmax(f, LABELS),
        "RobustMax": lambda: robust_max(f, LABELS, 0.02),
        "Poisson": lambda: poisson(f, COUNTS, EXPOSURE),
        "StudentT": lambda: student_t(f, Y, 0.8, 4.0),
        "Heteroskedastic": lambda: heteroskedastic(f, Y),
    }[name]()
    rtol = 1e-4 if name == "RobustMax" else 1e-12
    for method in (expected, log_density):
        close(method(name, mean=mean, variance=np.zeros_like(variance)), density, rtol=rtol)


@pytest.mark.parametrize("name", ["Bernoulli", "Softmax", "RobustMax"])
def test_the_probabilities_are_the_log_densities_and_sum_to_one(name):
    mean, variance = predict(name)
    classes = [np.full(5, label) for label in range(2 if name == "Bernoulli" else 3)]
    by_label = np.stack([np.exp(log_density(name, y)) for y in classes], axis=1)
    # Of robust-max, the three probabilities of being the largest are quadratures of their own.
    close(by_label.sum(axis=1), np.ones(5), rtol=1e-3 if name == "RobustMax" else 1e-12)
    close(mean, by_label[:, 1] if name == "Bernoulli" else by_label)
    close(variance, mean * (1 - mean))


def test_predictive_densities_of_numbers_integrate_to_one():
    grid = np.linspace(-60, 60, 4001)
    for name, rtol in (("Gaussian", 1e-10), ("StudentT", 1e-5), ("Heteroskedastic", 1e-6)):
        mean, variance = (np.broadcast_to(part[:1], (len(grid), part.shape[1])) for part in moments(name))
        density = np.exp(log_density(name, grid, mean=mean, variance=variance))
        close(np.trapezoid(density, grid), 1, rtol=rtol)
    mean, variance = (np.broadcast_to(part[:1], (200, 1)) for part in moments("Poisson"))
    probabilities = np.exp(
        log_density("Poisson", np.arange(200), mean=mean, variance=variance, exposure=np.full(200, 2.0))
    )
    close(probabilities.sum(), 1)


@ALL
def test_the_gradients_are_those_of_finite_differences(name):
    """For the mean, the variance and each parameter."""
    y = np.asarray(SETTINGS[name][1])
    mean, variance = moments(name)
    start = {"params": PARAMS[name], "mean": mean, "variance": variance}
    total = jax.jit(lambda others: expected(name, y, **others).sum())
    slopes = jax.jit(jax.grad(total))(start)
    rng = np.random.default_rng(0)
    step = 1e-5
    way = jax.tree.map(lambda leaf: rng.uniform(0.5, 1, np.shape(leaf)), start)
    for part in start:
        along = jax.tree.map(lambda leaf: 0 * leaf, way) | {part: way[part]}
        ends = [total(jax.tree.map(lambda at, by, s=sign: at + s * step * by, start, along)) for sign in (1, -1)]
        inner = sum(jax.tree.leaves(jax.tree.map(lambda slope, by: (slope * by).sum(), slopes, along)))
        np.testing.assert_allclose(inner, (ends[0] - ends[1]) / (2 * step), rtol=1e-5)
        assert abs(inner) > 1e-3 or not jax.tree.leaves(start[part])


@ALL
def test_each_observation_is_on_its_own(name):
    y, data = np.asarray(SETTINGS[name][1]), SETTINGS[name][2]
    mean, variance = moments(name)
    for method, observed in (("__call__", (y,)), ("log_density", (y,)), ("predict", ())):
        whole = run(name, method, *observed)
        turned = {key: array[..., ::-1, :] if key == "draws" else array[::-1] for key, array in data.items()}
        backwards = run(
            name, method, *(array[::-1] for array in observed), mean=mean[::-1], variance=variance[::-1], **turned
        )
        for one, two in zip(*map(jax.tree.leaves, (whole, backwards)), strict=True):
            assert one.shape == ((5, 3) if method == "predict" and name in ("Softmax", "RobustMax") else (5,))
            assert one.dtype == np.float64
            close(one[::-1], two)


def test_data_and_parameters_that_a_jitted_function_closes_over():
    """They have values, and are checked; a bad value raises an error even there."""
    mean, variance, y = map(jnp.asarray, (MEAN[:, :1], VARIANCE[:, :1], Y))
    good, bad = {"params": {"scale": jnp.array(0.8)}}, {"params": {"scale": jnp.array(-0.8)}}
    assert jax.jit(lambda: StudentT().apply(good, mean, variance, y))().shape == (5,)
    with pytest.raises(ValueError, match="scale of StudentT must be positive"):
        jax.jit(lambda: StudentT().apply(bad, mean, variance, y))()
    labels, signs = jnp.asarray(LABELS % 2), jnp.asarray(2 * (LABELS % 2) - 1)
    assert jax.jit(lambda: Bernoulli().apply({}, mean, variance, labels))().shape == (5,)
    with pytest.raises(ValueError, match="y must hold 0 or 1, but y\\[0\\] is -1"):
        jax.jit(lambda: Bernoulli().apply({}, mean, variance, signs))()


def test_the_parameters_and_their_names():
    found = {name: params_of(*settings) for name, settings in SETTINGS.items()}
    assert jax.tree.map(float, found) == PARAMS
    assert {(leaf.dtype, leaf.shape) for leaf in jax.tree.leaves(found)} == {(np.dtype(np.float64), ())}
    defaults = {"Gaussian": Gaussian(), "RobustMax": RobustMax(3), "StudentT": StudentT()}
    started = {name: params_of(likelihood, *SETTINGS[name][1:]) for name, likelihood in defaults.items()}
    assert jax.tree.map(float, started) == {
        "Gaussian": {"variance": 1.0},
        "RobustMax": {"epsilon": 1e-3},
        "StudentT": {"scale": 1.0},
    }
    assert StudentT().degrees_of_freedom == 3
    assert {name: settings[0].latents for name, settings in SETTINGS.items()} == {
        **dict.fromkeys(("Gaussian", "Bernoulli", "Poisson", "StudentT"), 1),
        **dict.fromkeys(("Softmax", "RobustMax"), 3),
        "Heteroskedastic": 2,
    }


def test_changed_parameters_take_effect():
    close(
        expected("Gaussian", params={"variance": 2.0}),
        gaussian(MEAN[:, 0], Y, 2.0) - VARIANCE[:, 0] / 4,
    )
    close(predict("StudentT", params={"scale": 3.0})[1], VARIANCE[:, 0] + 18)
    close(predict("RobustMax", params={"epsilon": 2 / 3})[0], np.full([5, 3], 1 / 3))


# ---- what is data ----------------------------------------------------------------------------------------------------


def test_exposure_is_data():
    """Twice the exposure is the same as log 2 more in the function."""
    double = {"exposure": 2 * EXPOSURE}
    higher = {"mean": MEAN[:, :1] + np.log(2)}
    close(expected("Poisson", **double), expected("Poisson", **higher))
    close(log_density("Poisson", **double), log_density("Poisson", **higher))
    for one, two in zip(predict("Poisson", **double), predict("Poisson", **higher), strict=True):
        close(one, two)
    close(predict("Poisson", exposure=None)[0], predict("Poisson", exposure=np.ones(5))[0])
    close(expected("Poisson", exposure=None), expected("Poisson", exposure=np.ones(5)))
    assert not np.allclose(expected("Poisson"), expected("Poisson", exposure=None))


@functools.partial(jax.jit, static_argnums=(0, 1))
def softmax_by_keys(samples, count):
    """Many averages over draws, of the expected log density and of the log predictive density, of two classes."""
    likelihood, y = Softmax(2, samples=samples), np.zeros(5, int)

    def both(key):
        call = functools.partial(likelihood.apply, {}, MEAN[:, :2], VARIANCE[:, :2], y, key=key)
        return call(), call(method="log_density")

    return jax.lax.map(both, jax.random.split(jax.random.key(0), count))


def test_the_draws_of_softmax_average_to_the_expectation():
    """Of two classes only the difference of the functions counts, so that quadrature has the answer."""
    mean, variance = MEAN[:, 0] - MEAN[:, 1], VARIANCE[:, :2].sum(axis=1)
    exact = quadrature(jax.nn.log_sigmoid, mean, variance), log_quadrature(jax.nn.log_sigmoid, mean, variance)
    for found, wanted in zip(softmax_by_keys(100, 400), exact, strict=True):
        error = np.std(found, axis=0) / np.sqrt(400)
        # The log of an average is biased, by half the variance of the average over its square: here below 2e-4.
        assert (np.abs(np.mean(found, axis=0) - wanted) < 4 * error + 2e-4).all()
        assert (error > 1e-4).all() and (error < 5e-3).all()


def test_the_error_of_softmax_falls_with_the_samples():
    few, many = (np.std(softmax_by_keys(samples, 400)[0], axis=0) for samples in (25, 100))
    np.testing.assert_allclose(few / many, 2, rtol=0.2)  # 400 numbers give a standard deviation to 4 per cent


def test_the_same_key_gives_the_same_draws():
    likelihood, key = Softmax(3, samples=7), jax.random.key(3)
    call = lambda **how: apply(likelihood, {}, MEAN, VARIANCE, LABELS, **how)  # noqa: E731
    assert np.array_equal(call(key=key), call(key=jax.random.key(3)))
    assert not np.allclose(call(key=key), call(key=jax.random.key(4)))
    draws = jax.random.normal(key, (7, 5, 3))
    close(call(key=key), call(draws=draws))
    f = MEAN + np.sqrt(VARIANCE) * np.asarray(draws)
    close(call(key=key), np.mean([softmax(one, LABELS) for one in f], axis=0))
    probabilities = apply(likelihood, {}, MEAN, VARIANCE, key=key, method="predict")[0]
    close(probabilities, scipy.special.softmax(f, axis=2).mean(axis=0))
    assert Softmax(3).samples == 100


def test_inside_jit_what_is_impossible_has_no_probability():
    for name, y in (("Bernoulli", 2), ("Softmax", 3), ("RobustMax", -1), ("Poisson", -1)):
        changed = np.asarray(SETTINGS[name][1]).astype(int)
        changed[1] = y
        for method in (expected, log_density):
            values = jax.jit(lambda y, m=method, n=name: m(n, y))(changed)
            assert np.isinf(values).tolist() == [False, True, False, False, False] and values[1] < 0


# ---- bad input -------------------------------------------------------------------------------------------------------


def changed(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


def eager(method, *arguments, **others):
    with jax.disable_jit():
        return method(*arguments, **others)


ERRORS = {
    "no points": (lambda: quadrature(jnp.sin, 0.0, 1.0, 0), ValueError, "points must be a positive integer, not 0."),
    "a negative variance": (
        lambda: quadrature(jnp.sin, [0.0, 0.0], [1.0, -0.5]),
        ValueError,
        "variance holds variances of the latent functions, but its smallest value is -0.5.",
    ),
    "a mean that is NaN": (
        lambda: log_quadrature(jnp.sin, [0.0, np.nan], [1.0, 1.0]),
        ValueError,
        "mean has a value that is not finite: mean[1] is nan.",
    ),
    "classes that are floats": (
        lambda: softmax(CLASSES, LABELS.astype(float)),
        TypeError,
        "y must hold the numbers of classes as integers, not as float64. Pass y.astype(int).",
    ),
    "classes that are booleans": (
        lambda: robust_max(CLASSES, LABELS == 1, 0.1),
        TypeError,
        "y must hold the numbers of classes as integers, not as bool.",
    ),
    "moments without columns": (
        lambda: eager(expected, "Gaussian", mean=MEAN[:, 0]),
        ValueError,
        "mean must have the shape (N, 1), one column for each latent function of Gaussian, not (5,). Pass "
        "mean[:, None].",
    ),
    "moments of too few functions": (
        lambda: eager(expected, "RobustMax", mean=MEAN[:, :2]),
        ValueError,
        "mean must have the shape (N, 3), one column for each latent function of RobustMax, not (5, 2).",
    ),
    "a variance without columns": (
        lambda: eager(predict, "Heteroskedastic", variance=VARIANCE[:, 0]),
        ValueError,
        "variance must have the shape (N, 2), one column for each latent function of Heteroskedastic, not (5,).",
    ),
    "a variance for other points": (
        lambda: eager(log_density, "Poisson", variance=VARIANCE[:3, :1]),
        ValueError,
        "mean has the shape (5, 1), but variance has (3, 1).",
    ),
    "a variance that is negative": (
        lambda: eager(expected, "Gaussian", variance=changed(VARIANCE[:, :1], 2, -0.1)),
        ValueError,
        "variance holds variances of the latent functions, but its smallest value is -0.1.",
    ),
    "a mean that is infinite": (
        lambda: eager(predict, "StudentT", mean=changed(MEAN[:, :1], 2, np.inf)),
        ValueError,
        "mean has a value that is not finite: mean[2, 0] is inf.",
    ),
    "y as in GPflow": (
        lambda: eager(expected, "Gaussian", Y[:, None]),
        ValueError,
        "y must have the shape (N,), a number for each row of mean, not (5, 1). Pass y[:, 0].",
    ),
    "too few observations": (
        lambda: eager(log_density, "Heteroskedastic", Y[:3]),
        ValueError,
        "y has 3 numbers, but mean has 5 rows.",
    ),
    "an observation that is NaN": (
        lambda: eager(expected, "StudentT", changed(Y, 3, np.nan)),
        ValueError,
        "y has a value that is not finite: y[3] is nan.",
    ),
    "labels of -1 and 1": (
        lambda: eager(expected, "Bernoulli", np.where(LABELS == 1, 1, -1)),
        ValueError,
        "y must hold 0 or 1, but y[0] is -1.",
    ),
    "classes from 1": (
        lambda: eager(expected, "RobustMax", LABELS + 1),
        ValueError,
        "y must hold integers from 0 to 2, but y[2] is 3.",
    ),
    "a class below 0": (
        lambda: eager(log_density, "Softmax", LABELS - 1),
        ValueError,
        "y must hold integers from 0 to 2, but y[0] is -1.",
    ),
    "labels that are floats": (
        lambda: eager(log_density, "RobustMax", LABELS.astype(float)),
        TypeError,
        "y must hold the numbers of classes as integers, not as float64.",
    ),
    "a count that is negative": (
        lambda: eager(expected, "Poisson", COUNTS - 1),
        ValueError,
        "y must hold counts, whole numbers from 0, but y[0] is -1.0.",
    ),
    "a count that is not whole": (
        lambda: eager(log_density, "Poisson", changed(COUNTS.astype(float), 3, 0.5)),
        ValueError,
        "y must hold counts, whole numbers from 0, but y[3] is 0.5.",
    ),
    "an exposure of 0": (
        lambda: eager(expected, "Poisson", exposure=changed(EXPOSURE, 1, 0.0)),
        ValueError,
        "exposure must hold positive numbers, but exposure[1] is 0.0.",
    ),
    "one exposure for all": (
        lambda: eager(predict, "Poisson", exposure=2.0),
        ValueError,
        "exposure must have the shape (N,), a number for each row of mean, not ().",
    ),
    "no draws": (
        lambda: eager(expected, "Softmax", draws=None),
        ValueError,
        "Softmax averages over random draws. Pass either key=, a key of jax.random, or draws=, standard normal numbers "
        "of shape (S, 5, 3).",
    ),
    "draws and a key": (
        lambda: eager(predict, "Softmax", key=jax.random.key(0)),
        ValueError,
        "Softmax averages over random draws. Pass either key=",
    ),
    "draws for other points": (
        lambda: eager(predict, "Softmax", draws=DRAWS[:, :2]),
        ValueError,
        "draws must have the shape (S, 5, 3), not (400, 2, 3).",
    ),
    "no draw": (
        lambda: eager(log_density, "Softmax", draws=DRAWS[:0]),
        ValueError,
        "draws must have the shape (S, 5, 3), not (0, 5, 3).",
    ),
    "draws that are NaN": (
        lambda: eager(expected, "Softmax", draws=np.full_like(DRAWS, np.nan)),
        ValueError,
        "draws has a value that is not finite: draws[0, 0, 0] is nan.",
    ),
    "no samples": (
        lambda: Softmax(3, samples=0).apply({}, MEAN, VARIANCE, LABELS, key=jax.random.key(0)),
        ValueError,
        "samples must be a positive integer, not 0.",
    ),
    "one class": (
        lambda: Softmax(1).apply({}, MEAN[:, :1], VARIANCE[:, :1], 0 * LABELS, key=jax.random.key(0)),
        ValueError,
        "classes must be at least 2, not 1.",
    ),
    "classes that are no number": (
        lambda: RobustMax("Adelie").apply({}, MEAN, VARIANCE, LABELS),
        ValueError,
        "classes must be a positive integer, not 'Adelie'.",
    ),
    "an epsilon above 1": (
        lambda: eager(expected, "RobustMax", params={"epsilon": 1.5}),
        ValueError,
        "epsilon of RobustMax must be between 0 and 1, not 1.5. If it trains, give it a transform.",
    ),
    "a negative variance of the noise": (
        lambda: eager(log_density, "Gaussian", params={"variance": -1.0}),
        ValueError,
        "variance of Gaussian must be positive, not -1.0. If it trains, give it a transform.",
    ),
    "a scale that is NaN": (
        lambda: eager(predict, "StudentT", params={"scale": np.nan}),
        ValueError,
        "scale of StudentT must be positive, not nan.",
    ),
    "a start of 0": (
        lambda: Gaussian(0.0).init(jax.random.key(0), MEAN[:, :1], VARIANCE[:, :1], Y),
        ValueError,
        "variance of Gaussian must be positive, not 0.0.",
    ),
    "no degrees of freedom": (
        lambda: StudentT(1.0, 0.0).init(jax.random.key(0), MEAN[:, :1], VARIANCE[:, :1], Y),
        ValueError,
        "degrees_of_freedom of StudentT must be positive, not 0.0.",
    ),
    "a distribution without a variance": (
        lambda: StudentT(1.0, 1.5).apply({"params": {"scale": 1.0}}, MEAN[:, :1], VARIANCE[:, :1], method="predict"),
        ValueError,
        "with 1.5 degrees of freedom a Student-t distribution has no variance. Use log_density, or predict the "
        "function.",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_an_error_says_what_is_wrong(case):
    check_error(case)


def test_every_function_with_an_error_is_asked_for_it():
    check_every_function_is_asked_for_its_errors(likelihoods, ERRORS)


def test_every_container_is_asked_for_an_error():
    source = inspect.getsource(inspect.getmodule(test_every_container_is_asked_for_an_error))
    cases = source[source.index("ERRORS = {") :]
    assert all(re.search(rf'\b{name}\(|"{name}"', cases) for name in SETTINGS)


def test_without_a_variance_there_is_still_a_density():
    params = {"params": {"scale": 0.8}}
    value = StudentT(1.0, 1.0).apply(params, MEAN[:, :1], 0 * VARIANCE[:, :1], Y, method="log_density")
    close(value, scipy.stats.cauchy.logpdf(Y, MEAN[:, 0], 0.8))


# ---- documentation ---------------------------------------------------------------------------------------------------


def test_every_function_and_class_has_an_example_that_runs():
    check_examples(likelihoods)
    assert all(">>> " in inspect.getdoc(type(settings[0])) for settings in SETTINGS.values())
