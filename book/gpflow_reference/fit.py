"""The CO2 model of regression.py, fitted in stages by GPflow's Scipy optimizer.

`make gpflow` compares what `run()` gives with fit.json, which chapter 9c reads: for
each stage its objective, minus the log marginal likelihood, and predictions.
"""

import pathlib
import runpy

import gpflow
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

# Two runs of L-BFGS end within this of one another, at the tolerances below.
RTOL = 1e-5

regression = runpy.run_path(str(pathlib.Path(__file__).with_name("regression.py")))
START = regression["CO2"]
NEW_X = np.linspace(-20.0, 20.0, 9)[:, None]

# Chapter 9c computes from the Hessian that the unconstrained number of each of
# these has a standard deviation below 1. The others can end in another place of
# the valley, so the record does not hold them.
DETERMINED = [
    "kernel/irregular/lengthscales",
    "kernel/irregular/variance",
    "kernel/season/cycle/lengthscales",
    "mean/slope",
    "noise_variance",
]

# show options
# scipy's own ones, 2e-9 for ftol, stop earlier in the flat valley of this model
OPTIONS = {"ftol": 1e-12, "gtol": 1e-5, "maxiter": 1000}
# end


def start():
    """The model and its parameters at the start, two of them fixed."""
    x, y, _ = regression["co2"]()
    model = regression["model_of"](regression["co2_kernel"], START, x, y)
    parameters = regression["parameters_of"](model, START)
    season = parameters["kernel"]["season"]
    # show fix
    gpflow.utilities.set_trainable(season["cycle"]["period"], False)
    gpflow.utilities.set_trainable(season["drift"]["variance"], False)
    # end
    return model, parameters


# show fit
def fit(model, options):
    optimizer = gpflow.optimizers.Scipy()
    loss, variables = model.training_loss, model.trainable_variables
    return optimizer.minimize(loss, variables, options=options)


# end


def row(model):
    """What the record holds of a fitted model."""
    mean, variance = model.predict_f(NEW_X)
    return {
        "objective": float(model.training_loss().numpy()),
        "mean": regression["plain"](mean),
        "sd": regression["plain"](np.sqrt(variance)),
        "determined": determined(model),
    }


def determined(model):
    """The values of the parameters that are determined, in the order above."""
    parameters = regression["parameters_of"](model, START)
    values = []
    for path in DETERMINED:
        place = parameters
        for name in path.split("/"):
            place = place[name]
        values.append(place.numpy().item())
    return values


def moved(parameters):
    """How many numbers differ from the start by more than a transform rounds."""
    values = regression["for_each"](lambda leaf: leaf.numpy(), parameters)
    ratios = regression["leaves"](values) / regression["leaves"](START)
    return int(np.sum(np.abs(ratios - 1) > 1e-9))


# show scaled
def scaled(period):
    """A parameter whose unconstrained variable is in thousandths."""
    shift = tfp.bijectors.Shift(tf.constant(1.0, tf.float64))
    scale = tfp.bijectors.Scale(tf.constant(1e-3, tf.float64))
    return gpflow.Parameter(period, transform=tfp.bijectors.Chain([shift, scale]))


# end


def fitted():
    """The period is fixed, and one of two variances that only act as a product."""
    model, parameters = start()
    before = model.training_loss().numpy()
    result = fit(model, OPTIONS)
    assert result.success and before - result.fun > 3
    assert moved(parameters) == 10  # of 12
    return model


def period_fixed():
    return row(fitted())


def noise_fixed():
    """The noise variance is fixed too, at its start, 0.1."""
    model, parameters = start()
    gpflow.utilities.set_trainable(parameters["noise_variance"], False)
    result = fit(model, OPTIONS)
    assert result.success and moved(parameters) == 9
    return row(model)


def period_freed(model):
    """From there the period is freed, its unconstrained variable in thousandths.

    Under its softplus L-BFGS reports success too, but before it is at the optimum.
    """
    before = model.training_loss().numpy()
    copy = gpflow.utilities.deepcopy(model)
    gpflow.utilities.set_trainable(copy, True)
    gpflow.utilities.set_trainable(
        copy.kernel.kernels[1].kernels[1].variance, False
    )
    early = fit(copy, {})

    cycle = model.kernel.kernels[1].kernels[0]
    cycle.period = scaled(1.0)
    result = fit(model, OPTIONS)
    assert result.success and before - result.fun > 0.8
    assert early.success and early.fun - result.fun > 0.02
    assert 0.999 < cycle.period.numpy() < 0.9999
    return {**row(model), "period": float(cycle.period.numpy())}


def fixed_then_freed():
    model = fitted()
    return {"period_fixed": row(model), "period_freed": period_freed(model)}


def run():
    made = {"start": START, "options": OPTIONS, "new_x": NEW_X[:, 0].tolist()}
    made["determined"] = DETERMINED
    return {**made, **fixed_then_freed(), "noise_fixed": noise_fixed()}
