"""Surprises with fixed parameters in GPflow, how to avoid them, and its good sides.

Every claim is asserted here. The chapter gpflow-surprises shows the lines between
`# show NAME` and `# end`, and reads numbers and messages from surprises.json.
`make gpflow` runs this file, and compares what `run` gives with that record.
"""

# show model
import gpflow
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from check_shapes.exceptions import ShapeMismatchError
from gpflow.keras import tf_keras

x = np.linspace(0.0, 5.0, 20)[:, None]
y = np.sin(2 * x) + 0.2 * np.cos(11 * x)


def regression():
    kernel = gpflow.kernels.SquaredExponential()
    return gpflow.models.GPR((x, y), kernel, noise_variance=0.1)


def fit(model):
    scipy = gpflow.optimizers.Scipy()
    return scipy.minimize(model.training_loss, model.trainable_variables)


def values(model):
    """{path: value} of the parameters that are single numbers."""
    read = gpflow.utilities.read_values(model)
    return {path[1:]: float(v) for path, v in read.items() if np.shape(v) == ()}


def free_paths(model):
    """The paths of the parameters whose flag is True."""
    named = gpflow.utilities.parameter_dict(model)
    return [path[1:] for path, p in named.items() if p.trainable]


# end

# Where L-BFGS stops depends on the last bits, and those on the processor.
RTOL = 1e-5


def last_line(error):
    return str(error).strip().splitlines()[-1].strip()


# show step
def make_step(loss, model, adam):
    @tf.function
    def step():
        adam.minimize(loss, model.trainable_variables)

    return step


# end


def trace():
    # show trace
    def ten_steps(new_function):
        model, adam = regression(), tf_keras.optimizers.Adam(0.1)
        step = make_step(model.training_loss, model, adam)
        for _ in range(5):
            step()
        before = values(model)
        gpflow.set_trainable(model.kernel.lengthscales, False)
        if new_function:
            step = make_step(model.training_loss, model, adam)
        for _ in range(5):
            step()
        return before, values(model)

    before, old_function = ten_steps(new_function=False)
    moved = old_function["kernel.lengthscales"] - before["kernel.lengthscales"]
    assert abs(moved) > 0.05

    before, new_function = ten_steps(new_function=True)
    assert new_function["kernel.lengthscales"] == before["kernel.lengthscales"]
    assert abs(new_function["kernel.variance"] - before["kernel.variance"]) > 0.05
    # end
    return {
        "before": before,
        "old_function": old_function,
        "new_function": new_function,
    }


def variables():
    # show variables
    model, scipy = regression(), gpflow.optimizers.Scipy()
    gpflow.set_trainable(model.kernel.lengthscales, False)
    scipy.minimize(model.training_loss, model.trainable_variables)
    fixed = values(model)
    assert fixed["kernel.lengthscales"] == 1 and fixed["kernel.variance"] > 1.1

    gpflow.set_trainable(model.kernel.lengthscales, True)
    scipy.minimize(model.training_loss, model.trainable_variables)
    freed = values(model)
    assert freed["kernel.lengthscales"] < 0.9

    model = regression()
    taken_before = model.trainable_variables  # a tuple, which keeps what is in it
    gpflow.set_trainable(model.kernel.lengthscales, False)
    scipy.minimize(model.training_loss, taken_before)
    assert model.kernel.lengthscales.numpy() < 0.9
    # end
    return {"fixed": fixed, "freed": freed, "taken_before": values(model)}


def free():
    # show free
    model, adam = regression(), tf_keras.optimizers.Adam(0.1)
    gpflow.set_trainable(model.kernel.lengthscales, False)
    adam.minimize(model.training_loss, model.trainable_variables)
    gpflow.set_trainable(model.kernel.lengthscales, True)
    try:
        adam.minimize(model.training_loss, model.trainable_variables)
        refused = None
    except KeyError as error:
        refused = error.args[0].split(".")[0]
    assert refused is not None

    model, adam = regression(), tf_keras.optimizers.Adam(0.1)
    adam.build(model.trainable_variables)  # while everything is free
    gpflow.set_trainable(model.kernel.lengthscales, False)
    adam.minimize(model.training_loss, model.trainable_variables)
    assert model.kernel.lengthscales.numpy() == 1
    gpflow.set_trainable(model.kernel.lengthscales, True)
    adam.minimize(model.training_loss, model.trainable_variables)
    assert model.kernel.lengthscales.numpy() < 0.99
    # end
    return {"refused": refused, "freed": values(model)}


# show all_priors
def loss_with_all_priors(model):
    priors = sum(p.log_prior_density() for p in model.parameters)
    return -(model.maximum_log_likelihood_objective() + priors).numpy()


# end


def prior():
    # show prior
    model = regression()
    gamma = tfp.distributions.Gamma(np.float64(2), np.float64(1))
    model.kernel.lengthscales.prior = gamma
    compiled = model.training_loss_closure()  # a tf.function
    while_free = compiled().numpy(), model.training_loss().numpy()
    np.testing.assert_allclose(*while_free)

    gpflow.set_trainable(model.kernel.lengthscales, False)
    log_prior = gamma.log_prob(np.float64(1)).numpy()
    fixed = model.training_loss().numpy()
    np.testing.assert_allclose(fixed, while_free[1] + log_prior)
    traced_while_free = compiled().numpy()
    np.testing.assert_allclose(traced_while_free, while_free[1])
    np.testing.assert_allclose(loss_with_all_priors(model), while_free[1])
    assert log_prior < -0.5
    # end

    # show order
    fixed_losses = fit(model).fun, loss_with_all_priors(model)
    gpflow.set_trainable(model.kernel.lengthscales, True)
    free_losses = fit(model).fun, loss_with_all_priors(model)
    assert fixed_losses[0] < free_losses[0]  # GPflow's: the free fit looks worse
    assert fixed_losses[1] > free_losses[1] + 0.1  # with all priors it is better
    # end
    start = {
        "free": while_free[1],
        "fixed": fixed,
        "traced_while_free": traced_while_free,
        "log_prior": log_prior,
    }
    fits = {
        "fixed": list(map(float, fixed_losses)),
        "free": list(map(float, free_losses)),
    }
    return {
        "start": {name: float(number) for name, number in start.items()},
        "fits": fits,
    }


def attribute():
    # show attribute
    model = regression()
    model.kernel.trainable = False  # no error, and nothing reads it
    assert len(model.trainable_parameters) == 3
    fit(model)
    by_attribute = values(model)
    assert by_attribute["kernel.lengthscales"] < 0.9

    try:
        model.kernel.lengthscales.trainable = False
        refused = None
    except AttributeError as error:
        refused = str(error)
    assert refused is not None

    model = regression()
    gpflow.set_trainable(model.kernel, False)
    assert free_paths(model) == ["likelihood.variance"]
    fit(model)
    by_function = values(model)
    assert by_function["kernel.lengthscales"] == by_function["kernel.variance"] == 1
    assert by_function["likelihood.variance"] < 0.05
    # end
    return {
        "by_attribute": by_attribute,
        "refused": refused,
        "by_function": by_function,
    }


def nothing():
    # show nothing
    model = regression()
    gpflow.set_trainable(model, False)
    try:
        fit(model)
        refused = None
    except tf.errors.InvalidArgumentError as error:
        refused = error.message.split(",")[0]
    assert refused is not None and "ConcatV2" in refused

    adam = tf_keras.optimizers.Adam(0.1)
    adam.minimize(model.training_loss, model.trainable_variables)  # no error
    assert adam.iterations == 0

    def fit_what_trains(model):
        return fit(model) if model.trainable_variables else None

    assert fit_what_trains(model) is None
    gpflow.set_trainable(model.kernel.variance, True)
    assert fit_what_trains(model) is not None
    # end
    assert values(model)["kernel.variance"] > 1.1
    return {"refused": refused, "values": values(model)}


# show classes
def classification():
    labels = np.digitize(x, [1.5, 3.5])
    labels[7] = 2  # an error
    model = gpflow.models.SVGP(
        gpflow.kernels.SquaredExponential(lengthscales=0.5),
        gpflow.likelihoods.MultiClass(3),
        inducing_variable=x[::4].copy(),
        num_latent_gps=3,
    )
    return model, model.training_loss_closure((x, labels), compile=False)


# end


def round_trip():
    # show round_trip
    def thirty_steps(change_flags):
        model, loss = classification()
        change_flags(model)
        step = make_step(loss, model, tf_keras.optimizers.Adam(0.1))
        for _ in range(30):
            step()
        return free_paths(model), values(model)

    def fix_and_free(model):
        gpflow.set_trainable(model, False)
        gpflow.set_trainable(model, True)

    def fix_and_restore(model):
        named = gpflow.utilities.parameter_dict(model)
        flags = {path: parameter.trainable for path, parameter in named.items()}
        gpflow.set_trainable(model, False)
        for path, parameter in named.items():
            gpflow.set_trainable(parameter, flags[path])

    untouched, freed, restored = map(
        thirty_steps, [lambda model: None, fix_and_free, fix_and_restore]
    )
    epsilon = "likelihood.invlink.epsilon"
    assert epsilon not in untouched[0] and abs(untouched[1][epsilon] - 0.001) < 1e-9
    assert epsilon in freed[0] and freed[1][epsilon] > 0.005
    assert restored == untouched
    # end
    return {
        "untouched": {"free": untouched[0], "values": untouched[1]},
        "freed": {"free": freed[0], "values": freed[1]},
    }


def integer():
    # show integer
    likelihood = gpflow.likelihoods.Gaussian()
    model = gpflow.models.VGP(
        (x, y), gpflow.kernels.SquaredExponential(), likelihood
    )
    fixed_by_vgp = [path for path in values(model) if path not in free_paths(model)]
    assert fixed_by_vgp == ["num_data"]
    gpflow.optimizers.Scipy().minimize(
        model.training_loss, model.trainable_variables, options={"maxiter": 1}
    )

    gpflow.set_trainable(model, True)
    try:
        fit(model)
        refused = None
    except tf.errors.InvalidArgumentError as error:
        refused = error.message.split("[")[0].strip()
    assert refused is not None and "int32" in refused
    # end
    return {"refused": refused}


# show sparse
def sparse():
    model = gpflow.models.SVGP(
        gpflow.kernels.SquaredExponential(),
        gpflow.likelihoods.Gaussian(0.1),
        inducing_variable=x[::4].copy(),
    )
    return model, model.training_loss_closure((x, y), compile=False)


# end


def natural():
    # show natural
    model, loss = sparse()
    start = loss().numpy()
    gpflow.set_trainable(model.q_mu, False)
    gpflow.set_trainable(model.q_sqrt, False)

    adam = tf_keras.optimizers.Adam(0.1)
    adam.minimize(loss, model.trainable_variables)
    assert not model.q_mu.numpy().any()  # Adam leaves it alone

    model, loss = sparse()
    gpflow.set_trainable(model.q_mu, False)
    gpflow.set_trainable(model.q_sqrt, False)
    natural = gpflow.optimizers.NaturalGradient(gamma=1.0)
    pairs = [(model.q_mu, model.q_sqrt)]
    natural.minimize(loss, pairs)
    assert abs(model.q_mu.numpy()).max() > 0.3 and loss().numpy() < start - 5
    end, q_mu = loss().numpy(), model.q_mu.numpy()

    pairs = [pair for pair in pairs if all(p.trainable for p in pair)]
    assert not pairs  # so do not call minimize
    # end
    return {"start": float(start), "end": float(end), "q_mu": q_mu[:, 0].tolist()}


def replace():
    # show replace
    model = regression()
    lengthscales = model.kernel.lengthscales
    transform = lengthscales.transform
    gpflow.set_trainable(lengthscales, False)
    compiled = model.training_loss_closure()  # a tf.function
    start = compiled().numpy()

    lengthscales.assign(2.0)
    assigned = compiled().numpy(), model.training_loss().numpy()
    np.testing.assert_allclose(*assigned)
    assert abs(assigned[0] - start) > 1
    assert not lengthscales.trainable and lengthscales.transform is transform
    try:
        lengthscales.assign(-1.0)
        refused = None
    except tf.errors.InvalidArgumentError as error:
        refused = error.message.split("gpflow.Parameter: ")[1].split(" (")[0]
    assert refused is not None and abs(lengthscales.numpy() - 2) < 1e-9

    model.kernel.lengthscales = gpflow.Parameter(0.5)  # in place of assign
    replaced = compiled().numpy(), model.training_loss().numpy()
    assert replaced[0] == assigned[0] and abs(replaced[1] - replaced[0]) > 1
    assert model.kernel.lengthscales.trainable
    assert model.kernel.lengthscales.transform.name == "identity"
    # end
    # show constant
    model.kernel.lengthscales = 0.5  # a float, and no longer a parameter
    assert len(model.parameters) == 2
    np.testing.assert_allclose(model.training_loss(), replaced[1])
    # end
    return {
        "start": float(start),
        "assigned": [float(loss) for loss in assigned],
        "refused": refused,
        "replaced": [float(loss) for loss in replaced],
    }


def cache():
    # show cache
    model, scipy = regression(), gpflow.optimizers.Scipy()
    first = scipy.minimize(model.training_loss, model.trainable_variables).fun
    gamma = tfp.distributions.Gamma(np.float64(20), np.float64(5))
    model.kernel.lengthscales.prior = gamma
    same = scipy.minimize(model.training_loss, model.trainable_variables).fun
    new = fit(model).fun  # a new Scipy
    np.testing.assert_allclose(same, first, rtol=1e-6)
    assert new > same + 1
    # end
    return {"first": float(first), "same": float(same), "new": float(new)}


def table():
    # show table
    model = regression()
    gamma = tfp.distributions.Gamma(np.float64(2), np.float64(1))
    model.kernel.lengthscales.prior = gamma
    gpflow.set_trainable(model.likelihood, False)
    printed = gpflow.utilities.tabulate_module_summary(model, "simple")
    # end
    lines = printed.splitlines()
    assert lines[0].split() == [
        "name",
        "class",
        "transform",
        "prior",
        "trainable",
        "shape",
        "dtype",
        "value",
    ]
    assert lines[3].split() == [
        "GPR.kernel.lengthscales",
        "Parameter",
        "Softplus",
        "Gamma",
        "True",
        "()",
        "float64",
        "1",
    ]
    assert "Softplus + Shift" in lines[4] and "False" in lines[4]
    return {"printed": [line.rstrip() for line in lines]}


def same_line():
    # show same_line
    points, kernel = x[::4].copy(), gpflow.kernels.SquaredExponential
    noise = gpflow.likelihoods.Gaussian(0.1)
    models = [
        regression(),
        gpflow.models.SGPR((x, y), kernel(), points, noise_variance=0.1),
        gpflow.models.SVGP(kernel(), noise, inducing_variable=points),
    ]
    losses, scipy = {}, gpflow.optimizers.Scipy()
    for model in models:
        loss = gpflow.models.training_loss_closure(model, (x, y))
        start = loss().numpy()
        scipy.minimize(loss, model.trainable_variables, options={"maxiter": 5})
        losses[type(model).__name__.split("_")[0]] = [start, loss().numpy()]
        assert loss().numpy() < start - 1
    # end
    return {
        name: [float(start), float(end)] for name, (start, end) in losses.items()
    }


def batches():
    # show batches
    model, loss = sparse()
    model.num_data = 20
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    of_batch = model.training_loss_closure(iter(data))
    losses = [of_batch().numpy() for _ in range(4)]
    np.testing.assert_allclose(np.mean(losses), loss())

    model.num_data = None
    unscaled = model.training_loss((x[:5], y[:5])).numpy()
    assert losses[0] > 2 * unscaled
    # end
    return {
        "full": float(loss().numpy()),
        "of_batches": [float(number) for number in losses],
    }


def messages():
    # show messages
    model, other = regression(), regression()
    both = model.trainable_variables + other.trainable_variables
    try:
        gpflow.optimizers.Scipy().minimize(model.training_loss, both)
        unused = None
    except ValueError as error:
        unused = last_line(error).removeprefix("ValueError: ")
    assert unused is not None and "appear unused" in unused

    try:
        gpflow.models.GPR((x[:, 0], y), gpflow.kernels.SquaredExponential())
        shapes = None
    except ShapeMismatchError as error:
        shapes = [line.strip() for line in str(error).splitlines()]
    assert (
        shapes is not None
        and shapes[shapes.index("Expected: [N, D]") + 1] == "Actual:   [20]"
    )
    # end
    return {"unused": unused}


PARTS = [
    trace,
    variables,
    free,
    prior,
    attribute,
    nothing,
    round_trip,
    integer,
    natural,
    replace,
    cache,
]
PARTS += [table, same_line, batches, messages]


def run():
    return {part.__name__: part() for part in PARTS}
