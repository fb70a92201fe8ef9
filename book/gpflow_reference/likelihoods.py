"""Sparse variational GPs in GPflow with other likelihoods than Gaussian noise.

`make gpflow` compares what `run()` gives with likelihoods.json, which chapters 11a,
11b and 11c read. The chapters show the lines between `# show NAME` and `# end`. The
record holds the data and all settings, with the names and shapes of the Flax model.
"""

import pathlib
import runpy

import gpflow
import numpy as np
import tensorflow as tf

# As in regression.py: a small number of a gradient carries the rounding of the
# largest one.
RTOL = 1e-7

sparse = runpy.run_path(str(pathlib.Path(__file__).with_name("sparse.py")))
columns, plain = sparse["columns"], sparse["plain"]
message, summary_of = sparse["message"], sparse["summary_of"]

# ---- data ------------------------------------------------------------------------


def penguins(every, species):
    """Length and depth of the bill, and the species: 0, 1 or 2."""
    kind, length, depth, _, _ = columns("penguins")[
        :, columns("penguins")[0] < species
    ]
    x = np.stack([(length - 44) / 5.5, (depth - 17) / 2], 1).round(3)
    return x[::every], kind[::every, None].astype(int)


def two_species():
    x, y = penguins(6, species=2)
    return x, y.astype(float)


def three_species():
    return penguins(18, species=3)


def cancelled():
    """Thirds of a month since the start of 2013, flights that were cancelled."""
    day, _, cancelled = columns("flights")[:, ::25]
    return day[:, None] / 10, cancelled[:, None]


def scheduled():
    return columns("flights")[1, ::25, None]


def engel():
    """Income and spending on food, in units of about a standard deviation."""
    income, food = columns("engel")[:, ::6]
    return ((income - 1000) / 500)[:, None].round(3), ((food - 600) / 300)[:, None]


NEW_BILLS = np.array([[-1.0, 0.8], [0.9, 0.7], [0.2, -0.5], [3.0, 3.0]])
NEW_INCOMES = np.array([[-0.8], [0.3], [6.0]])

# ---- models ----------------------------------------------------------------------

# show bernoulli
bernoulli = gpflow.likelihoods.Bernoulli()
# end


# show softmax
def softmax(classes):
    return gpflow.likelihoods.Softmax(classes)


# end


# show robust_max
def robust_max(classes, epsilon):
    link = gpflow.likelihoods.RobustMax(classes, epsilon)
    return gpflow.likelihoods.MultiClass(classes, link)


# end


# show poisson
def poisson(exposure):
    return gpflow.likelihoods.Poisson(binsize=exposure)


# end


# show student_t
def student_t(scale, degrees_of_freedom):
    return gpflow.likelihoods.StudentT(scale, df=degrees_of_freedom)


# end


# show heteroskedastic
def heteroskedastic():
    return gpflow.likelihoods.HeteroskedasticTFPConditional()


# end

BILLS = {"variance": 2.0, "lengthscales": [1.0, 1.5]}
INCOMES = {"variance": 0.8, "lengthscales": 1.5}

# Each: the data, new points and new observations, what makes the likelihood, the
# number of latent functions, and the first of the three settings.
CASES = {
    "bernoulli": (
        two_species,
        (NEW_BILLS, [[0.0], [1.0], [1.0], [0.0]]),
        lambda: bernoulli,
        1,
        {"kernel": BILLS, "inducing": [[-1.0, 1.0], [0.5, 0.5], [1.2, 1.0]]},
    ),
    "softmax": (
        three_species,
        (NEW_BILLS, [[0], [1], [2], [1]]),
        lambda: softmax(3),
        3,
        {"kernel": BILLS, "inducing": [[-1.0, 1.0], [1.0, 0.5], [0.5, -1.0]]},
    ),
    "robust_max": (
        three_species,
        (NEW_BILLS, [[0], [1], [2], [1]]),
        lambda epsilon: robust_max(3, epsilon),
        3,
        {
            "kernel": BILLS,
            "likelihood": {"epsilon": 1e-3},
            "inducing": [[-1.0, 1.0], [1.0, 0.5], [0.5, -1.0]],
        },
    ),
    "poisson": (
        cancelled,
        None,
        lambda: poisson(scheduled()),
        1,
        {
            "kernel": {"variance": 1.0, "lengthscales": 10.0},
            "mean": {"constant": -4.0},
            "inducing": [[4.0], [12.0], [20.0], [28.0]],
        },
    ),
    "student_t": (
        engel,
        (NEW_INCOMES, [[-0.8], [2.0], [4.0]]),
        lambda scale: student_t(scale, degrees_of_freedom=3.0),
        1,
        {
            "kernel": INCOMES,
            "likelihood": {"scale": 0.3},
            "inducing": [[-1.0], [0.0], [1.0], [4.0]],
        },
    ),
    "heteroskedastic": (
        engel,
        (NEW_INCOMES, [[-0.8], [2.0], [4.0]]),
        heteroskedastic,
        2,
        {"kernel": INCOMES, "inducing": [[-1.0], [0.0], [1.0], [4.0]]},
    ),
}


def data_of(name):
    """Data, new points and new observations: for counts, those of the data.

    The exposures belong to the likelihood, and there are as many as there are data.
    """
    data = CASES[name][0]()
    new_x, new_y = CASES[name][1] or data
    return data, np.array(new_x), np.array(new_y)


def settings_of(name):
    *_, latents, first = CASES[name]
    return sparse["settings_of"](first, latents, spacing=0.3)


def not_whitened(params):
    """The same distribution of the function without whitening, but for rounding."""
    kernel = gpflow.kernels.SquaredExponential(**params["kernel"])
    z, q = np.array(params["inducing"]), params["q"]
    factor = np.linalg.cholesky(kernel(z) + 1e-6 * np.eye(len(z)))
    q = {name: np.round(factor @ q[name], 3).tolist() for name in q}
    return {**params, "q": q}


def model_of(name, params, whiten):
    make_likelihood = CASES[name][2]
    likelihood = make_likelihood(**params.get("likelihood", {}))
    return sparse["svgp_of"](likelihood, params, whiten)


# ---- the record ------------------------------------------------------------------


def row_of(name, params, whiten):
    """What the record holds of a model at one setting."""
    data, new_x, new_y = data_of(name)
    model = model_of(name, params, whiten)
    if name == "softmax":
        model.likelihood = WithDraws(model.likelihood)
    row = sparse["numbers_of"](model, params, data, new_x)
    del row["covariance"]
    row |= sparse["observations_of"](model, new_x, new_y)
    if name == "softmax":
        model.likelihood = model.likelihood.softmax
        row["monte_carlo"] = monte_carlo(model, data)
    return row


# Standard normal numbers for eight samples at each point, the same for ever.
DRAWS = np.random.RandomState(1).randn(8, 19, 3).round(3)


class WithDraws:
    """The softmax likelihood with the same draws in each call.

    GPflow's own takes them as `epsilon`, but its public methods do not pass it on.
    """

    def __init__(self, softmax):
        self.softmax = softmax

    def draws(self, mean):
        self.softmax.num_monte_carlo_points = len(DRAWS)
        return tf.constant(DRAWS[:, : len(mean)])

    def variational_expectations(self, x, mean, variance, y):
        return self.softmax._variational_expectations(
            x, mean, variance, y, epsilon=self.draws(mean)
        )

    def predict_mean_and_var(self, x, mean, variance):
        return self.softmax._predict_mean_and_var(
            x, mean, variance, epsilon=self.draws(mean)
        )

    def predict_log_density(self, x, mean, variance, y):
        return self.softmax._predict_log_density(
            x, mean, variance, y, epsilon=self.draws(mean)
        )


def monte_carlo(model, data):
    """The ELBO with GPflow's own draws: the mean of ten, and its standard error."""
    tf.random.set_seed(0)
    model.likelihood.num_monte_carlo_points = 10_000
    elbos = [float(model.elbo(data)) for _ in range(10)]
    error = np.std(elbos, ddof=1) / np.sqrt(10)
    assert error < 1e-3 * abs(np.mean(elbos))
    return {"elbo": np.mean(elbos), "standard_error": error}


def record_of(name):
    """Data, and three settings with whitening and without."""
    (x, y), new_x, new_y = data_of(name)
    rows = settings_of(name)
    return {
        "x": x.tolist(),
        "y": plain(y),
        "new_x": new_x.tolist(),
        "new_y": plain(new_y),
        "whitened": [row_of(name, params, whiten=True) for params in rows],
        "not_whitened": [
            row_of(name, not_whitened(params), whiten=False) for params in rows
        ],
        **({"exposure": plain(scheduled())} if name == "poisson" else {}),
        **({"draws": DRAWS.tolist()} if name == "softmax" else {}),
        **({"degrees_of_freedom": 3.0} if name == "student_t" else {}),
    }


def run():
    claims()
    return {
        **{name: record_of(name) for name in CASES},
        "densities": densities(),
        "mistakes": mistakes(),
    }


# ---- log densities ---------------------------------------------------------------


def densities():
    """The log density of observations at values of the latent functions."""
    f = np.array([[-3.0, 0.5, 2.0], [0.0, -0.4, 1.5], [1.7, 0.3, -1.0]])
    binary, counts, real = (
        [[0.0], [1.0], [1.0]],
        [[0.0], [3.0], [40.0]],
        [[0.1]] * 3,
    )
    exposure = np.array([[100.0], [2.0], [7.5]])
    cases = {
        "gaussian": (gpflow.likelihoods.Gaussian(0.3), 1, real),
        "bernoulli": (bernoulli, 1, binary),
        "softmax": (softmax(3), 3, [[0], [1], [2]]),
        "robust_max": (robust_max(3, 1e-3), 3, [[0], [1], [0]]),
        "poisson": (poisson(exposure), 1, counts),
        "student_t": (student_t(0.3, 3.0), 1, real),
        "heteroskedastic": (heteroskedastic(), 2, real),
    }
    found = {"exposure": plain(exposure)}
    for name, (likelihood, latents, y) in cases.items():
        density = likelihood.log_prob(np.zeros([3, 1]), f[:, :latents], np.array(y))
        found[name] = {
            "f": plain(f[:, :latents]),
            "y": plain(y),
            "log_density": plain(density),
        }
    return found


# ---- claims ----------------------------------------------------------------------


def claims():
    conventions()
    exact()
    fixed()


def first_row(name):
    return row_of(name, settings_of(name)[0], whiten=True)


def softmax_row():
    """A row whose ELBO is an average over draws, for a mutant."""
    first_row("softmax")


def conventions():
    """What GPflow's likelihoods mean, where other libraries differ."""
    point = np.zeros([1, 1])

    def probability(likelihood, f, y):
        return np.exp(likelihood.log_prob(point, np.array(f), np.array(y)))[0]

    # The probit is squeezed to between 0.001 and 0.999.
    high = probability(bernoulli, [[9.0]], [[1.0]])
    np.testing.assert_allclose(high, 0.999, rtol=1e-12)
    half = probability(bernoulli, [[0.0]], [[1.0]])
    np.testing.assert_allclose(half, 0.5, rtol=1e-12)

    # epsilon is shared by the classes whose function is not the largest.
    link, f = robust_max(3, 0.1), [[1.0, 3.0, 2.0]]
    found = [probability(link, f, [[y]]) for y in range(3)]
    np.testing.assert_allclose(found, [0.05, 0.9, 0.05], rtol=1e-12)

    # The scale of the noise is the exponential of the second function.
    at_scale = probability(heteroskedastic(), [[0.0, np.log(2.0)]], [[0.0]])
    np.testing.assert_allclose(at_scale, 0.5 / np.sqrt(2 * np.pi), rtol=1e-12)

    # exposure * exp(f) are expected.
    none = probability(poisson(np.array([[3.0]])), [[np.log(2.0)]], [[0.0]])
    np.testing.assert_allclose(none, np.exp(-6.0), rtol=1e-12)


def exact():
    """GPflow's quadrature agrees with closed forms at these settings.

    It has 20 points, or 20 * 20 for two functions. That is enough, since the
    variances of the functions are not large.
    """
    count = first_row("poisson")
    exposure = scheduled()[:, 0]
    mean, variance = np.array(count["mean"]), np.array(count["variance"])
    expected = exposure * np.exp(mean + variance / 2)
    np.testing.assert_allclose(count["observed_mean"], expected, rtol=1e-9)
    spread = expected + expected**2 * np.expm1(variance)
    np.testing.assert_allclose(count["observed_variance"], spread, rtol=1e-9)

    noise = first_row("heteroskedastic")
    mean, variance = np.array(noise["mean"]), np.array(noise["variance"])
    spread = variance[:, 0] + np.exp(2 * (mean[:, 1] + variance[:, 1]))
    np.testing.assert_allclose(noise["observed_variance"], spread, rtol=1e-9)


def fixed():
    """What trains from the start: epsilon does not, and the scale does."""
    model = first_model("robust_max")
    epsilon = model.likelihood.invlink.epsilon
    assert not epsilon.trainable
    # show free
    gpflow.set_trainable(model, True)
    # end
    assert epsilon.trainable
    model = first_model("student_t")
    assert model.likelihood.scale.trainable
    # The degrees of freedom are a plain number, and never train.
    assert isinstance(model.likelihood.df, float)


# ---- mistakes --------------------------------------------------------------------


def first_model(name):
    return model_of(name, settings_of(name)[0], whiten=True)


def labels():
    """Bernoulli takes every label but 1 for 0: -1 is right, and 2 is wrong."""
    model, (x, y) = first_model("bernoulli"), two_species()
    right = float(model.elbo((x, y)))
    signs = float(model.elbo((x, 2 * y - 1)))
    shifted = float(model.elbo((x, y + 1)))
    assert signs == right and abs(shifted - right) > 0.1
    return {"0 and 1": right, "-1 and 1": signs, "1 and 2": shifted}


def classes_from_one():
    """Robust-max takes classes from 1 to 3 in place of 0 to 2, without a word."""
    model, (x, y) = first_model("robust_max"), three_species()
    right, shifted = float(model.elbo((x, y))), float(model.elbo((x, y + 1)))
    assert abs(shifted - right) > 1
    return {"0 to 2": right, "1 to 3": shifted}


def one_function_for_three_classes():
    """An error of the softmax. Robust-max spreads the function over all classes."""
    data, params = three_species(), settings_of("softmax")[0]
    q = {"mean": [[0.5], [0.1], [-0.4]], "root": [np.eye(3)]}
    model = sparse["svgp_of"](softmax(3), {**params, "q": q}, whiten=True)
    said = message(lambda: model.elbo(data), "InvalidArgumentError", "label value")
    model = sparse["svgp_of"](robust_max(3, 1e-3), {**params, "q": q}, whiten=True)
    mean, _ = model.predict_f(data[0])
    probabilities, _ = model.predict_y(data[0])
    assert mean.shape == (19, 1) and np.isfinite(model.elbo(data))
    np.testing.assert_allclose(
        probabilities, probabilities[:1] + 0 * mean, rtol=1e-12
    )
    return {
        "softmax": said.split("}} ")[1].split(".")[0],
        "robust_max": plain(probabilities[0]),
    }


def epsilon_is_free():
    """One call for the whole model also frees epsilon, without a word."""
    model = first_model("robust_max")

    def line():
        (found,) = [line for line in summary_of(model) if "epsilon" in line]
        return found.rsplit(maxsplit=1)[0]  # without the value and its last digits

    before = line()
    gpflow.set_trainable(model, True)
    assert before != line()
    return {"before": before, "after": line()}


def without_device(call):
    said = message(call, "InvalidArgumentError", "ncompatible shapes")
    kind, shapes = said.split(": ")[0], said.split("}} ")[1].split(" [Op")[0]
    return f"{kind}: {shapes}"


def exposure_elsewhere():
    """The exposures belong to the data points, so counts elsewhere are an error."""
    model = first_model("poisson")
    return without_device(lambda: model.predict_y(np.array([[1.0], [2.0]])))


def exposure_of_a_minibatch():
    """A minibatch has fewer points than there are exposures."""
    model = first_model("poisson")
    x, y = cancelled()
    return without_device(lambda: model.elbo((x[:5], y[:5])))


def exposure_of_other_days():
    """A batch of the same size gets the exposures of other days, without a word."""
    model = first_model("poisson")
    x, _ = cancelled()
    mean, _ = model.predict_y(x[::-1])
    right, _ = model.predict_y(x)
    assert np.abs(mean[::-1] / right - 1).max() > 0.01
    return {"right": plain(right), "wrong": plain(mean[::-1])}


def mistakes():
    return {
        "labels": labels(),
        "classes from one": classes_from_one(),
        "one function for three classes": one_function_for_three_classes(),
        "epsilon is free": epsilon_is_free(),
        "exposure elsewhere": exposure_elsewhere(),
        "exposure of a minibatch": exposure_of_a_minibatch(),
        "exposure of other days": exposure_of_other_days(),
    }


if __name__ == "__main__":
    print(run()["bernoulli"]["whitened"][0])
