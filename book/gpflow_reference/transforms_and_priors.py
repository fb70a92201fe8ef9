"""Value, transform, prior and flag of GPflow's parameters, and changes of each.

`make gpflow` compares what `run()` gives with transforms_and_priors.json, which
chapters 9b and 9f read. They show the lines between `# show NAME` and `# end`.
"""

import pathlib

import gpflow
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from gpflow.utilities import set_trainable, tabulate_module_summary

# Predictions after a fit: two runs of L-BFGS end within this of one another.
RTOL = 1e-5

NEW_X = np.array([[-0.5], [2.54], [5.25]])


def co2():
    """Years since 1990 and ppm above 355, each month from 1990 to 1994."""
    file = pathlib.Path(__file__).parents[1] / "data" / "co2.csv"
    rows = np.loadtxt(file, delimiter=",", skiprows=1)
    year, month, ppm, _ = rows[(rows[:, 0] >= 1990) & (rows[:, 0] < 1995)].T
    x, y = year + (month - 0.5) / 12 - 1990, ppm - 355
    return x[:, None], y[:, None]


def number(tensor):
    return np.asarray(tensor).item()


def log_normal(mean, sd):
    mean, sd = (tf.constant(value, tf.float64) for value in (mean, sd))
    return tfp.distributions.LogNormal(mean, sd)


def model_of(x, y):
    # show model
    trend = gpflow.kernels.SquaredExponential(variance=10.0, lengthscales=4.0)
    waves = gpflow.kernels.SquaredExponential(variance=5.0, lengthscales=1.0)
    season = gpflow.kernels.Periodic(waves, period=1.0)
    model = gpflow.models.GPR((x, y), trend + season, noise_variance=0.1)

    set_trainable(season.period, False)
    trend.lengthscales.prior = log_normal(1.0, 0.5)
    # end
    return model, trend, season


def state_of(parameter):
    """What belongs to a parameter: its value, transform, prior and flag."""
    value = parameter.numpy()
    return value, parameter.transform, parameter.prior, parameter.trainable


def table():
    model, _, _ = model_of(*co2())
    lines = tabulate_module_summary(model, "simple").splitlines()
    assert len(lines) == 2 + 6
    names = ["name", "class", "transform", "prior", "trainable", "shape", "dtype"]
    assert lines[0].split() == [*names, "value"]
    (period,) = [line for line in lines if ".period" in line]
    assert "False" in period and "Softplus" in period
    return lines


# ---- one change each -------------------------------------------------------------


def value():
    """`assign` keeps the transform, the prior and the flag."""
    model, trend, season = model_of(*co2())
    before = {"lengthscales": state_of(trend.lengthscales)}
    before["period"] = state_of(season.period)
    # show value
    trend.lengthscales.assign(3.0)
    season.period.assign(0.5)
    # end
    for name, parameter in (
        ("lengthscales", trend.lengthscales),
        ("period", season.period),
    ):
        now, old = state_of(parameter), before[name]
        assert abs(now[0] - {"lengthscales": 3.0, "period": 0.5}[name]) < 1e-12
        assert now[1] is old[1] and now[2] is old[2] and now[3] is old[3]
    return {"log_likelihood": number(model.log_marginal_likelihood())}


def refused(parameter, value):
    before = parameter.numpy()
    try:
        parameter.assign(value)
    except tf.errors.InvalidArgumentError as error:
        assert parameter.numpy() == before
        return "cannot be assigned" in str(error)
    return False


def outside():
    """A value outside is refused, also for a fixed parameter."""
    model, trend, season = model_of(*co2())
    assert refused(trend.variance, -1.0)
    assert not season.period.trainable and refused(season.period, -1.0)
    assert refused(model.likelihood.variance, 1e-6)  # the bound itself


def flag():
    """`set_trainable` changes nothing else: the value has the same bits."""
    model, trend, _ = model_of(*co2())
    before = state_of(trend.lengthscales)
    count = len(model.trainable_variables)
    # show flag
    set_trainable(trend.lengthscales, False)
    # end
    now = state_of(trend.lengthscales)
    assert now[0].tobytes() == before[0].tobytes()
    assert now[1] is before[1] and now[2] is before[2] and now[3] is not before[3]
    assert len(model.trainable_variables) == count - 1 == 4


def transform():
    """A transform cannot be set: the parameter is replaced by another one."""
    _, trend, _ = model_of(*co2())
    set_trainable(trend.lengthscales, False)
    before = state_of(trend.lengthscales)
    exp = tfp.bijectors.Exp()
    try:
        trend.lengthscales.transform = exp
    except AttributeError:
        pass
    else:
        raise AssertionError("the transform was set")

    # show transform
    old = trend.lengthscales
    trend.lengthscales = gpflow.Parameter(old, transform=exp)
    # end
    now = state_of(trend.lengthscales)
    assert abs(now[0] - before[0]) < 1e-12
    assert now[1] is exp and now[2] is before[2] and now[3] is False

    # show number
    trend.lengthscales = gpflow.Parameter(4.0, transform=exp)
    # end
    now = state_of(trend.lengthscales)
    assert now[2] is None and now[3] is True  # the prior and the flag are lost


def prior():
    """A prior enters the loss while its parameter trains, and leaves it with it."""
    model, trend, _ = model_of(*co2())
    losses = {"with": number(model.training_loss())}
    density = number(trend.lengthscales.prior.log_prob(trend.lengthscales))
    set_trainable(trend.lengthscales, False)
    losses["fixed"] = number(model.training_loss())
    # show prior
    trend.lengthscales.prior = None
    # end
    losses["without"] = number(model.training_loss())
    np.testing.assert_allclose(losses["fixed"], losses["without"], rtol=1e-12)
    difference = losses["with"] - losses["without"]
    np.testing.assert_allclose(difference, -density, rtol=1e-9)
    likelihood = number(model.log_marginal_likelihood())
    np.testing.assert_allclose(losses["without"], -likelihood, rtol=1e-12)
    return losses


# ---- a fixed value ---------------------------------------------------------------


def read_back():
    """Of 1000 neighbours of 0.01, more than half are read back as others."""
    values = 0.01 + np.spacing(0.01) * np.arange(1000)
    assert len(np.unique(values)) == 1000
    parameter = gpflow.Parameter(values, transform=gpflow.utilities.positive())
    assert np.sum(parameter.numpy() != values) > 500
    np.testing.assert_allclose(parameter.numpy(), values, rtol=1e-13)


def fitted():
    """A fit with the period and the noise variance fixed, and what it predicts."""
    model, _, season = model_of(*co2())
    # show fixed
    set_trainable(model.likelihood.variance, False)
    gpflow.optimizers.Scipy().minimize(
        model.training_loss,
        model.trainable_variables,
        options={"ftol": 1e-12, "gtol": 1e-6},
    )
    # end
    assert abs(season.period.numpy() - 1) < 1e-12
    assert abs(model.likelihood.variance.numpy() - 0.1) < 1e-12
    mean, variance = model.predict_f(NEW_X)
    _, observed = model.predict_y(NEW_X)
    np.testing.assert_allclose(observed - variance, 0.1, rtol=1e-9)
    return {
        "loss": number(model.training_loss()),
        "new_x": NEW_X.tolist(),
        "mean": mean.numpy()[:, 0].tolist(),
        "variance": variance.numpy()[:, 0].tolist(),
        "observed": observed.numpy()[:, 0].tolist(),
    }


# ---- the density that a sampler sees ---------------------------------------------


def sampled_model(x, y):
    """Two parameters train, each with a prior; the other four are fixed."""
    model, trend, _ = model_of(x, y)
    # show sampled
    set_trainable(model, False)
    for parameter in (trend.lengthscales, model.likelihood.variance):
        set_trainable(parameter, True)
    model.likelihood.variance.prior = log_normal(-2.0, 1.0)
    # end
    return model, trend


def target(free):
    """The log density of unconstrained numbers, and its gradient."""
    model, trend = sampled_model(*co2())
    # show target
    helper = gpflow.optimizers.SamplingHelper(
        model.log_posterior_density, model.trainable_parameters
    )
    density = helper.target_log_prob_fn
    # end
    states = [tf.constant(value, tf.float64) for value in free]
    with tf.GradientTape() as tape:
        tape.watch(states)
        value = density(*states)
    parameters = [trend.lengthscales, model.likelihood.variance]
    assert [p.trainable for p in model.parameters].count(True) == 2
    assert list(map(id, model.trainable_parameters)) == list(map(id, parameters))

    # what it is made of: likelihood, priors and the Jacobians
    total = model.log_marginal_likelihood()
    for parameter, state in zip(parameters, states, strict=True):
        total += parameter.prior.log_prob(parameter)
        total += parameter.transform.forward_log_det_jacobian(state, 0)
    np.testing.assert_allclose(value, total, rtol=1e-10)
    gradient = [number(slope) for slope in tape.gradient(value, states)]
    names = ["kernel/trend/lengthscales", "noise_variance"]
    return {
        "free": dict(zip(names, free, strict=True)),
        "log_density": number(value),
        "gradient": dict(zip(names, gradient, strict=True)),
    }


def targets():
    pairs = [(4.0, -2.0), (3.0, -3.0), (5.0, -1.5), (2.0, -2.5), (6.0, -2.2)]
    return [target(pair) for pair in pairs]


def no_prior():
    """A sampler is refused where a parameter that trains has no prior."""
    model, _ = sampled_model(*co2())
    model.likelihood.variance.prior = None
    refused = ""
    try:
        gpflow.optimizers.SamplingHelper(
            model.log_posterior_density, model.trainable_parameters
        )
    except ValueError as error:
        refused = str(error)
    assert "with priors" in refused
    return refused


def run():
    for claim in (outside, flag, transform, read_back):
        claim()
    return {
        "table": table(),
        "value": value(),
        "prior": prior(),
        "fitted": fitted(),
        "targets": targets(),
        "no_prior": no_prior(),
    }


if __name__ == "__main__":
    gpflow.utilities.print_summary(model_of(*co2())[0])
    print(run())
