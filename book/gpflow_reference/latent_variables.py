"""A GP latent-variable model in GPflow: three settings, new points, and mistakes.

`make gpflow` compares what `run()` gives with latent_variables.json, which chapter
10d reads. The chapter shows the lines between `# show NAME` and `# end`. The record
holds the data and all settings, with the names and shapes of the Flax model.
"""

import pathlib
import runpy

import gpflow
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

# As in regression.py: a small number of a gradient carries the rounding of the
# largest one.
RTOL = 1e-7

regression = runpy.run_path(str(pathlib.Path(__file__).with_name("regression.py")))
for_each = regression["for_each"]

# ---- data ------------------------------------------------------------------------


def penguins():
    """Four standardised measurements of 29 penguins, and of six others."""
    file = pathlib.Path(__file__).parents[1] / "data" / "penguins.csv"
    rows = np.loadtxt(file, delimiter=",", skiprows=1)[:, 1:]
    y = rows[::12]
    return (y - y.mean(0)) / y.std(0), ((rows - y.mean(0)) / y.std(0))[5::60]


def scores(y):
    """The first two principal components, the first one with a variance of 1."""
    u, s, _ = np.linalg.svd(y, full_matrices=False)
    return np.sqrt(len(y)) * u[:, :2] * s[:2] / s[0]


def settings():
    """Three settings: the principal components, and two with other numbers."""
    random = np.random.RandomState(0)
    y, new_y = penguins()
    start = scores(y).round(2)
    first = {
        "kernel": {"variance": 1.0, "lengthscales": 2.0},
        "noise_variance": 0.1,
        "latents": start.tolist(),
        "inducing": start[2::5].tolist(),
        "new": np.zeros([len(new_y), 2]).tolist(),
    }

    def change(value):
        if np.ndim(value):
            shift = random.uniform(0.05, 0.5, np.shape(value))
            return np.round(value + shift, 3).tolist()
        return float(np.round(value * np.exp(random.uniform(0.05, 0.5)), 3))

    return [first, for_each(change, first), for_each(change, first)]


# ---- models ----------------------------------------------------------------------


# show model
def model_of(params, y):
    return gpflow.models.SGPR(
        data=(latents_of(params["latents"]), y),
        kernel=gpflow.kernels.SquaredExponential(**params["kernel"]),
        inducing_variable=np.array(params["inducing"]),
        noise_variance=params["noise_variance"],
    )


def latents_of(values):
    one = np.float64(1)
    normal = tfp.distributions.Normal(0 * one, one)
    return gpflow.Parameter(np.array(values), prior=normal)


# end


# show new
def loss_of_new(model, new, new_y):
    def loss():
        density = model.predict_log_density((new, new_y))
        return -tf.reduce_sum(density) - new.log_prior_density()

    return loss


# end


def parameters_of(model):
    """The GPflow parameters of a model, in dictionaries like those of `params`."""
    kernel = {
        name: getattr(model.kernel, name) for name in ("variance", "lengthscales")
    }
    return {
        "kernel": kernel,
        "noise_variance": model.likelihood.variance,
        "latents": model.data[0],
        "inducing": model.inducing_variable.Z,
    }


def gradients_of(value_of, parameters):
    """Those to the unconstrained variables."""
    variables = for_each(lambda leaf: leaf.unconstrained_variable, parameters)
    with tf.GradientTape() as tape:
        # A parameter that does not train is not watched by itself.
        tf.nest.map_structure(tape.watch, variables)
        value = value_of()
    gradients = tape.gradient(value, variables)
    return for_each(lambda leaf: leaf.numpy().tolist(), gradients)


# ---- the record ------------------------------------------------------------------


def dense_bound(params, y):
    """Titsias's bound and the prior of the latents, by dense algebra in NumPy."""
    kernel = gpflow.kernels.SquaredExponential(**params["kernel"])
    z, x = np.array(params["inducing"]), np.array(params["latents"])
    cross, noise = kernel(z, x).numpy(), params["noise_variance"]
    prior = kernel(z).numpy() + 1e-6 * np.eye(len(z))
    low_rank = cross.T @ np.linalg.solve(prior, cross)
    covariance = low_rank + noise * np.eye(len(x))
    columns = [stats.multivariate_normal.logpdf(c, None, covariance) for c in y.T]
    rest = np.trace(kernel(x).numpy() - low_rank) / (2 * noise)
    return sum(columns) - len(columns) * rest + stats.norm.logpdf(x).sum()


def row(params):
    """What the record holds at one setting."""
    y, new_y = penguins()
    model, new = model_of(params, y), latents_of(params["new"])
    parameters = parameters_of(model)
    for name in ("latents", "inducing"):
        assert np.array_equal(parameters[name], params[name])
    z = np.array(params["inducing"])
    covariance = model.kernel(z).numpy() + 1e-6 * np.eye(len(z))
    condition = np.linalg.cond(covariance)
    assert condition < 1e8

    # The training loss is minus the bound and the log priors.
    loss = float(model.training_loss())
    np.testing.assert_allclose(-loss, dense_bound(params, y), rtol=1e-9)
    loss_of = loss_of_new(model, new, new_y)
    mean, variance = model.predict_f(new)
    np.testing.assert_allclose(loss_of(), dense_new(model, new, new_y), rtol=1e-9)
    return {
        "params": params,
        "condition": float(f"{condition:.2g}"),
        "loss": loss,
        "gradients": gradients_of(model.training_loss, parameters),
        "mean": mean.numpy().tolist(),
        "variance": variance.numpy()[:, 0].tolist(),
        "loss_of_new": float(loss_of()),
        "gradients_of_new": gradients_of(loss_of, {**parameters, "new": new}),
    }


def dense_new(model, new, new_y):
    """The loss of new latents: four densities a penguin, and two of the prior."""
    mean, variance = model.predict_y(new)
    density = stats.norm.logpdf(new_y, mean, np.sqrt(variance)).sum()
    return -density - stats.norm.logpdf(new.numpy()).sum()


def first_row():
    return row(settings()[1])


def task():
    """Train, then fix everything and train the latents of new penguins."""
    y, new_y = penguins()
    params = settings()[0]
    model = model_of(params, y)
    kernel = kernel_of(model)
    # show stages
    gpflow.set_trainable(model, False)
    gpflow.set_trainable(model.inducing_variable, True)
    gpflow.set_trainable(model.likelihood, True)
    first = fit(model.training_loss, model.trainable_variables)

    gpflow.set_trainable(model.data[0], True)
    before_second = float(model.training_loss())
    second = fit(model.training_loss, model.trainable_variables)
    # end
    # A prior counts only while its parameter trains.
    prior = stats.norm.logpdf(params["latents"]).sum()
    np.testing.assert_allclose(before_second, first.fun - prior, rtol=1e-9)
    assert second.fun < before_second - 10
    assert all(
        np.array_equal(v, w) for v, w in zip(kernel, kernel_of(model), strict=True)
    )
    trained, before = table(model), [v.numpy() for v in model.variables]

    new = latents_of(params["new"])
    # show test
    gpflow.set_trainable(model, False)
    loss = loss_of_new(model, new, new_y)
    third = fit(loss, new.trainable_variables)
    # end
    after = [v.numpy() for v in model.variables]
    assert all(np.array_equal(b, a) for b, a in zip(before, after, strict=True))
    assert np.abs(new.numpy()).min(0).max() > 0
    assert len(model.trainable_variables) == 0 and len(new.trainable_variables) == 1
    mean, variance = model.predict_y(new)
    return {
        "losses": [float(result.fun) for result in (first, second, third)],
        "start_of_second": before_second,
        "new_mean": mean.numpy().tolist(),
        "new_sd": np.sqrt(variance[:, 0]).tolist(),
        "table": trained,
        "table_at_test_time": table(model),
    }


def kernel_of(model):
    return [variable.numpy() for variable in model.kernel.variables]


def fit(loss, variables):
    scipy = gpflow.optimizers.Scipy()
    options = {"maxiter": 3000, "ftol": 1e-13, "gtol": 1e-6}
    result = scipy.minimize(loss, variables, options=options)
    assert result.success
    return result


def table(model):
    """The lines of `gpflow.utilities.print_summary`, without the values."""
    text = gpflow.utilities.tabulate_module_summary(model, tablefmt="plain")
    lines = [line.split() for line in text.splitlines()]
    width = max(len(line[0]) for line in lines)
    flags = ["trainable"] + [
        next(word for word in line if word in ("True", "False"))
        for line in lines[1:]
    ]
    return [
        f"{line[0]:{width}}  {flag}"
        for line, flag in zip(lines, flags, strict=True)
    ]


def run():
    claims()
    y, new_y = penguins()
    return {
        "y": y.tolist(),
        "new_y": new_y.tolist(),
        "settings": [row(params) for params in settings()],
        "task": task(),
        "mistakes": mistakes(),
    }


# ---- claims ----------------------------------------------------------------------


def claims():
    different()
    gradients()
    plain_gplvm()


def different():
    """The three settings differ in each number."""
    rows = [np.concatenate([np.ravel(v) for v in flat(s)]) for s in settings()]
    assert all((rows[i] != rows[j]).all() for i, j in ((0, 1), (0, 2), (1, 2)))


def flat(tree):
    kernel = list(tree["kernel"].values())
    return kernel + [tree[name] for name in tree if name != "kernel"]


def gradients():
    """Gradients to the latents, old and new, are those of finite differences."""
    y, new_y = penguins()
    params = settings()[1]
    model, new = model_of(params, y), latents_of(params["new"])
    loss = loss_of_new(model, new, new_y)
    for parameter, value_of in ((model.data[0], model.training_loss), (new, loss)):
        found = np.array(gradients_of(value_of, {"it": parameter})["it"])
        variable, start = parameter.unconstrained_variable, parameter.numpy()
        for place in ((0, 0), (3, 1)):
            values = []
            for step in (1e-5, -1e-5):
                moved = start.copy()
                moved[place] += step
                variable.assign(moved)
                values.append(float(value_of()))
            variable.assign(start)
            # Differences of numbers near 200, relative to the largest slope.
            slope, scale = (values[0] - values[1]) / 2e-5, np.abs(found).max()
            np.testing.assert_allclose(found[place], slope, atol=1e-6 * scale)


def plain_gplvm():
    """GPflow's own GPLVM is exact, and its latents have no prior and no scale.

    With an inducing point at each latent, SGPR with a prior of the latents is this
    model plus that prior.
    """
    y, _ = penguins()
    params = settings()[0]
    kernel = gpflow.kernels.SquaredExponential(**params["kernel"])
    exact = gpflow.models.GPLVM(y, 2, np.array(params["latents"]), kernel=kernel)
    exact.likelihood.variance.assign(params["noise_variance"])
    assert exact.data[0].prior is None and exact.data[0].trainable
    value = float(exact.training_loss())
    model = model_of({**params, "inducing": params["latents"]}, y)
    prior = float(model.data[0].log_prior_density())
    assert abs(float(model.training_loss()) - (value - prior)) < 1e-2

    # Latents and lengthscales in other units: the same likelihood.
    exact.data[0].assign(10 * exact.data[0].numpy())
    kernel.lengthscales.assign(10 * params["kernel"]["lengthscales"])
    np.testing.assert_allclose(exact.training_loss(), value, rtol=1e-9)


# ---- mistakes --------------------------------------------------------------------


def latents_as_an_array():
    """No error: the latents are data, and do not train."""
    y, _ = penguins()
    params = settings()[0]
    model = gpflow.models.SGPR(
        data=(np.array(params["latents"]), y),
        kernel=gpflow.kernels.SquaredExponential(**params["kernel"]),
        inducing_variable=np.array(params["inducing"]),
    )
    right = model_of(params, y)
    assert len(right.trainable_variables) == len(model.trainable_variables) + 1 == 5
    return {"variables": len(model.trainable_variables)}


def variables_of_the_model():
    """No error: the map moves, and the new latents do not.

    The loss falls, because the map goes to where the new latents are.
    """
    y, new_y = penguins()
    params = settings()[0]
    model, new = model_of(params, y), latents_of(params["new"])
    before = float(model.training_loss())
    start, latents = new.numpy(), model.data[0].numpy()
    loss = loss_of_new(model, new, new_y)
    first = float(loss())
    gpflow.optimizers.Scipy().minimize(
        loss, model.trainable_variables, options={"maxiter": 10}
    )
    assert np.array_equal(new.numpy(), start)
    assert not np.array_equal(model.data[0].numpy(), latents)
    assert float(loss()) < first and float(model.training_loss()) > before
    return {"moved": 0 + (not np.array_equal(new.numpy(), start))}


def flag_of_a_variable_that_is_passed():
    """No error: a variable in the list trains, whatever its flag says."""
    y, new_y = penguins()
    params = settings()[0]
    model, new = model_of(params, y), latents_of(params["new"])
    gpflow.set_trainable(new, False)
    assert not new.trainable and len(new.trainable_variables) == 0
    gpflow.optimizers.Scipy().minimize(
        loss_of_new(model, new, new_y),
        [new.unconstrained_variable],
        options={"maxiter": 3},
    )
    moved = int((new.numpy() != np.array(params["new"])).any(1).sum())
    assert moved == len(new_y)
    return {"moved": moved}


def data_of_a_compiled_function():
    """No error: a tf.function keeps the array that its closure held at first."""
    y, new_y = penguins()
    params = settings()[0]
    model, new = model_of(params, y), latents_of(params["new"])
    batch = new_y
    compiled = tf.function(lambda: loss_of_new(model, new, batch)())
    first = float(compiled())
    batch = new_y[::-1] + 1
    stale, fresh = float(compiled()), float(loss_of_new(model, new, batch)())
    assert stale == first and abs(fresh - first) > 1
    return {"stale": stale, "fresh": fresh}


def mistakes():
    return {
        "latents as an array": latents_as_an_array(),
        "the variables of the model": variables_of_the_model(),
        "a fixed variable in the list": flag_of_a_variable_that_is_passed(),
        "data of a compiled function": data_of_a_compiled_function(),
    }


if __name__ == "__main__":
    print(run()["task"])
