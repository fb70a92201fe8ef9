"""The package's sparse variational Gaussian process, against dense algebra and the exact process; every error.

tests/mutants/trainability/sparse.toml breaks the module on purpose; this file must turn red each time.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import trainability as tr
from hypothesis import given, settings
from hypothesis import strategies as st
from package_checks import (
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
)
from trainability import sparse
from trainability.gp import (
    Constant,
    ConstantMean,
    Gaussian,
    Regression,
    SquaredExponential,
    collapsed_bound,
    condition,
    divergence,
    optimal_q,
    project,
    squared_exponential,
)
from trainability.sparse import Sparse


@pytest.fixture(autouse=True, scope="module")
def sixty_four_bits():
    with jax.enable_x64(True):
        yield


def close(ours, others, rtol=1e-10):
    np.testing.assert_allclose(ours, others, rtol=rtol, atol=rtol * np.max(np.abs(others), initial=0))


M, N = 3, 5


def draw(seed, latents=1):
    """The joint prior covariance of M inducing values and N others, and a q that is not the prior."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(M + N, M + N))
    joint = root @ root.T / 4 + np.eye(M + N)
    mean, root = random.normal(size=(M, latents)), random.normal(size=(latents, M, M))
    return joint[:M, :M], joint[:M, M:], joint[M:, M:], mean, root


def dense_divergence(mean, root, covariance):
    """The sum over latent functions of the textbook formula, by inverses and determinants."""
    inverse, total = np.linalg.inv(covariance), 0.0
    for center, each in zip(mean.T, np.tril(root), strict=True):
        ratio = inverse @ each @ each.T
        total += 0.5 * (np.trace(ratio) + center @ inverse @ center - len(center) - np.linalg.slogdet(ratio)[1])
    return total


seeds, some_latents = st.integers(0, 1000), st.sampled_from([1, 2])
few = settings(examples, max_examples=15)

# ---- the divergence --------------------------------------------------------------------------------------------------

divergence_and_slopes = jax.jit(jax.value_and_grad(divergence, (0, 1)))


@given(seeds, some_latents)
@few
def test_the_divergence_is_that_of_dense_algebra_and_not_negative(seed, latents):
    covariance, _, _, mean, root = draw(seed, latents)
    white, (_, slope) = divergence_and_slopes(mean, root)
    # A root can be nearly singular, and then so is what the formula inverts.
    close(white, dense_divergence(mean, root, np.eye(M)), rtol=1e-8)
    value, (_, slope_too) = divergence_and_slopes(mean, root, covariance)
    close(value, dense_divergence(mean, root, covariance), rtol=1e-8)
    assert white >= 0 and value >= 0
    # What is above the diagonal does not enter, and has a gradient of zero.
    above = np.triu(np.ones([M, M]), 1) == 1
    assert not np.any(slope[:, above]) and not np.any(slope_too[:, above])
    assert np.all(slope[:, ~above]) and np.all(slope_too[:, ~above])
    close(divergence_and_slopes(mean, np.tril(root), covariance)[0], value, rtol=1e-14)


@given(seeds)
@few
def test_the_divergence_is_zero_at_equality_and_positive_beside_it(seed):
    covariance, _, _, mean, _ = draw(seed, 2)
    root = np.stack([np.linalg.cholesky(covariance)] * 2)
    for equal in (root, -root):  # a root has two signs
        for value in jax.tree.leaves(divergence_and_slopes(0 * mean, equal, covariance)):
            np.testing.assert_allclose(value, 0, atol=1e-12)
    assert divergence_and_slopes(0.01 * mean, root, covariance)[0] > 1e-9
    assert divergence_and_slopes(0 * mean, 1.01 * root, covariance)[0] > 1e-9
    assert divergence_and_slopes(0 * mean, 0.99 * root, covariance)[0] > 1e-9


def test_a_distribution_without_variance_is_infinitely_far():
    assert divergence(np.zeros([2, 1]), np.diag([1.0, 0.0])[None]) == np.inf


# ---- projecting ------------------------------------------------------------------------------------------------------

white_project = jax.jit(project)
plain_project = jax.jit(functools.partial(project, whiten=False))


@given(seeds, some_latents)
@few
def test_projecting_is_dense_algebra(seed, latents):
    covariance, cross, prior, mean, root = draw(seed, latents)
    weights = cross.T @ np.linalg.inv(covariance)
    found, full = plain_project(covariance, cross, prior, mean, root)
    close(found, weights @ mean)
    for each, matrix in zip(np.tril(root), full, strict=True):
        close(matrix, prior - weights @ cross + weights @ each @ each.T @ weights.T)
    again, variance = plain_project(covariance, cross, np.diagonal(prior), mean, root)
    close(again, found)
    assert variance.shape == (N, latents)
    close(variance, np.diagonal(full, axis1=1, axis2=2).T)


@given(seeds, some_latents)
@few
def test_whitened_and_unwhitened_agree(seed, latents):
    covariance, cross, prior, mean, root = draw(seed, latents)
    factor = np.linalg.cholesky(covariance)
    plain_mean, plain_root = factor @ mean, factor @ np.tril(root)
    close(divergence_and_slopes(mean, root)[0], divergence_and_slopes(plain_mean, plain_root, covariance)[0])
    for known in (prior, np.diagonal(prior)):
        whitened = white_project(covariance, cross, known, mean, root)
        for one, other in zip(whitened, plain_project(covariance, cross, known, plain_mean, plain_root), strict=True):
            close(one, other)


def test_the_prior_of_the_inducing_values_gives_the_prior():
    covariance, cross, prior, _, _ = draw(0)
    mean, full = white_project(covariance, cross, prior, np.zeros([M, 1]), np.eye(M)[None])
    assert not mean.any()
    close(full[0], prior)


def test_a_variance_is_never_negative():
    same = np.ones([1, 1])
    _, variance = project(same, same, [1 - 1e-9], [[0.0]], [[[0.0]]])
    assert variance == 0


# ---- the collapsed bound ---------------------------------------------------------------------------------------------


def observed(seed):
    """The prior at the data, at inducing points among them or between, and observations."""
    random = np.random.default_rng(seed)
    x, z = random.uniform(0, 3, (N, 1)), random.uniform(0, 3, (M, 1))
    joint = np.array(squared_exponential(np.vstack([z, x]), None, 1.5, 0.7))
    joint[:M, :M] += 1e-6 * np.eye(M)
    return joint[:M, :M], joint[:M, M:], joint[M:, M:], random.uniform(0.1, 1.0), random.normal(size=N)


jitted_bound, jitted_optimum = jax.jit(collapsed_bound), jax.jit(optimal_q)
NOISES = np.linspace(0.5, 1.5, N)


def exact_bound(prior, noise, residual):
    return scipy.stats.multivariate_normal(np.zeros(N), prior + np.diag(np.full(N, noise))).logpdf(residual)


def dense_elbo(covariance, cross, prior, noise, residual, mean, root):
    """The expected log likelihood of Gaussian noise, minus the divergence, for a whitened q."""
    found, variance = white_project(covariance, cross, np.diagonal(prior), mean, root)
    density = scipy.stats.norm(found[:, 0], np.sqrt(noise)).logpdf(residual)
    return (density - variance[:, 0] / noise / 2).sum() - dense_divergence(mean, root, np.eye(M))


@given(seeds, st.sampled_from([1.0, NOISES]))
@few
def test_the_collapsed_bound_is_the_formula_of_titsias_and_below_the_likelihood(seed, each):
    covariance, cross, prior, noise, residual = observed(seed)
    noise = noise * each
    bound = jitted_bound(covariance, cross, np.diagonal(prior), noise, residual)
    approximate = cross.T @ np.linalg.inv(covariance) @ cross
    trace = (np.diagonal(prior - approximate) / noise).sum()
    close(bound, exact_bound(approximate, noise, residual) - trace / 2, rtol=1e-8)  # the condition is up to 1e6
    assert bound < exact_bound(prior, noise, residual)


@given(seeds, st.sampled_from([1.0, NOISES]))
@few
def test_the_bound_is_the_elbo_at_the_optimal_q_and_less_beside_it(seed, each):
    covariance, cross, prior, noise, residual = observed(seed)
    noise = noise * each
    bound = jitted_bound(covariance, cross, np.diagonal(prior), noise, residual)
    mean, root = jitted_optimum(covariance, cross, noise, residual)
    assert not np.triu(root[0], 1).any()
    elbo = lambda *q: dense_elbo(covariance, cross, prior, noise, residual, *q)  # noqa: E731
    close(elbo(mean, root), bound, rtol=1e-8)
    for q in ((mean + 0.01, root), (mean, 1.01 * root), (mean, 0.99 * root)):
        assert elbo(*q) < bound - 1e-7


def test_the_optimal_q_of_the_values_themselves():
    covariance, cross, _, noise, residual = observed(0)
    mean, root = optimal_q(covariance, cross, noise, residual)
    plain_mean, plain_root = optimal_q(covariance, cross, noise, residual, whiten=False)
    factor = np.linalg.cholesky(covariance)
    close(plain_mean, factor @ mean)
    close(plain_root[0], factor @ root[0])


@pytest.mark.parametrize("noise", [0.3, NOISES], ids=["one noise", "a noise for each"])
def test_with_the_inducing_points_at_the_data_everything_is_exact(noise):
    _, cross, joint, _, residual = observed(1)
    joint = joint + 1e-6 * np.eye(N)  # in the prior, too, so that no jitter is between the two
    bound = jitted_bound(joint, joint, np.diagonal(joint), noise, residual)
    close(bound, exact_bound(joint, noise, residual), rtol=1e-8)
    new, prior = cross.T, np.full(M, 1.5)
    wanted = jax.jit(condition)(joint + np.diag(np.full(N, noise)), new, prior, residual)
    found = white_project(joint, new, prior, *jitted_optimum(joint, joint, noise, residual))
    for one, other in zip(found, wanted, strict=True):
        close(one[:, 0], other, rtol=1e-8)


def test_the_noise_may_be_known_inside_jit():
    covariance, cross, prior, noise, residual = observed(0)
    known = jnp.array(noise)
    inside = jax.jit(lambda residual: collapsed_bound(covariance, cross, np.diagonal(prior), known, residual))
    close(inside(residual), jitted_bound(covariance, cross, np.diagonal(prior), noise, residual))


def test_more_inducing_points_do_not_lower_the_bound():
    prior = np.array(observed(2)[2]) + 1e-6 * np.eye(N)
    residual = observed(2)[4]
    bounds = [jitted_bound(prior[:m, :m], prior[:m], np.diagonal(prior), 0.5, residual) for m in (1, 3, 5)]
    assert np.all(np.diff(bounds) > 0.01)


# ---- the model -------------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).uniform(0, 3, (9, 2))
Y = np.sin(X[:, 0]) + X[:, 1]
NEW = np.random.default_rng(1).uniform(0, 3, (4, 2))
Z = np.random.default_rng(2).uniform(0, 3, (M, 2))


class Both(nn.Module):
    """A likelihood of two latent functions: their sum is observed, with a noise whose variance is data."""

    latents = 2

    def __call__(self, mean, variance, y, noise):
        normal = jax.scipy.stats.norm.logpdf(y, mean.sum(1), jnp.sqrt(noise))
        return normal - 0.5 * variance.sum(1) / noise

    def predict(self, mean, variance, noise):
        return mean.sum(1), variance.sum(1) + noise

    def log_density(self, mean, variance, y, noise):
        return jax.scipy.stats.norm.logpdf(y, mean.sum(1), jnp.sqrt(variance.sum(1) + noise))


ONE = Sparse(SquaredExponential(), Gaussian(variance=0.4), Z, ConstantMean(0.3))
TWO = Sparse(SquaredExponential(), Both(), Z, whiten=False)
NOISE = {"noise": 0.7}


def started(model, x=X, y=Y, **data):
    """As one program each, since outside of jax.jit every operation would be compiled by itself."""
    return jax.jit(lambda: model.init(jax.random.key(0), x, y, **data))()["params"]


def applied(model, params, *arguments, **how):
    return jax.jit(lambda params: model.apply({"params": params}, *arguments, **how))(params)


def with_values(model, **data):
    """Parameters away from their initial values, so that each of them is noticed."""
    random = np.random.default_rng(3)
    return jax.tree.map(lambda leaf: leaf + 0.3 * random.uniform(size=leaf.shape), started(model, **data))


PARAMS = {}


@pytest.fixture(autouse=True, scope="module")
def params(sixty_four_bits):
    PARAMS.update(one=with_values(ONE), two=with_values(TWO, **NOISE))


elbo_of_one = jax.jit(jax.value_and_grad(lambda params, x, y: ONE.apply({"params": params}, x, y)))
elbo_of_two = jax.jit(jax.value_and_grad(lambda params, x, y: TWO.apply({"params": params}, x, y, **NOISE)))


def covariances(params, x):
    """Of the inducing points, with the jitter; of these with others; of the others."""
    kernel, z = params["kernel"], params["inducing"]
    inside = np.array(squared_exponential(z, None, **kernel)) + 1e-6 * np.eye(M)
    return inside, np.array(squared_exponential(z, x, **kernel)), np.array(squared_exponential(x, None, **kernel))


def test_the_elbo_is_the_expected_density_minus_the_divergence():
    params = PARAMS["one"]
    inside, cross, prior = covariances(params, X)
    mean, variance = white_project(inside, cross, np.diagonal(prior), **params["q"])
    noise = params["likelihood"]["variance"]
    density = scipy.stats.norm(mean[:, 0] + params["mean"]["constant"], np.sqrt(noise)).logpdf(Y)
    wanted = (density - variance[:, 0] / noise / 2).sum() - dense_divergence(**params["q"], covariance=np.eye(M))
    close(elbo_of_one(params, X, Y)[0], wanted)

    params = PARAMS["two"]
    inside, cross, prior = covariances(params, X)
    mean, variance = plain_project(inside, cross, np.diagonal(prior), **params["q"])
    density = scipy.stats.norm(mean.sum(1), np.sqrt(0.7)).logpdf(Y)
    wanted = (density - variance.sum(1) / 0.7 / 2).sum() - dense_divergence(**params["q"], covariance=inside)
    close(elbo_of_two(params, X, Y)[0], wanted)


def test_predictions():
    params = PARAMS["one"]
    inside, cross, prior = covariances(params, NEW)
    wanted, full = white_project(inside, cross, prior, **params["q"])
    wanted = wanted + params["mean"]["constant"]
    mean, variance = applied(ONE, params, NEW, method="predict")
    close(mean, wanted[:, 0])
    close(variance, np.diagonal(full[0]))
    again, covariance = applied(ONE, params, NEW, method="predict", full_covariance=True)
    close(again, mean)
    assert covariance.shape == (4, 4)
    close(covariance, full[0])
    again, spread = applied(ONE, params, NEW, method="predict", observed=True)
    close(again, mean)
    close(spread, variance + params["likelihood"]["variance"])
    density = applied(ONE, params, NEW, Y[:4], method="log_density")
    close(density, scipy.stats.norm(mean, np.sqrt(spread)).logpdf(Y[:4]))


def test_predictions_of_two_latent_functions():
    params = PARAMS["two"]
    inside, cross, prior = covariances(params, NEW)
    wanted, full = plain_project(inside, cross, prior, **params["q"])
    mean, variance = applied(TWO, params, NEW, method="predict")
    assert mean.shape == variance.shape == (4, 2)
    close(mean, wanted)
    close(variance, np.diagonal(full, axis1=1, axis2=2).T)
    covariance = applied(TWO, params, NEW, method="predict", full_covariance=True)[1]
    assert covariance.shape == (2, 4, 4)
    close(covariance, full)
    center, spread = applied(TWO, params, NEW, method="predict", observed=True, noise=0.2)
    close(center, wanted.sum(1))
    close(spread, variance.sum(1) + 0.2)
    density = scipy.stats.norm(center, np.sqrt(spread)).logpdf(Y[:4])
    close(applied(TWO, params, NEW, Y[:4], method="log_density", noise=0.2), density)


def test_the_paths_and_values_of_the_parameters():
    params = started(ONE)
    assert jax.tree.map(np.ndarray.tolist, jax.tree.map(np.asarray, params)) == {
        "kernel": {"variance": 1.0, "lengthscales": 1.0},
        "likelihood": {"variance": 0.4},
        "mean": {"constant": 0.3},
        "inducing": Z.tolist(),
        "q": {"mean": [[0.0]] * M, "root": [np.eye(M).tolist()]},
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}
    params = started(TWO, **NOISE)
    assert sorted(params) == ["inducing", "kernel", "q"]
    assert jax.tree.map(np.shape, params["q"]) == {"mean": (M, 2), "root": (2, M, M)}
    assert tr.trainable_paths(tr.all_fixed(params, but="q")) == ["q/mean", "q/root"]


def test_a_minibatch_is_scaled_to_the_number_of_all_data():
    """The mean over the three minibatches of a partition of the data is the bound of all of them, up to rounding."""
    batch = jax.jit(lambda params, x, y, count: ONE.apply({"params": params}, x, y, count=count))
    parts = [batch(PARAMS["one"], X[rows], Y[rows], 9) for rows in np.arange(9).reshape(3, 3)]
    whole = elbo_of_one(PARAMS["one"], X, Y)[0]
    close(np.mean(parts), whole)
    assert np.ptp(parts) > 0.1
    assert not np.isclose(elbo_of_one(PARAMS["one"], X[:3], Y[:3])[0], parts[0])
    # The number may be known when the program is made.
    close(applied(ONE, PARAMS["one"], X, Y, count=jnp.array(9)), whole, rtol=1e-14)


def test_the_gradient_of_each_parameter():
    for found, key in ((elbo_of_one, "one"), (elbo_of_two, "two")):
        slopes = found(PARAMS[key], X, Y)[1]
        roots = slopes["q"].pop("root")
        assert not np.triu(roots, 1).any() and np.abs(roots[:, *np.tril_indices(M)]).min() > 1e-4
        assert min(np.abs(leaf).min() for leaf in jax.tree.leaves(slopes)) > 1e-4


@pytest.mark.parametrize("whiten", [True, False], ids=["whitened", "unwhitened"])
def test_with_the_inducing_points_at_the_data_the_model_is_regression(whiten):
    """Up to the jitter of 1e-6. It costs the bound at most half of it for each of nine points, in units of the noise
    of 0.4, and as much for each weight. The new points are among the data, so the predictions change by no more."""
    exact = Regression(SquaredExponential(), ConstantMean(0.3), noise_variance=0.4)
    params = started(exact)
    model = Sparse(SquaredExponential(), Gaussian(variance=0.4), X, ConstantMean(0.3), whiten=whiten)
    there = np.array(squared_exponential(X, None, 1.0, 1.0))
    best = jax.jit(functools.partial(optimal_q, whiten=whiten))
    mean, root = best(there + 1e-6 * np.eye(9), there, 0.4, Y - 0.3)
    sparse_params = {**params, "likelihood": {"variance": 0.4}, "inducing": X, "q": {"mean": mean, "root": root}}
    tolerance = 9 * 1e-6 / 0.4
    close(applied(model, sparse_params, X, Y), applied(exact, params, X, Y), rtol=tolerance)
    found = applied(model, sparse_params, NEW, method="predict")
    for one, other in zip(found, applied(exact, params, X, Y, NEW, method="predict"), strict=True):
        close(one, other, rtol=tolerance)


def test_the_jitter_is_added_to_the_variances_of_the_inducing_points():
    nothing = Sparse(Constant(), Gaussian(), np.zeros([2, 1]), jitter=3.0)
    params = started(nothing, np.zeros([1, 1]), np.zeros(1))
    params["q"]["root"] = jnp.zeros([1, 2, 2])
    _, variance = applied(nothing, params, np.zeros([1, 1]), method="predict")
    close(variance, 1 - np.ones(2) @ np.linalg.inv([[4.0, 1.0], [1.0, 4.0]]) @ np.ones(2))
    assert ONE.jitter == 1e-6


def test_one_factorisation_is_enough():
    for value, key in ((elbo_of_one, "one"), (elbo_of_two, "two")):
        program = value.lower(PARAMS[key], X, Y).compile().as_text()
        assert program.count('custom_call_target="lapack_dpotrf') == 1


def test_a_fit_raises_the_bound_and_leaves_what_is_fixed():
    loss = lambda params, x, y: -ONE.apply({"params": params}, x, y)  # noqa: E731
    mask = tr.all_fixed(PARAMS["one"], but=["q", "inducing"])
    fitted = tr.fit(loss, PARAMS["one"], mask, optax.adam(0.05), 20, args=(X, Y))
    assert fitted.losses[-1] < fitted.losses[0] - 1
    assert tr.moved(PARAMS["one"], fitted.params) == mask


def test_the_dtype_is_what_the_arguments_promote_to():
    def dtypes(function, *arguments):
        return {str(part.dtype) for part in jax.tree.leaves(jax.eval_shape(function, *arguments))}

    covariance, cross, prior, mean, root = (part.astype(np.float32) for part in draw(0))
    noise = np.float32(0.5)
    assert dtypes(divergence, mean, root) == dtypes(divergence, mean, root, covariance) == {"float32"}
    assert dtypes(divergence, mean, root, covariance.astype(float)) == {"float64"}
    assert dtypes(project, covariance, cross, prior, mean, root) == {"float32"}
    assert dtypes(collapsed_bound, covariance, cross, prior[0], noise, prior[0]) == {"float32"}
    assert dtypes(optimal_q, covariance, cross, noise, prior[0]) == {"float32"}
    assert dtypes(optimal_q, covariance, cross, noise, prior[0].astype(float)) == {"float64"}


# ---- bad input -------------------------------------------------------------------------------------------------------


def changed(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


def called(x=X, y=Y, count=None, **changes):
    return ONE.apply({"params": {**PARAMS["one"], **changes}}, x, y, count)


def predicted(new_x=NEW, **how):
    return ONE.apply({"params": PARAMS["one"]}, new_x, method="predict", **how)


def made(inducing):
    return Sparse(SquaredExponential(), Gaussian(), inducing).init(jax.random.key(0), X, Y)


COVARIANCE, CROSS, PRIOR, MEAN, ROOT = draw(0)
ROOTS = np.ones([2, M, M])
BAD_ROOT = "root must have the shape (1, 3, 3), a matrix for each latent function, not"

ERRORS = {
    "a mean without an axis for the functions": (
        lambda: divergence(MEAN[:, 0], ROOT),
        ValueError,
        "mean must have the shape (M, L), a column for each latent function, not (3,). For one latent function, pass "
        "mean[:, None].",
    ),
    "a root without an axis for the functions": (
        lambda: divergence(MEAN, ROOT[0]),
        ValueError,
        f"{BAD_ROOT} (3, 3). For one latent function, pass root[None].",
    ),
    "a root of two functions": (lambda: divergence(MEAN, np.ones([2, 3, 3])), ValueError, f"{BAD_ROOT} (2, 3, 3)."),
    "a root that is diagonal, as GPflow's q_diag": (
        lambda: project(COVARIANCE, CROSS, PRIOR, MEAN, MEAN),
        ValueError,
        f"{BAD_ROOT} (3, 1).",
    ),
    "a mean that is NaN": (
        lambda: divergence(changed(MEAN, (1, 0), np.nan), ROOT),
        ValueError,
        "mean has a value that is not finite: mean[1, 0] is nan.",
    ),
    "a root that is infinite": (
        lambda: divergence(MEAN, changed(ROOT, (0, 2, 1), np.inf)),
        ValueError,
        "root has a value that is not finite: root[0, 2, 1] is inf.",
    ),
    "a covariance of other points": (
        lambda: divergence(MEAN, ROOT, np.eye(4)),
        ValueError,
        "covariance has 4 rows, but mean has 3.",
    ),
    "a covariance that is singular": (
        lambda: divergence(MEAN, ROOT, np.ones([3, 3])),
        ValueError,
        "the covariance of 3 points is not positive definite in float64.",
    ),
    "variances in the place of a covariance": (
        lambda: project(np.ones(3), CROSS, PRIOR, MEAN, ROOT),
        ValueError,
        "covariance must have the shape (N, N), not (3,).",
    ),
    "the axes of cross exchanged": (
        lambda: project(COVARIANCE, CROSS.T, PRIOR, MEAN, ROOT),
        ValueError,
        "cross must have the shape (3, N), not (5, 3).",
    ),
    "cross that is NaN": (
        lambda: project(COVARIANCE, changed(CROSS, (0, 1), np.nan), PRIOR, MEAN, ROOT),
        ValueError,
        "cross has a value that is not finite: cross[0, 1] is nan.",
    ),
    "a prior of other points": (
        lambda: project(COVARIANCE, CROSS, np.ones(1), MEAN, ROOT),
        ValueError,
        "prior must have the shape (5,) or (5, 5), not (1,).",
    ),
    "a prior that is NaN": (
        lambda: project(COVARIANCE, CROSS, np.full(5, np.nan), MEAN, ROOT),
        ValueError,
        "prior has a value that is not finite: prior[0] is nan.",
    ),
    "the bound with a prior covariance": (
        lambda: collapsed_bound(COVARIANCE, CROSS, PRIOR, 0.5, np.ones(5)),
        ValueError,
        "prior must have the shape (N,), a number for each row of cross.T, not (5, 5).",
    ),
    "the bound without noise": (
        lambda: collapsed_bound(COVARIANCE, CROSS, np.ones(5), 0.0, np.ones(5)),
        ValueError,
        "noise_variance must be positive, but its smallest value is 0.0.",
    ),
    "a noise for other observations": (
        lambda: optimal_q(COVARIANCE, CROSS, np.ones(3), np.ones(5)),
        ValueError,
        "noise_variance must have the shape () or (5,), not (3,).",
    ),
    "a noise that is NaN": (
        lambda: optimal_q(COVARIANCE, CROSS, np.nan, np.ones(5)),
        ValueError,
        "noise_variance has a value that is not finite",
    ),
    "another number of observations": (
        lambda: optimal_q(COVARIANCE, CROSS, 0.5, np.ones([5, 1])),
        ValueError,
        "residual must have the shape (N,), a number for each row of cross.T, not (5, 1). Pass residual[:, 0].",
    ),
    "the best q of a covariance that is not square": (
        lambda: optimal_q(CROSS, CROSS, 0.5, np.ones(5)),
        ValueError,
        "covariance must have the shape (N, N), not (3, 5).",
    ),
    "the best q with the axes of cross exchanged": (
        lambda: optimal_q(COVARIANCE, CROSS.T, 0.5, np.ones(3)),
        ValueError,
        "cross must have the shape (3, N), not (5, 3).",
    ),
    "inducing points with one coordinate": (
        lambda: made(Z[:, 0]),
        ValueError,
        "inducing must have the shape (N, D), a row for each point, not (3,). If the points have one coordinate, pass "
        "inducing[:, None].",
    ),
    "no inducing points": (lambda: made(Z[:0]), ValueError, "inducing is empty: it has the shape (0, 2)."),
    "an initial inducing point that is NaN": (
        lambda: made(changed(Z, (2, 0), np.nan)),
        ValueError,
        "inducing has a value that is not finite: inducing[2, 0] is nan.",
    ),
    "an inducing point that became NaN": (
        lambda: called(inducing=changed(Z, (2, 0), np.nan)),
        ValueError,
        "inducing has a value that is not finite: inducing[2, 0] is nan.",
    ),
    "a q that became NaN": (
        lambda: TWO.apply(
            {"params": {**PARAMS["two"], "q": {"mean": np.full([M, 2], np.nan), "root": ROOTS}}}, X, Y, **NOISE
        ),
        ValueError,
        "mean has a value that is not finite: mean[0, 0] is nan.",
    ),
    "a variance that is negative": (
        lambda: called(kernel={"variance": -1.0, "lengthscales": 1.0}),
        ValueError,
        "the covariance of 3 points is not positive definite in float64.",
    ),
    "points with another number of columns": (
        lambda: called(x=X[:, :1]),
        ValueError,
        "x has 1 columns, but inducing has 2.",
    ),
    "points with one coordinate": (
        lambda: called(x=X[:, 0]),
        ValueError,
        "x must have the shape (N, D), a row for each point, not (9,).",
    ),
    "y as in GPflow": (
        lambda: called(y=Y[:, None]),
        ValueError,
        "y must have the shape (N,), a number for each row of x, not (9, 1). Pass y[:, 0].",
    ),
    "an observation that is NaN": (
        lambda: called(y=changed(Y, 4, np.nan)),
        ValueError,
        "y has a value that is not finite: y[4] is nan.",
    ),
    "more data than there are": (
        lambda: called(count=8),
        ValueError,
        "count is the number of all data, but it is 8, and the minibatch has 9.",
    ),
    "counts": (
        lambda: called(count=np.ones(9)),
        ValueError,
        "count must be one number, that of all data, not an array of the shape (9,).",
    ),
    "a count that is NaN": (
        lambda: called(count=np.nan),
        ValueError,
        "count is the number of all data, but it is nan, and the minibatch has 9.",
    ),
    "new points with one coordinate": (
        lambda: predicted(NEW[:, 0]),
        ValueError,
        "new_x must have the shape (N, D), a row for each point, not (4,).",
    ),
    "new points with another number of columns": (
        lambda: predicted(NEW[:, :1]),
        ValueError,
        "new_x has 1 columns, but inducing has 2.",
    ),
    "a new point that is NaN": (
        lambda: predicted(changed(NEW, (3, 1), np.nan)),
        ValueError,
        "new_x has a value that is not finite: new_x[3, 1] is nan.",
    ),
    "the covariance of observations": (
        lambda: predicted(observed=True, full_covariance=True),
        ValueError,
        "observed and full_covariance do not go together: a likelihood predicts each observation by itself.",
    ),
    "a density of other observations": (
        lambda: ONE.apply({"params": PARAMS["one"]}, NEW, Y, method="log_density"),
        ValueError,
        "new_y has 9 numbers, but new_x has 4 rows.",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_error(case):
    check_error(case)


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(sparse, ERRORS)


def test_inside_jit_bad_values_give_nan_and_bad_shapes_an_error():
    params = PARAMS["one"]
    assert np.isfinite(elbo_of_one(params, X, Y)[0])
    negative = {**params, "kernel": {"variance": jnp.array(-1.0), "lengthscales": jnp.array(1.0)}}
    lost = {**params, "inducing": changed(params["inducing"], (0, 0), np.nan)}
    for arguments in ((negative, X, Y), (lost, X, Y), (params, changed(X, 3, np.nan), Y), (params, X, Y * np.nan)):
        assert np.isnan(elbo_of_one(*arguments)[0])
    for arguments in ((params, X, Y[:-1]), (params, X[:, 0], Y), (params, X[:0], Y[:0]), (params, X[:, :1], Y)):
        with pytest.raises(ValueError, match=r"^[xy] "):
            elbo_of_one(*arguments)
    assert np.isnan(jitted_bound(-np.eye(M), CROSS, np.ones(N), 0.5, np.ones(N)))
    assert np.isnan(jitted_bound(np.eye(M), CROSS, np.ones(N), -0.5, np.ones(N)))


def test_every_function_has_an_example_that_runs():
    check_examples(sparse)
