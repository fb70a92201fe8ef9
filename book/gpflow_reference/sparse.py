"""Sparse variational GPs in GPflow: SVGP whitened and not, SGPR, and mistakes.

`make gpflow` compares what `run()` gives with sparse.json, which chapters 10a and
10b read. They show the lines between `# show NAME` and `# end`. The record holds
the data and all settings, with the names and shapes of the Flax model. The data are
temperatures at JFK, twice a day in January 2013.
"""

import pathlib
import runpy

import gpflow
import numpy as np
import tensorflow as tf

# As in regression.py: a small number of a gradient carries the rounding of the
# largest one.
RTOL = 1e-7

regression = runpy.run_path(str(pathlib.Path(__file__).with_name("regression.py")))
for_each, leaves = regression["for_each"], regression["leaves"]

# ---- data ------------------------------------------------------------------------


def columns(name):
    file = pathlib.Path(__file__).parents[1] / "data" / f"{name}.csv"
    return np.loadtxt(file, delimiter=",", skiprows=1).T


def temperatures():
    """Days since the start of 2013, and degrees Celsius: 40 of 20 days."""
    hour, airport, celsius = columns("weather")
    rows = (airport == 1) & (hour % 12 == 0)
    return hour[rows][:40, None] / 24, celsius[rows][:40, None]


NEW_X = np.array([[0.25], [7.3], [24.0]])
NEW_Y = np.array([[3.0], [4.0], [-5.0]])

# ---- settings --------------------------------------------------------------------

FIRST = {
    "kernel": {"variance": 30.0, "lengthscales": 3.0},
    "likelihood": {"variance": 4.0},
    "mean": {"constant": 2.0},
    "inducing": [[1.0], [5.0], [9.0], [13.0], [17.0]],
}


def settings_of(first, latents, spacing):
    """The first, and two with other numbers in each place, drawn at random."""
    random, size = np.random.RandomState(0), len(first["inducing"])

    def change(value):
        factor = np.exp(random.uniform(-0.5, 0.5, np.shape(value)))
        return np.round(value * factor, 3).tolist()

    def distribution():
        mean, root = random.randn(size, latents), random.randn(latents, size, size)
        root = np.tril(0.3 * root, -1) + np.diag(random.uniform(0.3, 1, size))
        return {"mean": mean.round(2).tolist(), "root": root.round(2).tolist()}

    rows = [first]
    for _ in range(2):
        scalars = {name: first[name] for name in first if name != "inducing"}
        shift = random.uniform(-spacing, spacing, np.shape(first["inducing"]))
        inducing = np.round(first["inducing"] + shift, 2).tolist()
        rows.append({**for_each(change, scalars), "inducing": inducing})
    return [{**row, "q": distribution()} for row in rows]


# ---- models ----------------------------------------------------------------------


# show model
def svgp_of(likelihood, params, whiten, num_data=None):
    return gpflow.models.SVGP(
        kernel=gpflow.kernels.SquaredExponential(**params["kernel"]),
        likelihood=likelihood,
        inducing_variable=np.array(params["inducing"]),
        mean_function=mean_of(params),
        num_latent_gps=len(params["q"]["root"]),
        q_mu=np.array(params["q"]["mean"]),
        q_sqrt=np.array(params["q"]["root"]),
        whiten=whiten,
        num_data=num_data,
    )


# end


# show sgpr
def sgpr_of(params, x, y):
    return gpflow.models.SGPR(
        data=(x, y),
        kernel=gpflow.kernels.SquaredExponential(**params["kernel"]),
        inducing_variable=np.array(params["inducing"]),
        mean_function=mean_of(params),
        noise_variance=params["likelihood"]["variance"],
    )


# end


def mean_of(params):
    if "mean" not in params:
        return None
    return gpflow.functions.Constant(params["mean"]["constant"])


def gaussian_of(params):
    return gpflow.likelihoods.Gaussian(**params["likelihood"])


def parameters_of(model, params):
    """The GPflow parameters of a model, in dictionaries like those of `params`."""
    likelihood = getattr(model.likelihood, "invlink", model.likelihood)
    owners = {"kernel": model.kernel, "likelihood": likelihood}
    named = {
        part: {name: getattr(owner, name) for name in params[part]}
        for part, owner in owners.items()
        if part in params
    }
    if "mean" in params:
        named["mean"] = {"constant": model.mean_function.c}
    named["inducing"] = model.inducing_variable.Z
    if "q" in params:
        named["q"] = {"mean": model.q_mu, "root": model.q_sqrt}
    return named


def plain(array):
    """Numbers in nested lists, without the axis of a single latent function."""
    array = np.asarray(array)
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0].tolist()
    if array.ndim == 3 and array.shape[0] == 1:
        return array[0].tolist()
    return array.tolist()


def gradients_of(value_of, parameters):
    """Those to the unconstrained variables, each with the shape of its parameter.

    The unconstrained variable of a triangular matrix is the vector of its entries,
    which the transform lays out as a matrix again.
    """
    variables = for_each(lambda leaf: leaf.unconstrained_variable, parameters)
    with tf.GradientTape() as tape:
        # A parameter that does not train is not watched by itself.
        tf.nest.map_structure(tape.watch, variables)
        value = value_of()
    gradients = tape.gradient(value, variables)
    if "q" in gradients:
        root = parameters["q"]["root"].transform.forward(gradients["q"]["root"])
        gradients["q"]["root"] = root
    return for_each(lambda leaf: leaf.numpy().tolist(), gradients)


# ---- the record ------------------------------------------------------------------


def condition_of(model):
    """That of the covariance of the inducing points, with jitter."""
    covariance = gpflow.covariances.Kuu(
        model.inducing_variable, model.kernel, jitter=1e-6
    )
    condition = np.linalg.cond(covariance)
    assert condition < 1e8
    return float(f"{condition:.2g}")


def check_values(parameters, params):
    """Each parameter has the value that stands under its name."""
    values = for_each(lambda leaf: leaf.numpy(), parameters)
    np.testing.assert_allclose(leaves(values), leaves(params), rtol=1e-9)


def numbers_of(model, params, data, new_x):
    """What the record holds of an SVGP whose parameters are at `params`."""
    parameters = parameters_of(model, params)
    check_values(parameters, params)
    mean, covariance = model.predict_f(new_x, full_cov=True)
    _, variance = model.predict_f(new_x)
    diagonal = np.diagonal(covariance, axis1=1, axis2=2).T
    np.testing.assert_allclose(diagonal, variance, rtol=1e-9)
    return {
        "params": params,
        "condition": condition_of(model),
        "elbo": float(model.elbo(data)),
        "gradients": gradients_of(lambda: model.elbo(data), parameters),
        "mean": plain(mean),
        "variance": plain(variance),
        "covariance": plain(covariance),
    }


def observations_of(model, new_x, new_y):
    """Predictions of observations, and the log densities of some."""
    mean, variance = model.predict_y(new_x)
    density = model.predict_log_density((new_x, new_y))
    return {
        "observed_mean": plain(mean),
        "observed_variance": plain(variance),
        "log_density": plain(density),
    }


def svgp(params, whiten):
    """A row of the record: an SVGP with Gaussian noise."""
    data = temperatures()
    model = svgp_of(gaussian_of(params), params, whiten)
    expected = dense_elbo(params, *data, whiten)
    np.testing.assert_allclose(model.elbo(data), expected, rtol=1e-9)
    row = numbers_of(model, params, data, NEW_X)
    return {**row, **observations_of(model, NEW_X, NEW_Y)}


def dense_elbo(params, x, y, whiten):
    """The ELBO with Gaussian noise, by dense algebra in NumPy."""
    kernel = gpflow.kernels.SquaredExponential(**params["kernel"])
    z, noise = np.array(params["inducing"]), params["likelihood"]["variance"]
    prior = kernel(z).numpy() + 1e-6 * np.eye(len(z))
    mean, root = (np.array(params["q"][name]) for name in ("mean", "root"))
    factor = np.linalg.cholesky(prior) if whiten else np.eye(len(z))
    mean, root = factor @ mean, factor @ root[0]
    spread, gain = root @ root.T, np.linalg.solve(prior, kernel(z, x).numpy())
    f = params["mean"]["constant"] + gain.T @ mean
    variance = kernel(x).numpy() - gain.T @ (prior - spread) @ gain
    errors = (y - f)[:, 0] ** 2 + np.diag(variance)
    expected = -0.5 * (np.log(2 * np.pi * noise) + errors / noise).sum()
    ratio = np.linalg.solve(prior, spread)
    distance = (mean.T @ np.linalg.solve(prior, mean)).item() - len(z)
    return expected - 0.5 * (
        np.trace(ratio) + distance - np.linalg.slogdet(ratio).logabsdet
    )


def sgpr(params):
    """A row of the record: an SGPR, with the same parameters but for q."""
    params = {name: params[name] for name in params if name != "q"}
    model = sgpr_of(params, *temperatures())
    parameters = parameters_of(model, params)
    check_values(parameters, params)
    mean, covariance = model.predict_f(NEW_X, full_cov=True)
    q_mean, q_covariance = model.compute_qu()
    return {
        "params": params,
        "condition": condition_of(model),
        "elbo": float(model.elbo()),
        "gradients": gradients_of(model.elbo, parameters),
        "mean": plain(mean),
        "variance": plain(model.predict_f(NEW_X)[1]),
        "covariance": plain(covariance),
        "observed_variance": plain(model.predict_y(NEW_X)[1]),
        "q": {"mean": plain(q_mean), "covariance": plain(q_covariance)},
    }


def run():
    x, y = temperatures()
    rows = settings_of(FIRST, latents=1, spacing=1.0)
    claims()
    return {
        "x": x.tolist(),
        "y": plain(y),
        "new_x": NEW_X.tolist(),
        "new_y": plain(NEW_Y),
        "svgp": {
            "whitened": [svgp(params, whiten=True) for params in rows],
            "not_whitened": [svgp(params, whiten=False) for params in rows],
        },
        "sgpr": [sgpr(params) for params in rows],
        "inducing_at_data": inducing_at_data(),
        "table": table(),
        "minibatches": minibatches(),
        "mistakes": mistakes(),
    }


# ---- claims ----------------------------------------------------------------------


def claims():
    settings()
    gradients()
    same_model()
    what_trains()


def first():
    return settings_of(FIRST, latents=1, spacing=1.0)[0]


def svgp_row():
    """A row of each of the three models, for the mutants."""
    params = settings_of(FIRST, latents=1, spacing=1.0)[1]
    return svgp(params, True), svgp(params, False), sgpr(params)


def settings():
    """The three settings are different ones, in each number that is not of q."""
    rows = settings_of(FIRST, latents=1, spacing=1.0)
    numbers = [leaves({**row, "q": []}) for row in rows]
    assert all(
        (numbers[i] != numbers[j]).all() for i, j in ((0, 1), (0, 2), (1, 2))
    )


def gradients():
    """The gradients of the ELBO are those of finite differences."""
    params, data = first(), temperatures()
    model = svgp_of(gaussian_of(params), params, whiten=True)
    parameters = parameters_of(model, params)

    def slopes(parameter):
        variable, found = parameter.unconstrained_variable, []
        start = variable.numpy()
        for place in np.ndindex(start.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = np.array(start)
                moved[place] += step
                variable.assign(moved)
                values.append(float(model.elbo(data)))
            variable.assign(start)
            found.append((values[0] - values[1]) / 2e-5)
        found = np.reshape(found, start.shape)
        if parameter is not model.q_sqrt:
            return found
        return parameter.transform.forward(found).numpy()

    found = leaves(gradients_of(lambda: model.elbo(data), parameters))
    expected = leaves(for_each(slopes, parameters))
    # Relative to the largest: the differences are those of numbers near 300.
    scale = np.abs(found).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * scale)


def same_model():
    """Whitened or not is the same model, for the same q(u). SGPR has the best q.

    The whitened v gives u as factor @ v, with the factor of the covariance of u.
    """
    params, (x, y) = first(), temperatures()
    kernel, z = (
        gpflow.kernels.SquaredExponential(**params["kernel"]),
        params["inducing"],
    )
    factor = np.linalg.cholesky(kernel(np.array(z)) + 1e-6 * np.eye(len(z)))
    whitened = svgp_of(gaussian_of(params), params, whiten=True)
    unwhitened = svgp_of(gaussian_of(params), params, whiten=False)
    assert abs(unwhitened.elbo((x, y)) - whitened.elbo((x, y))) > 1
    unwhitened.q_mu.assign(factor @ params["q"]["mean"])
    unwhitened.q_sqrt.assign(factor @ params["q"]["root"])
    np.testing.assert_allclose(
        unwhitened.elbo((x, y)), whitened.elbo((x, y)), rtol=1e-10
    )

    collapsed = sgpr_of(params, x, y)
    mean, covariance = collapsed.compute_qu()
    unwhitened.q_mu.assign(mean)
    unwhitened.q_sqrt.assign(np.linalg.cholesky(covariance)[None])
    np.testing.assert_allclose(
        unwhitened.elbo((x, y)), collapsed.elbo(), rtol=1e-10
    )
    assert collapsed.elbo() > whitened.elbo((x, y)) + 1


def inducing_at_data():
    """With an inducing point at each data point, SGPR is the exact GP."""
    params, (x, y) = first(), temperatures()
    at_data = {**params, "inducing": x.tolist()}
    exact = gpflow.models.GPR(
        (x, y),
        gpflow.kernels.SquaredExponential(**params["kernel"]),
        mean_function=mean_of(params),
        noise_variance=params["likelihood"]["variance"],
    )
    bound, value = sgpr_of(at_data, x, y).elbo(), exact.log_marginal_likelihood()
    assert 0 < float(value - bound) < 1e-4
    return {"sgpr": float(bound), "gpr": float(value)}


def table():
    return summary_of(svgp_of(gaussian_of(first()), first(), whiten=True))


def what_trains():
    """The inducing points train from the start. Two calls fix q."""
    model = svgp_of(gaussian_of(first()), first(), whiten=True)
    variables = model.trainable_variables
    assert len(variables) == 7
    assert any(
        v is model.inducing_variable.Z.unconstrained_variable for v in variables
    )
    # show fix
    gpflow.set_trainable(model.inducing_variable, False)
    gpflow.set_trainable(model.q_mu, False)
    gpflow.set_trainable(model.q_sqrt, False)
    # end
    assert len(model.trainable_variables) == 4


def minibatch(params):
    """With num_data, the mean of the ELBOs of equal batches is the full one.

    Without it, a batch counts as all data, and there is no error.
    """
    x, y = temperatures()
    batches = [(x[start::4], y[start::4]) for start in range(4)]
    # show minibatch
    model = svgp_of(gaussian_of(params), params, whiten=True, num_data=len(x))
    right = [float(model.elbo(batch)) for batch in batches]
    # end
    np.testing.assert_allclose(np.mean(right), model.elbo((x, y)), rtol=1e-10)
    parameters = parameters_of(model, params)
    slopes = gradients_of(lambda: model.elbo(batches[0]), parameters)
    model = svgp_of(gaussian_of(params), params, whiten=True)
    wrong = [float(model.elbo(batch)) for batch in batches]
    assert np.mean(wrong) > np.mean(right) + 100
    return {
        "params": params,
        "elbo": right,
        "gradients of the first": slopes,
        "elbo_without_num_data": wrong,
    }


def minibatches():
    rows = settings_of(FIRST, latents=1, spacing=1.0)
    return [minibatch(params) for params in rows]


# ---- mistakes --------------------------------------------------------------------


def message(call, kind, *parts):
    """The type of the error of a call, and the lines of its message with a part."""
    try:
        call()
    except Exception as error:
        assert type(error).__name__ == kind, type(error)
        lines = [" ".join(line.split()) for line in str(error).splitlines()]
        said = [line for line in lines if any(part in line for part in parts)]
        assert said, str(error)
        return f"{kind}: {' '.join(said)}"
    raise AssertionError("no error")


def more_inducing_points():
    """q has the size of the inducing points, which therefore keep their number."""
    model = svgp_of(gaussian_of(first()), first(), whiten=True)
    return message(
        lambda: model.inducing_variable.Z.assign(np.arange(6.0)[:, None]),
        "ValueError",
        "shape",
    )


def inducing_points_of_other_data():
    """Two columns, where the data have one."""
    params = {**first(), "inducing": [[1.0, 2.0]] * 5}
    model = svgp_of(gaussian_of(params), params, whiten=True)
    return message(
        lambda: model.elbo(temperatures()),
        "ShapeMismatchError",
        "Argument",
        "Expected",
        "Actual",
    )


def other_whiten():
    """Changing the attribute is no error, and q then means another thing."""
    model = svgp_of(gaussian_of(first()), first(), whiten=True)
    before = float(model.elbo(temperatures()))
    model.whiten = False
    after = float(model.elbo(temperatures()))
    assert abs(after - before) > 1
    return {"before": before, "after": after}


def small_num_data():
    """A num_data smaller than the batch is no error: it scales the data down."""
    params, data = first(), temperatures()
    model = svgp_of(gaussian_of(params), params, whiten=True, num_data=10)
    elbo, prior_kl = float(model.elbo(data)), float(model.prior_kl())
    model.num_data = 40
    expected = (model.elbo(data) + prior_kl) / 4 - prior_kl
    np.testing.assert_allclose(elbo, expected, rtol=1e-10)
    return elbo


def half_of_q():
    """Fixing q_mu alone leaves q_sqrt training, and there is no error."""
    model = svgp_of(gaussian_of(first()), first(), whiten=True)
    gpflow.set_trainable(model.q_mu, False)
    assert model.q_sqrt.trainable and not model.q_mu.trainable
    return [line for line in summary_of(model) if line.startswith("SVGP.q_")]


def summary_of(model):
    """The lines that `gpflow.utilities.print_summary` prints, without frames."""
    text = gpflow.utilities.tabulate_module_summary(model, tablefmt="plain")
    return [line.rstrip() for line in text.splitlines()]


def mistakes():
    return {
        "more inducing points": more_inducing_points(),
        "inducing points with two columns": inducing_points_of_other_data(),
        "another whiten": other_whiten(),
        "half of q": half_of_q(),
        "a small num_data": small_num_data(),
    }


if __name__ == "__main__":
    print(run()["svgp"]["whitened"][0])
