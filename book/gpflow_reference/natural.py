"""Natural gradients in GPflow: one step, and steps of two optimizers in turn.

`make gpflow` compares what `run()` gives with natural.json, for chapter 10c. The
chapter shows the lines between `# show NAME` and `# end`. The data and the settings
are those of sparse.json and likelihoods.json.
"""

import pathlib
import runpy

import gpflow
import numpy as np
import tensorflow as tf

# A small number of q carries the rounding of the largest one, as in regression.py.
RTOL = 1e-7

likelihoods = runpy.run_path(
    str(pathlib.Path(__file__).with_name("likelihoods.py"))
)
sparse = likelihoods["sparse"]
for_each, leaves = sparse["for_each"], sparse["leaves"]

# Each: a model, whether q is whitened, and the length of the step.
ONE_STEP = [
    ("gaussian", True, 1.0),
    ("gaussian", False, 1.0),
    ("gaussian", True, 0.1),
    ("gaussian", False, 0.1),
    ("bernoulli", True, 0.1),
    ("bernoulli", False, 0.1),
    ("robust_max", True, 0.1),
    ("poisson", True, 0.1),
    ("student_t", True, 0.1),
    ("heteroskedastic", True, 0.1),
]

# ---- models ----------------------------------------------------------------------


def settings_of(name):
    if name == "gaussian":
        return sparse["settings_of"](sparse["FIRST"], latents=1, spacing=1.0)
    return likelihoods["settings_of"](name)


def model_and_data(name, params, whiten):
    if name == "gaussian":
        model = sparse["svgp_of"](sparse["gaussian_of"](params), params, whiten)
        return model, sparse["temperatures"]()
    return likelihoods["model_of"](name, params, whiten), likelihoods["CASES"][
        name
    ][0]()


def values_of(model, params):
    """The parameters, in dictionaries like those of `params`."""
    parameters = sparse["parameters_of"](model, params)
    return for_each(lambda leaf: leaf.numpy().tolist(), parameters)


# show step
def natural_step(model, data, rate):
    optimizer = gpflow.optimizers.NaturalGradient(gamma=rate)
    loss = model.training_loss_closure(data, compile=False)
    optimizer.minimize(loss, [(model.q_mu, model.q_sqrt)])


# end

# ---- one step --------------------------------------------------------------------


def step_row(name, params, whiten, rate):
    """The ELBO before and after a step, and q after it."""
    params = params if whiten else likelihoods["not_whitened"](params)
    model, data = model_and_data(name, params, whiten)
    before = float(model.elbo(data))
    natural_step(model, data, rate)
    after = float(model.elbo(data))
    assert after > before
    q = values_of(model, params)["q"]
    return {"params": params, "before": before, "after": after, "q": q}


def gaussian_row():
    """A row of the record, for a mutant."""
    step_row("gaussian", settings_of("gaussian")[0], whiten=True, rate=0.1)


def one_step():
    return [
        {
            "model": name,
            "whiten": whiten,
            "rate": rate,
            "rows": [
                step_row(name, row, whiten, rate) for row in settings_of(name)
            ],
        }
        for name, whiten, rate in ONE_STEP
    ]


def one_step_is_enough():
    """With Gaussian noise and all data, a step of length 1 gives SGPR's q."""
    for whiten in (True, False):
        for params in settings_of("gaussian"):
            model, data = model_and_data("gaussian", params, whiten)
            natural_step(model, data, rate=1.0)
            collapsed = sparse["sgpr_of"](params, *data)
            bound = collapsed.elbo()
            np.testing.assert_allclose(model.elbo(data), bound, rtol=1e-9)
            found, expected = (
                m.predict_f(sparse["NEW_X"]) for m in (model, collapsed)
            )
            np.testing.assert_allclose(found, expected, rtol=1e-7)
            before = values_of(model, params)["q"]
            natural_step(model, data, rate=1.0)
            after = values_of(model, params)["q"]
            np.testing.assert_allclose(leaves(after), leaves(before), atol=1e-7)


def definition():
    """A step adds to the natural parameters the gradient for the expectations.

    For mean m and covariance S, the natural parameters are S⁻¹m and -S⁻¹/2, and the
    expectations are m and S + mmᵀ. Here by dense algebra.
    """
    params, rate = settings_of("bernoulli")[0], 0.1
    model, data = model_and_data("bernoulli", params, whiten=True)
    mean, root = np.array(params["q"]["mean"]), np.array(params["q"]["root"][0])

    def gradients(mean, covariance):
        """Those of the ELBO for mean and covariance, by finite differences."""

        def elbo(mean, covariance):
            model.q_mu.assign(mean)
            model.q_sqrt.assign(np.linalg.cholesky(covariance)[None])
            return float(model.elbo(data))

        slope, curve, step = np.zeros([3, 1]), np.zeros([3, 3]), 1e-5
        for i in range(3):
            move = step * np.eye(3)[:, [i]]
            up, down = elbo(mean + move, covariance), elbo(mean - move, covariance)
            slope[i] = (up - down) / (2 * step)
            for j in range(3):
                move = np.zeros([3, 3])
                move[i, j] += step / 2
                move[j, i] += step / 2
                up, down = (
                    elbo(mean, covariance + move),
                    elbo(mean, covariance - move),
                )
                curve[i, j] = (up - down) / (2 * step)
        return slope, curve

    covariance = root @ root.T
    slope, curve = gradients(mean, covariance)
    inverse = np.linalg.inv(covariance)
    first = inverse @ mean + rate * (slope - 2 * curve @ mean)
    second = -0.5 * inverse + rate * curve
    new_covariance = np.linalg.inv(-2 * second)
    new_mean = new_covariance @ first

    model.q_mu.assign(mean)
    model.q_sqrt.assign(root[None])
    natural_step(model, data, rate)
    found = model.q_sqrt.numpy()[0]
    # Finite differences of numbers near 50.
    np.testing.assert_allclose(model.q_mu, new_mean, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, new_covariance, atol=1e-6)


# ---- two optimizers --------------------------------------------------------------

# Adam of Keras adds its small number to another root than Adam of Optax: at 1e-14,
# neither matters. It rounds plain numbers to 32 bits, if you do not ask for 64.
gpflow.keras.tf_keras.backend.set_floatx("float64")
EXACT = {
    "epsilon": 1e-14,
    "beta_1": tf.constant(0.9, tf.float64),
    "beta_2": tf.constant(0.999, tf.float64),
}


# show two_optimizers
def in_turn(model, data, steps, rate, learning_rate):
    gpflow.set_trainable(model.q_mu, False)
    gpflow.set_trainable(model.q_sqrt, False)
    natural = gpflow.optimizers.NaturalGradient(gamma=rate)
    adam = gpflow.keras.tf_keras.optimizers.Adam(learning_rate, **EXACT)
    loss = model.training_loss_closure(data, compile=False)
    for _ in range(steps):
        natural.minimize(loss, [(model.q_mu, model.q_sqrt)])
        adam.minimize(loss, model.trainable_variables)


# end


# show together
def together(model, data, steps, rate, learning_rate):
    gpflow.set_trainable(model.q_mu, False)
    gpflow.set_trainable(model.q_sqrt, False)
    natural = gpflow.optimizers.NaturalGradient(gamma=rate)
    adam = gpflow.keras.tf_keras.optimizers.Adam(learning_rate, **EXACT)
    loss = model.training_loss_closure(data, compile=False)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            value = loss()
        variables = model.trainable_variables
        gradients = tape.gradient(value, variables)
        natural.minimize(loss, [(model.q_mu, model.q_sqrt)])
        adam.apply_gradients(zip(gradients, variables, strict=True))


# end

TWO = {"steps": 5, "rate": 0.1, "learning_rate": 0.05}


def two_row(way, name):
    """Where five steps end. The inducing points are fixed."""
    params = settings_of(name)[0]
    model, data = model_and_data(name, params, whiten=True)
    gpflow.set_trainable(model.inducing_variable, False)
    way(model, data, **TWO)
    values = values_of(model, params)
    assert values["inducing"] == params["inducing"]
    assert leaves(values["kernel"]).tolist() != leaves(params["kernel"]).tolist()
    return {"start": params, "params": values, "elbo": float(model.elbo(data))}


def first_row():
    """A row of the record, for the mutants."""
    two_row(in_turn, "gaussian")


def two_optimizers():
    return {
        **TWO,
        "in_turn": {
            name: two_row(in_turn, name) for name in ("gaussian", "bernoulli")
        },
        "together": {
            name: two_row(together, name) for name in ("gaussian", "bernoulli")
        },
    }


# ---- mistakes --------------------------------------------------------------------


def adam_also_moves_q():
    """Without the two calls that fix q for Adam, both optimizers move it."""

    # show both
    def both(model, data, steps, rate, learning_rate):
        natural = gpflow.optimizers.NaturalGradient(gamma=rate)
        adam = gpflow.keras.tf_keras.optimizers.Adam(learning_rate, **EXACT)
        loss = model.training_loss_closure(data, compile=False)
        for _ in range(steps):
            natural.minimize(loss, [(model.q_mu, model.q_sqrt)])
            adam.minimize(loss, model.trainable_variables)

    # end
    right, wrong = two_row(in_turn, "gaussian"), two_row(both, "gaussian")
    difference = np.abs(leaves(right["params"]["q"]) - leaves(wrong["params"]["q"]))
    assert difference.max() > 0.01
    return wrong


def q_is_fixed():
    """A natural gradient step moves what it is given, trainable or not."""
    params = settings_of("gaussian")[0]
    model, data = model_and_data("gaussian", params, whiten=True)
    gpflow.set_trainable(model.q_mu, False)
    gpflow.set_trainable(model.q_sqrt, False)
    before = model.q_mu.numpy()
    natural_step(model, data, rate=0.1)
    moved = np.abs(model.q_mu.numpy() - before).max()
    assert moved > 0.1 and not model.q_mu.trainable
    return {"moved": float(moved)}


def step_too_long():
    """Without Gaussian noise, a step of length 1 can lead far from the best q.

    Here the ELBO gets better for Bernoulli and worse for counts, and for Student-t
    noise there is no covariance after the step.
    """

    def elbos(name):
        model, data = model_and_data(name, settings_of(name)[1], whiten=True)
        before = float(model.elbo(data))
        natural_step(model, data, rate=1.0)
        return [before, float(model.elbo(data))]

    found = {name: elbos(name) for name in ("bernoulli", "poisson")}
    assert found["bernoulli"][0] < found["bernoulli"][1] < 0
    assert found["poisson"][1] < 5 * found["poisson"][0] < 0
    said = sparse["message"](
        lambda: elbos("student_t"), "InvalidArgumentError", "gpflow.Parameter: "
    )
    kind, problem = said.split(": ")[0], said.split("gpflow.Parameter: ")[1]
    return {**found, "student_t": f"{kind}: {problem.split(' : ')[0]}"}


def minibatch():
    """A step of length 1 on a batch: q forgets all other data."""
    params = settings_of("gaussian")[0]
    x, y = sparse["temperatures"]()
    likelihood = sparse["gaussian_of"](params)
    model = sparse["svgp_of"](likelihood, params, True, num_data=len(x))
    natural_step(model, (x, y), rate=1.0)
    best = float(model.elbo((x, y)))
    natural_step(model, (x[:10], y[:10]), rate=1.0)
    after = float(model.elbo((x, y)))
    assert after < best - 10
    return {"all data": best, "one batch": after}


def half_of_q():
    """The mean alone is an error: the step needs both."""
    params = settings_of("gaussian")[0]
    model, data = model_and_data("gaussian", params, whiten=True)
    natural = gpflow.optimizers.NaturalGradient(gamma=0.1)
    loss = model.training_loss_closure(data, compile=False)
    return sparse["message"](
        lambda: natural.minimize(loss, [(model.q_mu,)]),
        "ArgumentReferenceError",
        "Unable to resolve",
        "Argument",
        "Index",
    )


def mistakes():
    return {
        "adam also moves q": adam_also_moves_q(),
        "q is fixed": q_is_fixed(),
        "a step too long": step_too_long(),
        "a minibatch": minibatch(),
        "half of q": half_of_q(),
    }


def run():
    one_step_is_enough()
    definition()
    return {
        "one_step": one_step(),
        "two_optimizers": two_optimizers(),
        "mistakes": mistakes(),
    }


if __name__ == "__main__":
    print(run()["one_step"][0])
