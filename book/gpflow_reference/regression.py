"""GP regression in GPflow: kernels, and a model of the CO2 data, at five settings.

`make gpflow` runs `run()` and compares what it gives with regression.json, which
chapter 9a reads. The chapter shows the lines between `# show NAME` and `# end`. The
parameters of a model are in nested dictionaries, under the names of the Flax model.
"""

import pathlib

import gpflow
import numpy as np
import tensorflow as tf
from scipy import stats

# A small number of a gradient carries the rounding of the largest one, a thousand
# times as large: so another processor changes it more, relative to itself.
RTOL = 1e-7

kernels = gpflow.kernels

# ---- data ------------------------------------------------------------------------


def co2():
    """Years since 1980, ppm above 340 and weeks: every fifth month before 1992."""
    file = pathlib.Path(__file__).parents[1] / "data" / "co2.csv"
    rows = np.loadtxt(file, delimiter=",", skiprows=1)
    year, month, ppm, weeks = rows[rows[:, 0] < 1992][::5].T
    x, y = year + (month - 0.5) / 12 - 1980, ppm - 340
    return x[:, None], y[:, None], weeks[:, None]


def with_season(x):
    """Two columns: the time, and the share of its year that is over."""
    return np.hstack([x, x % 1])


# The start of 1970, and a spring of the forecast.
NEW_X = np.array([[-10.0], [14.25]])

# ---- kernels ---------------------------------------------------------------------


# show periodic
def periodic(variance, lengthscales, period):
    base = kernels.SquaredExponential(variance, lengthscales)
    return kernels.Periodic(base, period)


# end


def columns_of(both, second):
    both = kernels.SquaredExponential(**both)
    return both + kernels.Matern32(**second, active_dims=[1])


# show co2
def co2_kernel(trend, season, irregular):
    trend = kernels.SquaredExponential(**trend)
    cycle = periodic(**season["cycle"])
    drift = kernels.SquaredExponential(**season["drift"])
    irregular = kernels.Matern32(**irregular)
    return trend + cycle * drift + irregular


# end


def sum_of(smooth, straight):
    return kernels.SquaredExponential(**smooth) + kernels.Linear(**straight)


def product_of(cycle, straight):
    return periodic(**cycle) * kernels.Linear(**straight)


STRAIGHT = {"variance": 2.0}
SMOOTH = {"variance": 100.0, "lengthscales": 10.0}
SMOOTH_2 = {"variance": 100.0, "lengthscales": [10.0, 0.5]}
WAVE = {"variance": 1.0, "lengthscales": 1.0}
CYCLE = {"variance": 9.0, "lengthscales": 0.8, "period": 1.0}
CO2 = {
    "kernel": {
        "trend": {"variance": 20.0, "lengthscales": 20.0},
        "season": {
            "cycle": CYCLE,
            "drift": {"variance": 1.0, "lengthscales": 100.0},
        },
        "irregular": {"variance": 0.2, "lengthscales": 1.0},
    },
    "mean": {"slope": [1.2], "intercept": 1.0},
    "noise_variance": 0.1,
}


def only(kernel):
    return {"kernel": kernel, "noise_variance": 4.0}


# Each: what makes the kernel, and the first of the five settings.
CASES = {
    "squared_exponential": (kernels.SquaredExponential, only(SMOOTH)),
    "matern12": (kernels.Matern12, only(SMOOTH)),
    "matern32": (kernels.Matern32, only(SMOOTH)),
    "matern52": (kernels.Matern52, only(SMOOTH)),
    "rational_quadratic": (
        kernels.RationalQuadratic,
        only({**SMOOTH, "alpha": 1.0}),
    ),
    "periodic": (periodic, only(CYCLE)),
    "linear": (kernels.Linear, only(STRAIGHT)),
    "constant": (kernels.Constant, only({"variance": 100.0})),
    "white": (kernels.White, only({"variance": 100.0})),
    "sum": (sum_of, only({"smooth": SMOOTH, "straight": STRAIGHT})),
    "product": (product_of, only({"cycle": CYCLE, "straight": STRAIGHT})),
    "columns": (columns_of, only({"both": SMOOTH_2, "second": WAVE})),
    "constant_mean": (
        kernels.SquaredExponential,
        {**only(SMOOTH), "mean": {"constant": 5.0}},
    ),
    "co2": (co2_kernel, CO2),
}

# ---- models ----------------------------------------------------------------------


# show model
def model_of(make_kernel, params, x, y):
    return gpflow.models.GPR(
        data=(x, y),
        kernel=make_kernel(**params["kernel"]),
        mean_function=mean_of(**params.get("mean", {})),
        noise_variance=params["noise_variance"],
    )


# end


# show known
class KnownNoise(gpflow.functions.Function):
    """The noise variance of each point, as a function of its time."""

    def __init__(self, x, noise):
        super().__init__()
        self.times, self.noise = tf.constant(x[:, 0]), tf.constant(noise)

    def __call__(self, x):
        return tf.gather(self.noise, tf.searchsorted(self.times, x[:, 0]))


def model_with_known_noise(make_kernel, params, x, y, noise):
    return gpflow.models.GPR(
        data=(x, y),
        kernel=make_kernel(**params["kernel"]),
        mean_function=mean_of(**params.get("mean", {})),
        likelihood=gpflow.likelihoods.Gaussian(KnownNoise(x, noise)),
    )


# end


def mean_of(constant=None, slope=None, intercept=None):
    if slope is not None:
        return gpflow.functions.Linear(np.reshape(slope, [-1, 1]), intercept)
    return None if constant is None else gpflow.functions.Constant(constant)


def parameters_of(model, params):
    """The GPflow parameters of a model, in dictionaries like those of `params`."""
    mean = model.mean_function
    named = {"kernel": kernel_parameters(model.kernel, params["kernel"])}
    if "slope" in params.get("mean", {}):
        named["mean"] = {"slope": mean.A, "intercept": mean.b}
    elif "mean" in params:
        named["mean"] = {"constant": mean.c}
    if "noise_variance" in params:
        named["noise_variance"] = model.likelihood.variance
    return named


def kernel_parameters(kernel, params):
    if isinstance(kernel, kernels.Combination):
        parts = map(kernel_parameters, kernel.kernels, params.values())
        return dict(zip(params, parts, strict=True))
    if isinstance(kernel, kernels.Periodic):
        base = kernel_parameters(kernel.base_kernel, ["variance", "lengthscales"])
        return {**base, "period": kernel.period}
    return {name: getattr(kernel, name) for name in params}


def for_each(function, tree):
    if isinstance(tree, dict):
        return {name: for_each(function, below) for name, below in tree.items()}
    return function(tree)


def leaves(tree):
    """All numbers of a tree, in the alphabetical order of their names."""
    if isinstance(tree, dict):
        return np.concatenate([leaves(tree[name]) for name in sorted(tree)])
    return np.ravel(tree)


def plain(array):
    """A number or a list of numbers; the slopes of a linear mean are a column."""
    array = np.asarray(array)
    return (array[:, 0] if array.ndim == 2 else array).tolist()


def gradients_of(model, parameters):
    """Those of the log marginal likelihood, to the unconstrained variables."""
    with tf.GradientTape() as tape:
        value = model.log_marginal_likelihood()
    variables = for_each(lambda leaf: leaf.unconstrained_variable, parameters)
    return for_each(plain, tape.gradient(value, variables))


# ---- the record ------------------------------------------------------------------


def settings_of(first):
    """Five settings: the first, and four with each number multiplied at random."""
    random = np.random.default_rng(0)

    def change(value):
        factor = np.exp(random.uniform(-0.5, 0.5, np.shape(value)))
        return np.round(value * factor, 3).tolist()

    return [first, *(for_each(change, first) for _ in range(4))]


def numbers_of(model, params, new_x):
    """What the record holds of a model, whose parameters are at `params`."""
    x, y = model.data
    noise = model.likelihood.variance_at(x).numpy()[:, 0]
    covariance = model.kernel(x).numpy() + np.diag(noise)
    condition = np.linalg.cond(covariance)
    assert condition < 1e8

    # GPflow adds no jitter to the covariance of its GPR: the noise is enough.
    value = model.log_marginal_likelihood().numpy()
    prior = model.mean_function(x).numpy()[:, 0]
    dense = stats.multivariate_normal.logpdf(y[:, 0], prior, covariance)
    np.testing.assert_allclose(value, dense, rtol=1e-10)

    # Each parameter has the value that stands under its name.
    parameters = parameters_of(model, params)
    values = for_each(lambda leaf: leaf.numpy(), parameters)
    np.testing.assert_allclose(leaves(values), leaves(params), rtol=1e-9)

    mean, full = model.predict_f(new_x, full_cov=True)
    _, variance = model.predict_f(new_x)
    np.testing.assert_allclose(np.diag(full[0]), variance[:, 0], rtol=1e-9)
    return {
        "params": params,
        "condition": float(f"{condition:.2g}"),
        "log_marginal_likelihood": float(value),
        "gradients": gradients_of(model, parameters),
        "mean": plain(mean),
        "variance": plain(variance),
        "covariance": full[0].numpy().tolist(),
    }


def observed_variance(model, new_x):
    """The variance of new observations: that of the function, and the noise."""
    _, observed = model.predict_y(new_x)
    _, latent = model.predict_f(new_x)
    noise = model.likelihood.variance.numpy()
    np.testing.assert_allclose(observed, latent + noise, rtol=1e-9)
    return {"observed_variance": plain(observed)}


def record_of(name):
    """The five rows of a case."""
    make_kernel, first = CASES[name]
    x, y, _ = co2()
    columns = with_season if name == "columns" else np.asarray
    rows = []
    for params in settings_of(first):
        model = model_of(make_kernel, params, columns(x), y)
        row = numbers_of(model, params, columns(NEW_X))
        rows.append({**row, **observed_variance(model, columns(NEW_X))})
    return rows


def known_noise():
    """The CO2 model where the noise variance of each month is 0.3 / weeks."""
    x, y, weeks = co2()
    first = {"kernel": CO2["kernel"], "mean": CO2["mean"]}
    rows = []
    for params in settings_of(first):
        model = model_with_known_noise(co2_kernel, params, x, y, 0.3 / weeks)
        rows.append(numbers_of(model, params, NEW_X))
        noise = model.likelihood.variance_at(x).numpy()
        np.testing.assert_allclose(noise, 0.3 / weeks, rtol=1e-12)
    return rows


def run():
    claims()
    return {
        **{name: record_of(name) for name in CASES},
        "known_noise": known_noise(),
    }


# ---- claims ----------------------------------------------------------------------


def claims():
    gradients()
    conventions()
    settings()
    co2_model()


def co2_model():
    """The first setting of the CO2 model, for the mutants."""
    x, y, _ = co2()
    model = model_of(co2_kernel, CO2, x, y)
    assert len(x) == 81
    numbers_of(model, CO2, NEW_X)
    observed_variance(model, NEW_X)


def settings():
    """The five settings are different ones."""
    rows = [leaves(params) for params in settings_of(CO2)]
    assert len({tuple(row) for row in rows}) == 5


def gradients():
    """The gradients of the CO2 model are those of finite differences."""
    x, y, _ = co2()
    model = model_of(co2_kernel, CO2, x, y)
    parameters = parameters_of(model, CO2)

    def slope(parameter):
        variable, values = parameter.unconstrained_variable, []
        start = variable.numpy()
        for step in (1e-5, -1e-5):
            variable.assign(start + step)
            values.append(model.log_marginal_likelihood().numpy())
        variable.assign(start)
        return (values[0] - values[1]) / 2e-5

    found = leaves(gradients_of(model, parameters))
    expected = leaves(for_each(slope, parameters))
    # Relative to the largest: the differences are those of numbers near 80.
    scale = np.abs(found).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * scale)


def conventions():
    """What GPflow's kernels and parameters mean, where other libraries differ."""
    here, half = np.array([[0.0]]), np.array([[0.5]])
    both = np.vstack([here, half])

    cycle = periodic(2.0, 0.8, 1.0)
    at_half = 2.0 * np.exp(-0.5 / 0.8**2)
    np.testing.assert_allclose(cycle(here, half), at_half, rtol=1e-12)

    straight = kernels.Linear([2.0, 3.0])
    ones = np.ones([1, 2])
    np.testing.assert_allclose(straight(ones), 5.0, rtol=1e-12)

    white = kernels.White(2.0)
    assert np.array_equal(white(both), 2.0 * np.eye(2))
    assert np.array_equal(white(both, both), np.zeros([2, 2]))

    # softplus; the noise variance is shifted by 1e-6
    variable = cycle.period.unconstrained_variable
    softplus = np.log1p(np.exp(variable))
    np.testing.assert_allclose(softplus, 1.0, rtol=1e-12)
    likelihood = gpflow.likelihoods.Gaussian(0.1)
    softplus = np.log1p(np.exp(likelihood.variance.unconstrained_variable))
    np.testing.assert_allclose(softplus, 0.1 - 1e-6, rtol=1e-10)


if __name__ == "__main__":
    print(run()["co2"][0])
