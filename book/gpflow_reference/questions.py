"""What the page of questions says about GPflow, a function for each thread.

`make gpflow` runs this file, and compares what `run` gives with questions.json.
"""

import io
from contextlib import redirect_stdout

import gpflow
import numpy as np
import tensorflow as tf

X = np.linspace(0.0, 1.0, 10)[:, None]
DATA = X, np.sin(6 * X)


def gpr(kernel, **settings):
    return gpflow.models.GPR(DATA, kernel, **settings)


def paths(model):
    """The paths of what trains."""
    parameters = gpflow.utilities.parameter_dict(model)
    return [path for path, parameter in parameters.items() if parameter.trainable]


def one_call():
    """GPflow#94: one call fixes all parameters of a kernel, and no other."""
    model = gpr(gpflow.kernels.SquaredExponential() + gpflow.kernels.Matern32())
    gpflow.set_trainable(model.kernel, False)
    assert paths(model) == [".likelihood.variance"]


def in_the_constructor():
    """GPflow#1646: a Parameter that is passed to a constructor keeps its flag."""
    noise = gpflow.Parameter(0.5, trainable=False)
    model = gpr(gpflow.kernels.SquaredExponential(), noise_variance=noise)
    assert paths(model) == [".kernel.variance", ".kernel.lengthscales"]
    assert abs(model.likelihood.variance.numpy() - 0.5) < 1e-12


def attribute():
    """GPflow#1184: on a kernel the attribute is silent, a Parameter refuses it."""
    model = gpr(gpflow.kernels.SquaredExponential())
    model.kernel.trainable = False
    assert len(paths(model)) == 3
    try:
        model.kernel.variance.trainable = False
    except AttributeError:
        return
    raise AssertionError("a Parameter has no such attribute to set")


def some_dimensions():
    """GPflow#305: a flag for each entry is stored, and fails when it is read."""
    kernel = gpflow.kernels.SquaredExponential(lengthscales=[1.0, 2.0])
    gpflow.set_trainable(kernel.lengthscales, np.array([True, False]))
    try:
        kernel.trainable_variables  # noqa: B018, the next thing a fit reads
    except ValueError:
        return
    raise AssertionError("a Parameter trains as a whole")


def tied():
    """GPflow#538: one Parameter with two names has one variable, and one row."""
    kernel = gpflow.kernels.SquaredExponential() + gpflow.kernels.Matern32()
    one, other = kernel.kernels
    other.lengthscales = one.lengthscales
    assert len(kernel.trainable_variables) == 3
    gpflow.set_trainable(other.lengthscales, False)
    assert len(kernel.trainable_variables) == 2 and not one.lengthscales.trainable
    with redirect_stdout(io.StringIO()) as table:
        gpflow.utilities.print_summary(kernel, fmt="simple")
    rows = [line for line in table.getvalue().splitlines() if "Parameter" in line]
    assert len(rows) == 3


def shared():
    """GPflow#600, GPflow#1287: two models with one kernel; the gradients add up."""
    kernel = gpflow.kernels.SquaredExponential()
    models = [gpr(kernel, noise_variance=noise) for noise in (0.1, 0.2)]
    variable = kernel.variance.unconstrained_variable

    def gradient(*chosen):
        with tf.GradientTape() as tape:
            loss = sum(model.training_loss() for model in chosen)
        return tape.gradient(loss, variable, unconnected_gradients="zero").numpy()

    parts = [gradient(model) for model in models]
    both = gradient(*models)
    assert all(parts)
    np.testing.assert_allclose(both, sum(parts), rtol=1e-9)
    gpflow.set_trainable(models[0].kernel, False)
    assert paths(models[1]) == [".likelihood.variance"]
    return {"gradients of the two losses": parts, "gradient of their sum": both}


def unconstrained():
    """Question 61998940: Adam's step is one of the unconstrained variable."""
    model = gpr(gpflow.kernels.SquaredExponential(variance=2.0))
    variance = model.kernel.variance
    start, raw = variance.numpy(), variance.unconstrained_variable.numpy()
    np.testing.assert_allclose(np.log1p(np.exp(raw)), start, rtol=1e-12)
    adam = gpflow.keras.tf_keras.optimizers.Adam(0.5)
    adam.minimize(model.training_loss, model.trainable_variables)
    moved = abs(variance.unconstrained_variable.numpy() - raw)
    np.testing.assert_allclose(moved, 0.5, rtol=1e-3)  # the first step is the rate
    assert abs(abs(variance.numpy() - start) - 0.5) > 0.01
    return {"raw": raw, "moved": moved}


def run():
    for answer in (one_call, in_the_constructor, attribute, some_dimensions, tied):
        answer()
    results = {**shared(), **unconstrained()}
    return {name: np.asarray(value).tolist() for name, value in results.items()}
