"""One task in GPflow: build, fix two parameters, fit, predict; and five mistakes.

`make gpflow` compares what `run()` gives with two_libraries.json, which chapter 9h
reads. The chapter shows the lines between `# show NAME` and `# end`.
"""

import pathlib
import runpy

import gpflow
import numpy as np

# Two runs of L-BFGS end within this of one another, at the tolerances below.
RTOL = 1e-5

regression = runpy.run_path(str(pathlib.Path(__file__).with_name("regression.py")))
NEW_X = np.array([[-10.0], [14.25]])


# show build
def build(x, y):
    trend = gpflow.kernels.SquaredExponential(900.0, 30.0)
    cycle = gpflow.kernels.SquaredExponential(9.0, 0.8)
    season = gpflow.kernels.Periodic(cycle, period=1.0)
    return gpflow.models.GPR((x, y), trend + season, noise_variance=0.1)


# end


# show fix
def fix(model):
    trend, season = model.kernel.kernels
    gpflow.set_trainable(trend.lengthscales, False)
    gpflow.set_trainable(season.period, False)


# end


# show fit
def fit(model):
    options = {"ftol": 1e-12, "gtol": 1e-5}
    return gpflow.optimizers.Scipy().minimize(
        model.training_loss, model.trainable_variables, options=options
    )


# end


# show predict
def predict(model, new_x):
    return model.predict_y(new_x)


# end


def table(model):
    """The lines that `gpflow.utilities.print_summary` prints, without frames."""
    text = gpflow.utilities.tabulate_module_summary(model, tablefmt="plain")
    return [line.rstrip() for line in text.splitlines()]


def task():
    x, y, _ = regression["co2"]()
    model = build(x, y)
    fix(model)
    seen, start = table(model), float(model.training_loss().numpy())
    result = fit(model)
    assert result.success and start - result.fun > 1
    trend, season = model.kernel.kernels
    assert season.period.numpy() == 1.0 and len(model.trainable_variables) == 4
    np.testing.assert_allclose(trend.lengthscales.numpy(), 30.0, rtol=1e-12)
    mean, variance = predict(model, NEW_X)
    return {
        "table": seen,
        "start": start,
        "objective": float(result.fun),
        "mean": mean.numpy()[:, 0].tolist(),
        "observed_variance": variance.numpy()[:, 0].tolist(),
    }


# ---- mistakes --------------------------------------------------------------------


def message(call, kind, part):
    """The type of the error of a call, and the lines of its message with `part`."""
    try:
        call()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines()]
        assert type(error).__name__ == kind, type(error)
        said = [line for line in lines if part in line]
        assert said, str(error)
        return f"{kind}: {' '.join(said)}"
    raise AssertionError("no error")


def with_entry(array, value):
    array = np.array(array)
    array[3] = value
    return array


def misspelt():
    x, y, _ = regression["co2"]()
    model = build(x, y)
    return message(
        lambda: gpflow.set_trainable(model.kernel.kernels[1].perod, False),
        "AttributeError",
        "perod",
    )


def flat_y():
    x, y, _ = regression["co2"]()
    return message(lambda: build(x, y[:, 0]), "ShapeMismatchError", "[N, P]")


def nan_in_y():
    """The fit raises no error: it ends at once, with a message of scipy's."""
    x, y, _ = regression["co2"]()
    model = build(x, with_entry(y, np.nan))
    result = fit(model)
    assert not result.success and np.isnan(result.fun) and result.nit == 0
    return f"loss {result.fun}, success {result.success}, {result.message}".rstrip(
        ": "
    )


def no_noise():
    """For points that coincide the covariance is singular: NaN, and no error."""
    x, y, _ = regression["co2"]()
    model = build(0 * x, y)
    model.kernel.kernels[0].variance.assign(1e12)
    model.likelihood.variance.assign(2e-6)
    loss = model.training_loss().numpy()
    assert np.isnan(loss)
    return f"loss {loss}"


def negative():
    x, y, _ = regression["co2"]()
    model = build(x, y)
    return (
        message(
            lambda: model.kernel.kernels[1].period.assign(-1.0),
            "InvalidArgumentError",
            "incompatible with this parameter's transform",
        )
        .split("gpflow.Parameter: ")[1]
        .split(" (")[0]
    )


def mistakes():
    return {
        "a misspelt name": misspelt(),
        "y without its column": flat_y(),
        "NaN in y": nan_in_y(),
        "not positive definite": no_noise(),
        "a negative period": negative(),
    }


def run():
    return {"task": task(), "mistakes": mistakes()}
