"""The package's Gaussian process regression, against dense algebra, scipy and autodiff; every error, every example.

tests/mutants/trainability/gp.toml breaks the module on purpose; this file must turn red each time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
import trainability as tr
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from package_checks import (
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
)
from trainability import gp
from trainability.gp import (
    ConstantMean,
    LinearMean,
    Matern32,
    Periodic,
    Regression,
    SquaredExponential,
    Sum,
    White,
    condition,
    log_density,
    sample,
)


@pytest.fixture(autouse=True, scope="module")
def sixty_four_bits():
    with jax.enable_x64(True):
        yield


def close(ours, others, rtol=1e-10):
    np.testing.assert_allclose(ours, others, rtol=rtol, atol=rtol * np.max(np.abs(others), initial=0))


def draw(seed, count):
    """A covariance with eigenvalues from 1 to about `count`, and a residual."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(count, count))
    return root @ root.T / 4 + np.eye(count), random.normal(size=count)


def by_scipy(covariance, residual):
    return scipy.stats.multivariate_normal(np.zeros(len(residual)), covariance).logpdf(residual)


def by_autodiff(covariance, residual):
    """The same without the rule of the package, for JAX to differentiate."""
    factor = jnp.linalg.cholesky(covariance)
    white = jax.scipy.linalg.solve_triangular(factor, residual, lower=True)
    return -white @ white / 2 - jnp.log(jnp.diagonal(factor)).sum() - len(residual) * jnp.log(2 * jnp.pi) / 2


# ---- the density -----------------------------------------------------------------------------------------------------


SIZES = [1, 2, 3, 4, 5, 9]  # the panels of the inverse have different widths, or are fewer than four
density_and_slopes = jax.jit(jax.value_and_grad(log_density, (0, 1)))


@pytest.fixture(autouse=True, scope="module")
def panels():
    """For small matrices, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gp, "_SMALL", 0)
        yield


@examples
@given(st.integers(0, 1000), st.sampled_from(SIZES))
def test_the_density_is_that_of_scipy_and_its_gradient_that_of_the_formulas(seed, count):
    covariance, residual = draw(seed, count)
    value, slopes = density_and_slopes(covariance, residual)
    close(value, by_scipy(covariance, residual))
    inverse = np.linalg.inv(covariance)
    close(slopes[0], (np.outer(inverse @ residual, inverse @ residual) - inverse) / 2)
    close(slopes[1], -inverse @ residual)


def test_the_gradient_is_that_of_autodiff():
    arguments = draw(0, 50)
    ours, others = density_and_slopes(*arguments), jax.jit(jax.value_and_grad(by_autodiff, (0, 1)))(*arguments)
    for mine, other in zip(*map(jax.tree.leaves, (ours, others)), strict=True):
        close(mine, other)


def test_the_gradient_is_that_of_finite_differences_for_each_entry():
    covariance, residual = draw(0, 3)
    _, slopes = density_and_slopes(covariance, residual)
    step = 1e-5
    for place in np.ndindex(3, 3):
        change = np.zeros([3, 3])
        change[place] = step
        # An entry and its mirror image count half each, as the covariance is symmetric.
        both = (change + change.T) / 2
        ends = [by_scipy(covariance + sign * both, residual) for sign in (1, -1)]
        np.testing.assert_allclose(slopes[0][place], (ends[0] - ends[1]) / (2 * step), rtol=1e-7)
    for place in range(3):
        change = step * np.eye(3)[place]
        ends = [by_scipy(covariance, residual + sign * change) for sign in (1, -1)]
        np.testing.assert_allclose(slopes[1][place], (ends[0] - ends[1]) / (2 * step), rtol=1e-7)


def test_the_gradient_is_multiplied_by_what_follows():
    arguments = draw(1, 3)
    _, once = density_and_slopes(*arguments)
    thrice = jax.jit(jax.grad(lambda *given: -3 * log_density(*given), (0, 1)))(*arguments)
    for one, three in zip(once, thrice, strict=True):
        close(three, -3 * one)


def test_the_hessian_is_that_of_autodiff():
    """As for the uncertainty of a fit: forward mode over the gradient."""
    arguments = draw(2, 3)
    ours, others = (jax.jit(jax.hessian(density, (0, 1)))(*arguments) for density in (log_density, by_autodiff))
    for mine, other in zip(*map(jax.tree.leaves, (ours, others)), strict=True):
        close(mine, other)


def calls(function, *arguments):
    """How often the compiled program calls LAPACK's Cholesky factorisation and BLAS's triangular solve."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return text.count('custom_call_target="lapack_dpotrf'), text.count('custom_call_target="lapack_dtrsm')


def test_the_inverse_is_computed_only_if_the_covariance_has_a_gradient():
    arguments = draw(3, 8)
    assert calls(log_density, *arguments) == (1, 1)
    assert calls(jax.grad(log_density, 1), *arguments) == (1, 2)
    assert calls(jax.grad(log_density), *arguments) == (1, 2 + 2 * 4)


def test_a_small_matrix_has_one_panel(monkeypatch):
    monkeypatch.setattr(gp, "_SMALL", 8)
    for count, panels in ((3, 1), (8, 1), (9, 3), (10, 4)):
        assert calls(jax.grad(lambda *given: log_density(*given)), *draw(3, count)) == (1, 2 + 2 * panels)


def test_many_covariances_at_once():
    covariances, residuals = map(jnp.array, zip(*(draw(seed, 5) for seed in range(3)), strict=True))
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(log_density)))(covariances, residuals)
    for value, slope, covariance, residual in zip(values, slopes, covariances, residuals, strict=True):
        close(value, by_scipy(covariance, residual))
        close(slope, density_and_slopes(covariance, residual)[1][0])


def test_the_dtype_is_what_the_arguments_promote_to():
    covariance, residual = (argument.astype(np.float32) for argument in draw(0, 4))
    assert log_density(covariance, residual).dtype == np.float32
    assert log_density(covariance, residual.astype(np.float64)).dtype == np.float64
    assert log_density([[2]], [1]).dtype == np.float64
    _, slopes = density_and_slopes(covariance, residual.astype(np.float64))
    assert [slope.dtype for slope in slopes] == [np.float32, np.float64]
    np.testing.assert_allclose(log_density(covariance, residual), by_scipy(covariance, residual), rtol=1e-5)


# ---- conditioning and samples ----------------------------------------------------------------------------------------


@examples
@given(st.integers(0, 1000), st.sampled_from([1, 5]), st.sampled_from([1, 3]))
def test_conditioning_is_that_of_the_joint_distribution(seed, given, others):
    """log p(given, others) = log p(given) + log p(others | given), by scipy, at any value of the others."""
    joint, values = draw(seed, given + others)
    covariance, cross, prior = joint[:given, :given], joint[:given, given:], joint[given:, given:]
    mean, rest = condition(covariance, cross, prior, values[:given])
    by_parts = by_scipy(covariance, values[:given]) + by_scipy(rest, values[given:] - mean)
    close(by_scipy(joint, values), by_parts)
    mean_again, variance = condition(covariance, cross, np.diagonal(prior), values[:given])
    close(mean_again, mean)
    close(variance, np.diagonal(rest))


def test_conditioning_on_the_values_themselves():
    covariance, residual = draw(0, 4)
    mean, variance = condition(covariance, covariance, np.diagonal(covariance), residual)
    close(mean, residual)
    np.testing.assert_allclose(variance, 0, atol=1e-12)
    assert variance.min() >= 0


def test_a_variance_is_never_negative():
    almost = np.full([2, 2], 1.0) + 1e-13 * np.eye(2)
    _, variance = condition(almost, np.ones([2, 1]), [1 - 1e-9], [0.0, 0.0])
    assert variance == 0


def test_values_that_are_independent_say_nothing():
    covariance, residual = draw(0, 4)
    mean, variance = condition(covariance, np.zeros([4, 2]), [2.0, 3.0], residual)
    assert mean.tolist() == [0, 0] and variance.tolist() == [2, 3]


def test_the_moments_of_samples():
    covariance, mean = np.array([[1.0, 1.5, 0.0], [1.5, 4.0, -2.0], [0.0, -2.0, 9.0]]), np.array([1.0, 2.0, 3.0])
    count = 20_000
    samples = sample(jax.random.key(1), mean, covariance, count)
    assert samples.shape == (count, 3) and samples.dtype == np.float64
    spread = 5 * np.sqrt(np.diagonal(covariance) / count)
    assert (np.abs(samples.mean(axis=0) - mean) < spread).all()
    found = np.cov(samples.T)
    scale = np.sqrt(np.outer(np.diagonal(covariance), np.diagonal(covariance)))
    assert (np.abs(found - covariance) < 5 * np.sqrt(2 / count) * scale).all()
    # The control: as far from other covariances.
    assert (np.abs(found - np.diag(np.diagonal(covariance))) > 5 * np.sqrt(2 / count) * scale).any()


def test_the_jitter_is_added_to_the_variances():
    nothing = np.zeros([2, 2])
    assert np.ptp(sample(jax.random.key(0), [1.0, 2.0], nothing, 5, jitter=1e-20), axis=0).max() < 1e-9
    close(sample(jax.random.key(0), [0.0, 0.0], nothing, 5), 1e-3 * jax.random.normal(jax.random.key(0), (5, 2)))


# ---- the model -------------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).uniform(0, 3, (9, 2))
Y = np.sin(X[:, 0]) + X[:, 1]
NEW = np.random.default_rng(1).uniform(0, 3, (4, 2))
NOISE = np.linspace(0.1, 0.9, 9)


def started(model, *known):
    return model.init(jax.random.key(0), X, Y, *known)["params"]


def with_values(model, *known):
    """Parameters away from their initial values, so that each of them is noticed."""
    leaves, structure = jax.tree.flatten(started(model, *known))
    return structure.unflatten([leaf + 0.1 + 0.05 * number for number, leaf in enumerate(leaves)])


def by_dense_algebra(covariance, cross, prior, residual):
    inverse = np.linalg.inv(covariance)
    return cross.T @ inverse @ residual, prior - cross.T @ inverse @ cross


@pytest.mark.parametrize("mean", [None, ConstantMean(), LinearMean()], ids=["zero", "constant", "linear"])
@pytest.mark.parametrize("known", [(), (NOISE,)], ids=["a parameter for the noise", "known noise"])
def test_the_model_is_dense_algebra(mean, known):
    model = Regression(Matern32(), mean, noise_variance=None if known else 0.4)
    params = with_values(model, *known)
    kernel = params["kernel"]
    covariance = lambda x1, x2: np.array(gp.matern32(x1, x2, **kernel))  # noqa: E731
    line = {
        None: lambda x: 0,
        ConstantMean: lambda x: params["mean"]["constant"],
        LinearMean: lambda x: x @ params["mean"]["slope"] + params["mean"]["intercept"],
    }[type(mean) if mean else None]
    noise = np.diag(NOISE) if known else params["noise_variance"] * np.eye(9)
    observed = covariance(X, X) + noise
    close(model.apply({"params": params}, X, Y, *known), by_scipy(observed, Y - line(X)))

    wanted = by_dense_algebra(observed, covariance(X, NEW), covariance(NEW, NEW), Y - line(X))
    said = {"noise": known[0]} if known else {}
    predict = lambda **how: model.apply({"params": params}, X, Y, NEW, method="predict", **said, **how)  # noqa: E731
    close(predict(full_covariance=True)[0], wanted[0] + line(NEW))
    close(predict(full_covariance=True)[1], wanted[1])
    close(predict()[0], wanted[0] + line(NEW))
    close(predict()[1], np.diagonal(wanted[1]))
    if not known:
        noise_variance = params["noise_variance"]
        assert [part.shape for part in predict(observed=True)] == [(4,), (4,)]
        close(predict(observed=True)[0], predict()[0])
        close(predict(observed=True)[1] - predict()[1], np.full(4, noise_variance))
        both = predict(observed=True, full_covariance=True)[1] - predict(full_covariance=True)[1]
        np.testing.assert_allclose(both, noise_variance * np.eye(4), atol=1e-14)


def test_the_paths_and_values_of_the_parameters():
    kernel = Sum((SquaredExponential(lengthscales=(1.0, 2.0), name="trend"), Periodic(period=0.5)))
    params = started(Regression(kernel, LinearMean(slope=(3.0, 4.0), intercept=5.0), noise_variance=0.25))
    assert jax.tree.map(np.ndarray.tolist, jax.tree.map(np.asarray, params)) == {
        "kernel": {
            "trend": {"variance": 1.0, "lengthscales": [1.0, 2.0]},
            "parts_1": {"variance": 1.0, "lengthscales": 1.0, "period": 0.5},
        },
        "mean": {"slope": [3.0, 4.0], "intercept": 5.0},
        "noise_variance": 0.25,
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}
    assert started(Regression(SquaredExponential(), ConstantMean(2.0)))["mean"]["constant"] == 2
    assert sorted(started(Regression(SquaredExponential()))) == ["kernel", "noise_variance"]
    assert sorted(started(Regression(SquaredExponential(), noise_variance=None), NOISE)) == ["kernel"]


def test_the_noise_may_be_known_inside_jit():
    params, noise = {"params": PARAMS}, jnp.array(NOISE)
    inside = jax.jit(lambda params: KNOWN.apply(params, X, Y, noise))(params)
    close(inside, KNOWN.apply(params, X, Y, noise))


def test_equal_known_noise_is_the_parameter():
    model, known = Regression(SquaredExponential()), Regression(SquaredExponential(), noise_variance=None)
    params = with_values(model)
    noise = np.full(9, params["noise_variance"])
    close(
        known.apply({"params": {"kernel": params["kernel"]}}, X, Y, noise),
        model.apply({"params": params}, X, Y),
    )


def test_with_little_noise_the_prediction_at_the_data_is_the_data():
    model = Regression(SquaredExponential(), noise_variance=1e-8)
    mean, variance = model.apply({"params": started(model)}, X, Y, X, method="predict")
    np.testing.assert_allclose(mean, Y, atol=1e-5)
    assert variance.max() < 1e-7
    mean, variance = model.apply({"params": started(model)}, X, Y, X + 1000, method="predict")
    assert np.abs(mean).max() == 0 and np.abs(variance - 1).max() == 0


def test_white_noise_in_the_kernel_is_noise():
    model = Regression(SquaredExponential(), noise_variance=0.75)
    split = Regression(Sum((SquaredExponential(), White(0.5))), noise_variance=0.25)
    params, others = started(model), started(split)
    close(split.apply({"params": others}, X, Y), model.apply({"params": params}, X, Y))
    for how in ({}, {"full_covariance": True}):
        one = model.apply({"params": params}, X, Y, NEW, method="predict", observed=True, **how)
        two = split.apply({"params": others}, X, Y, NEW, method="predict", observed=True, **how)
        close(one[0], two[0])
        close(one[1], two[1])


MODEL = Regression(Sum((SquaredExponential(), Periodic())), LinearMean())


def plain_likelihood(params, x, y):
    one, two = params["kernel"]["parts_0"], params["kernel"]["parts_1"]
    covariance = gp.squared_exponential(x, None, **one) + gp.periodic(x, None, **two)
    residual = y - x @ params["mean"]["slope"] - params["mean"]["intercept"]
    return by_autodiff(covariance + params["noise_variance"] * jnp.eye(len(x)), residual)


def test_the_gradient_of_each_parameter():
    params = with_values(MODEL)
    ours = jax.jit(jax.grad(lambda params: MODEL.apply({"params": params}, X, Y)))(params)
    others = jax.jit(jax.grad(lambda params: plain_likelihood(params, X, Y)))(params)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(others), strict=True):
        close(mine, other)
        assert np.abs(mine).min() > 1e-3


def test_restarts_at_once():
    params = with_values(MODEL)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf, 1.2 * leaf]), params)
    many = jax.jit(jax.vmap(lambda params: MODEL.apply({"params": params}, X, Y)))(starts)
    for number, value in enumerate(many):
        close(value, MODEL.apply({"params": jax.tree.map(lambda leaf, n=number: leaf[n], starts)}, X, Y))


def test_one_bad_start_does_not_spoil_the_others():
    params = with_values(MODEL)
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    starts["noise_variance"] = jnp.array([-9.0, 0.5])
    bad, good = jax.jit(jax.vmap(lambda params: MODEL.apply({"params": params}, X, Y)))(starts)
    assert np.isnan(bad) and np.isfinite(good)


class Live(nnx.Module):
    """The same model as `MODEL`, in a container of NNX."""

    def __init__(self, params):
        self.params = nnx.data(jax.tree.map(nnx.Param, params))

    def __call__(self, x, y):
        p = jax.tree.map(lambda leaf: leaf[...], self.params, is_leaf=lambda node: isinstance(node, nnx.Param))
        one, two = p["kernel"]["parts_0"], p["kernel"]["parts_1"]
        covariance = gp.squared_exponential(x, None, **one) + gp.periodic(x, None, **two)
        residual = y - x @ p["mean"]["slope"] - p["mean"]["intercept"]
        return log_density(covariance + p["noise_variance"] * jnp.eye(len(x)), residual)


def test_a_container_of_nnx_gives_the_same_numbers():
    params = with_values(MODEL)
    live = Live(params)
    close(live(X, Y), MODEL.apply({"params": params}, X, Y), rtol=1e-14)
    ours = nnx.as_pure(nnx.jit(nnx.grad(lambda live: live(X, Y)))(live))["params"]
    others = jax.jit(jax.grad(lambda params: MODEL.apply({"params": params}, X, Y)))(params)
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(others), strict=True):
        close(mine, other)


def test_a_fit_raises_the_likelihood_and_leaves_what_is_fixed():
    params = with_values(MODEL)
    loss = lambda params, x, y: -MODEL.apply({"params": params}, x, y)  # noqa: E731
    mask = tr.all_fixed(params, but=["kernel/parts_0", "mean"])
    fitted = tr.fit(loss, params, mask, optax.adam(0.05), 20, args=(X, Y))
    assert fitted.losses[-1] < fitted.losses[0] - 1
    assert tr.moved(params, fitted.params) == mask


# ---- bad input -------------------------------------------------------------------------------------------------------


def called(x=X, y=Y, *known, **changes):
    return MODEL.apply({"params": {**with_values(MODEL), **changes}}, x, y, *known)


def predicted(new_x):
    return MODEL.apply({"params": with_values(MODEL)}, X, Y, new_x, method="predict")


def with_known_noise(*known):
    return KNOWN.apply({"params": PARAMS}, X, Y, *known)


def changed(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


KNOWN = Regression(SquaredExponential(), noise_variance=None)
PARAMS = {"kernel": {"variance": 1.0, "lengthscales": 1.0}}
SINGULAR = (
    "the covariance of 2 points is not positive definite in float64. Check that the variances and lengthscales are"
)

ERRORS = {
    "one observation for all": (lambda: called(y=Y[:1]), ValueError, "y has 1 numbers, but x has 9 rows."),
    "more points than observations": (lambda: called(y=Y[:-1]), ValueError, "y has 8 numbers, but x has 9 rows."),
    "y as in GPflow": (
        lambda: called(y=Y[:, None]),
        ValueError,
        "y must have the shape (N,), a number for each row of x, not (9, 1). Pass y[:, 0].",
    ),
    "two outputs": (
        lambda: called(y=np.ones([9, 2])),
        ValueError,
        "y must have the shape (N,), a number for each row of x, not (9, 2).",
    ),
    "points with one coordinate": (
        lambda: called(x=X[:, 0]),
        ValueError,
        "x must have the shape (N, D), a row for each point, not (9,). If the points have one coordinate, pass "
        "x[:, None].",
    ),
    "points with too many axes": (
        lambda: called(x=X[None]),
        ValueError,
        "x must have the shape (N, D), a row for each point, not (1, 9, 2).",
    ),
    "no data": (lambda: called(X[:0], Y[:0]), ValueError, "x is empty: it has the shape (0, 2)."),
    "a point that is NaN": (
        lambda: called(x=changed(X, (3, 1), np.nan)),
        ValueError,
        "x has a value that is not finite: x[3, 1] is nan.",
    ),
    "an observation that is NaN": (
        lambda: called(y=changed(Y, 4, np.nan)),
        ValueError,
        "y has a value that is not finite: y[4] is nan.",
    ),
    "an observation that is infinite": (
        lambda: called(y=changed(Y, 4, -np.inf)),
        ValueError,
        "y has a value that is not finite: y[4] is -inf.",
    ),
    "a parameter that is NaN": (
        lambda: called(noise_variance=np.nan),
        ValueError,
        "covariance has a value that is not finite: covariance[0, 0] is nan.",
    ),
    "a noise variance that is negative": (
        lambda: called(noise_variance=-9.0),
        ValueError,
        "the covariance of 9 points is not positive definite in float64. Check that the variances and lengthscales are",
    ),
    "a bad start of an eager gradient": (
        lambda: jax.grad(lambda noise: called(noise_variance=noise))(-9.0),
        ValueError,
        "the covariance of 9 points is not positive definite in float64.",
    ),
    "points that coincide, without noise": (
        lambda: KNOWN.apply({"params": PARAMS}, np.zeros([2, 1]), [1.0, 2.0], [0.0, 0.0]),
        ValueError,
        f"{SINGULAR} positive. Then use a larger noise variance or jitter, leave out points that coincide, or use "
        "64-bit floats.",
    ),
    "noise that is known twice": (
        lambda: called(X, Y, NOISE),
        ValueError,
        "noise would take the place of the parameter noise_variance, which then would do nothing. For known noise, "
        "make the model with noise_variance=None.",
    ),
    "noise that is not known at all": (
        lambda: with_known_noise(),
        ValueError,
        "noise is missing: a model with noise_variance=None needs the variance for each point.",
    ),
    "noise of another length": (
        lambda: with_known_noise(NOISE[:3]),
        ValueError,
        "noise has 3 numbers, but x has 9 rows.",
    ),
    "one noise for all": (
        lambda: with_known_noise(0.1),
        ValueError,
        "noise must have the shape (N,), a number for each row of x, not ().",
    ),
    "negative noise": (
        lambda: with_known_noise(-NOISE),
        ValueError,
        "noise holds variances, but its smallest value is -0.9.",
    ),
    "noise that is NaN": (
        lambda: with_known_noise(changed(NOISE, 1, np.nan)),
        ValueError,
        "noise has a value that is not finite: noise[1] is nan.",
    ),
    "new points with one coordinate": (
        lambda: predicted(NEW[:, 0]),
        ValueError,
        "new_x must have the shape (N, D), a row for each point, not (4,).",
    ),
    "new points with another number of columns": (
        lambda: predicted(NEW[:, :1]),
        ValueError,
        "new_x has 1 columns, but x has 2.",
    ),
    "no new points": (lambda: predicted(NEW[:0]), ValueError, "new_x is empty: it has the shape (0, 2)."),
    "a new point that is NaN": (
        lambda: predicted(changed(NEW, 0, np.nan)),
        ValueError,
        "new_x has a value that is not finite: new_x[0, 0] is nan.",
    ),
    "observations at new points, of unknown noise": (
        lambda: KNOWN.apply({"params": PARAMS}, X, Y, NEW, noise=NOISE, observed=True, method="predict"),
        ValueError,
        "the noise at the new points is not known. Predict without observed, and add its variance yourself.",
    ),
    "bad data in a prediction": (
        lambda: MODEL.apply({"params": with_values(MODEL)}, X, Y[:-1], NEW, method="predict"),
        ValueError,
        "y has 8 numbers, but x has 9 rows.",
    ),
    "a covariance that is not square": (
        lambda: log_density(np.ones([2, 3]), np.ones(2)),
        ValueError,
        "covariance must have the shape (N, N), not (2, 3).",
    ),
    "a covariance of nothing": (
        lambda: log_density(np.ones([0, 0]), np.ones(0)),
        ValueError,
        "covariance is empty: it has the shape (0, 0).",
    ),
    "a residual of another length": (
        lambda: log_density(np.eye(2), np.ones(3)),
        ValueError,
        "residual has 3 numbers, but covariance has 2 rows.",
    ),
    "a residual that is NaN": (
        lambda: log_density(np.eye(2), [0.0, np.nan]),
        ValueError,
        "residual has a value that is not finite: residual[1] is nan.",
    ),
    "a covariance that is NaN": (
        lambda: log_density(changed(np.eye(2), (1, 0), np.nan), np.ones(2)),
        ValueError,
        "covariance has a value that is not finite: covariance[1, 0] is nan.",
    ),
    "a covariance that is singular": (lambda: log_density(np.ones([2, 2]), np.ones(2)), ValueError, SINGULAR),
    "a covariance of single precision": (
        lambda: log_density(np.ones([2, 2], np.float32), np.ones(2, np.float32)),
        ValueError,
        "is not positive definite in float32",
    ),
    "conditioning on a singular covariance": (
        lambda: condition(np.ones([2, 2]), np.ones([2, 1]), [1.0], np.ones(2)),
        ValueError,
        SINGULAR,
    ),
    "conditioning with the axes exchanged": (
        lambda: condition(np.eye(2), np.ones([3, 2]), np.ones(3), np.ones(2)),
        ValueError,
        "cross must have the shape (2, M), not (3, 2).",
    ),
    "conditioning with a prior of something else": (
        lambda: condition(np.eye(2), np.ones([2, 3]), np.ones(1), np.ones(2)),
        ValueError,
        "prior must have the shape (3,) or (3, 3), not (1,).",
    ),
    "conditioning on another number of values": (
        lambda: condition(np.eye(2), np.ones([2, 3]), np.ones(3), np.ones(3)),
        ValueError,
        "residual has 3 numbers, but covariance has 2 rows.",
    ),
    "conditioning on a matrix that is not square": (
        lambda: condition(np.ones([2, 1]), np.ones([2, 3]), np.ones(3), np.ones(2)),
        ValueError,
        "covariance must have the shape (N, N), not (2, 1).",
    ),
    "conditioning with NaN": (
        lambda: condition(np.eye(2), np.ones([2, 1]), [np.nan], np.ones(2)),
        ValueError,
        "prior has a value that is not finite: prior[0] is nan.",
    ),
    "no samples": (
        lambda: sample(jax.random.key(0), [0.0], [[1.0]], 0),
        ValueError,
        "count must be a positive integer, not 0.",
    ),
    "samples of a singular distribution, without jitter": (
        lambda: sample(jax.random.key(0), np.zeros(2), np.ones([2, 2]), 3, jitter=0.0),
        ValueError,
        SINGULAR,
    ),
    "samples from variances": (
        lambda: sample(jax.random.key(0), np.zeros(2), np.ones(2), 3),
        ValueError,
        "covariance must have the shape (N, N), not (2,).",
    ),
    "samples with a mean of another length": (
        lambda: sample(jax.random.key(0), np.zeros(3), np.eye(2), 3),
        ValueError,
        "mean has 3 numbers, but covariance has 2 rows.",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_error(case):
    check_error(case)


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(gp, ERRORS)


def test_inside_jit_bad_values_give_nan_and_bad_shapes_an_error():
    params = with_values(MODEL)
    value = jax.jit(lambda params, x, y: MODEL.apply({"params": params}, x, y))
    predict = jax.jit(lambda params, x, y: MODEL.apply({"params": params}, x, y, NEW, method="predict"))
    assert np.isfinite(value(params, X, Y)) and np.isfinite(predict(params, X, Y)).all()
    negative = {**params, "noise_variance": jnp.array(-9.0)}
    for arguments in ((negative, X, Y), (params, changed(X, 3, np.nan), Y), (params, X, changed(Y, 3, np.nan))):
        assert np.isnan(value(*arguments))
        assert np.isnan(predict(*arguments)[0]).all()
    for arguments in ((params, X, Y[:-1]), (params, X[:, 0], Y), (params, X[:0], Y[:0])):
        with pytest.raises(ValueError, match=r"^[xy] "):
            value(*arguments)
    samples = jax.jit(lambda covariance: sample(jax.random.key(0), [0.0, 0.0], covariance, 2))
    assert np.isnan(samples(-np.eye(2))[:, 1]).all() and np.isfinite(samples(np.ones([2, 2]))).all()


def test_every_function_has_an_example_that_runs():
    check_examples(gp)
