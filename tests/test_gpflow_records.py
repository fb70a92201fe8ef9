"""Sparse Gaussian processes and their likelihoods against GPflow, at the settings of its records.

The condition numbers in the records are below 1e8, so what both libraries compute agrees to 1e-8.
"""

import functools
import json

import gpflow_runs
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import trainability as tr
from numpyro.distributions.transforms import SigmoidTransform
from trainability import gp


@pytest.fixture(autouse=True, scope="module")
def sixty_four_bits():
    with jax.enable_x64(True):
        yield


LIKELIHOODS = {
    "gaussian": gp.Gaussian(),
    "bernoulli": gp.Bernoulli(),
    "softmax": gp.Softmax(classes=3, samples=10_000),
    "robust_max": gp.RobustMax(classes=3),
    "poisson": gp.Poisson(),
    "student_t": gp.StudentT(degrees_of_freedom=3.0),
    "heteroskedastic": gp.Heteroskedastic(),
}


@functools.cache
def record(name):
    return json.loads((gpflow_runs.SCRIPTS / f"{name}.json").read_text(encoding="utf-8"))


def case_of(name):
    """The data, and three settings whitened and not."""
    return {**record("sparse"), **record("sparse")["svgp"]} if name == "gaussian" else record("likelihoods")[name]


def as_arrays(tree):
    return {name: as_arrays(below) for name, below in tree.items()} if isinstance(tree, dict) else jnp.array(tree)


def model_of(name, params, whiten=True):
    kernel = gp.SquaredExponential(lengthscales=params["kernel"]["lengthscales"])
    mean = gp.ConstantMean() if "mean" in params else None
    return gp.Sparse(kernel, LIKELIHOODS[name], jnp.array(params["inducing"]), mean=mean, whiten=whiten)


def extra_of(case):
    """What the likelihood needs beside x and y."""
    return {key: jnp.array(case[key]) for key in ("exposure", "draws") if key in case}


def transforms_of(name, params):
    ways = jax.tree.map(lambda _: None, params)
    ways["kernel"] = jax.tree.map(lambda _: gp.positive(), params["kernel"])
    if "likelihood" in params:
        way = SigmoidTransform() if name == "robust_max" else gp.positive(1e-6)
        ways["likelihood"] = jax.tree.map(lambda _: way, params["likelihood"])
    return ways


def close(ours, recorded):
    """Within 1e-8 of the largest number."""
    ours, recorded = np.asarray(ours), np.asarray(recorded)
    assert ours.shape == recorded.shape
    np.testing.assert_allclose(ours, recorded, rtol=0, atol=1e-8 * np.abs(recorded).max())


def numbers(tree):
    """All numbers of a tree. Of a gradient, they have one scale."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_sparse_process_agrees_with_svgp(name, whiten):
    """ELBO, gradients for the unconstrained numbers, predictions and log densities, at three settings."""
    case = case_of(name)
    x, y, new_x, new_y = (jnp.array(case[key]) for key in ("x", "y", "new_x", "new_y"))
    extra, rows = extra_of(case), case["whitened" if whiten else "not_whitened"]
    model, params = model_of(name, rows[0]["params"], whiten), as_arrays(rows[0]["params"])
    ways, everything = transforms_of(name, params), tr.all_trainable(params)
    at_new = {key: value[:, : len(new_x)] if key == "draws" else value for key, value in extra.items()}

    @jax.jit
    def computed(params):
        def elbo(raw):
            return model.apply({"params": gp.constrain(raw, ways, everything)}, x, y, **extra)

        return {
            "elbo": jax.value_and_grad(elbo)(gp.unconstrain(params, ways, everything)),
            "latent": model.apply({"params": params}, new_x, method="predict"),
            "observed": model.apply({"params": params}, new_x, observed=True, method="predict", **at_new),
            "density": model.apply({"params": params}, new_x, new_y, method="log_density", **at_new),
        }

    assert len(rows) == 3
    for row in rows:
        assert row["condition"] < 1e8
        found = computed(as_arrays(row["params"]))
        elbo, gradient = found["elbo"]
        close(elbo, row["elbo"])
        close(numbers(gradient), numbers(as_arrays(row["gradients"])))
        for part, names in (("latent", ("mean", "variance")), ("observed", ("observed_mean", "observed_variance"))):
            for ours, key in zip(found[part], names, strict=True):
                close(ours, row[key])
        close(found["density"], row["log_density"])


@pytest.mark.parametrize("whiten", [True, False])
def test_covariances_of_the_function_agree(whiten):
    for row in record("sparse")["svgp"]["whitened" if whiten else "not_whitened"]:
        params = as_arrays(row["params"])
        model = model_of("gaussian", row["params"], whiten)
        new_x = jnp.array(record("sparse")["new_x"])
        _, covariance = model.apply({"params": params}, new_x, full_covariance=True, method="predict")
        close(covariance, row["covariance"])


def test_the_monte_carlo_elbo_agrees():
    """Within three standard errors, each of which is below a thousandth of the ELBO."""
    case = case_of("softmax")
    x, y, rows = jnp.array(case["x"]), jnp.array(case["y"]), case["whitened"]
    model, keys = model_of("softmax", rows[0]["params"]), jax.random.split(jax.random.key(0), 10)
    elbos = jax.jit(lambda params: jax.vmap(lambda key: model.apply({"params": params}, x, y, key=key))(keys))
    for row in rows:
        ours, theirs = elbos(as_arrays(row["params"])), row["monte_carlo"]
        error = np.std(ours, ddof=1) / np.sqrt(10)
        assert max(error, theirs["standard_error"]) < 1e-3 * abs(theirs["elbo"])
        assert abs(np.mean(ours) - theirs["elbo"]) < 3 * np.hypot(error, theirs["standard_error"])


def test_log_densities_agree():
    densities = record("likelihoods")["densities"]
    functions = {
        "gaussian": lambda f, y: gp.gaussian(f, y, 0.3),
        "bernoulli": gp.bernoulli,
        "softmax": gp.softmax,
        "robust_max": lambda f, y: gp.robust_max(f, y, 1e-3),
        "poisson": lambda f, y: gp.poisson(f, y, jnp.array(densities["exposure"])),
        "student_t": lambda f, y: gp.student_t(f, y, 0.3, 3.0),
        "heteroskedastic": gp.heteroskedastic,
    }
    assert {*functions} == {*densities} - {"exposure"}
    for name, function in functions.items():
        case = densities[name]
        found = function(jnp.array(case["f"]), jnp.array(case["y"]))
        np.testing.assert_allclose(found, case["log_density"], rtol=1e-8)


def test_the_collapsed_bound_agrees_with_sgpr():
    x, y = jnp.array(record("sparse")["x"]), jnp.array(record("sparse")["y"])

    def bound(params):
        kernel, z = functools.partial(gp.squared_exponential, **params["kernel"]), params["inducing"]
        prior = jnp.full(len(x), params["kernel"]["variance"])
        covariance = kernel(z, None) + 1e-6 * jnp.eye(len(z))
        residual, noise = y - params["mean"]["constant"], params["likelihood"]["variance"]
        return gp.collapsed_bound(covariance, kernel(z, x), prior, noise, residual)

    params = as_arrays(record("sparse")["sgpr"][0]["params"])
    ways, everything = transforms_of("gaussian", params), tr.all_trainable(params)
    computed = jax.jit(jax.value_and_grad(lambda raw: bound(gp.constrain(raw, ways, everything))))
    for row in record("sparse")["sgpr"]:
        value, gradient = computed(gp.unconstrain(as_arrays(row["params"]), ways, everything))
        close(value, row["elbo"])
        close(numbers(gradient), numbers(as_arrays(row["gradients"])))


# ---- natural gradients -----------------------------------------------------------------------------------------------

STEPS = record("natural")["one_step"]


@pytest.mark.parametrize("case", STEPS, ids=lambda case: f"{case['model']}-{case['whiten']}-{case['rate']}")
def test_a_natural_step_agrees(case):
    data = case_of(case["model"])
    x, y, extra = jnp.array(data["x"]), jnp.array(data["y"]), extra_of(data)
    model = model_of(case["model"], case["rows"][0]["params"], case["whiten"])
    optimizer = gp.natural_gradient(case["rate"])

    @jax.jit
    def step(params):
        def loss(q):
            return -model.apply({"params": {**params, "q": q}}, x, y, **extra)

        value, gradient = jax.value_and_grad(loss)(params["q"])
        update, _ = optimizer.update(gradient, optimizer.init(params["q"]), params["q"])
        q = optax.apply_updates(params["q"], update)
        return -value, -loss(q), q

    for row in case["rows"]:
        before, after, q = step(as_arrays(row["params"]))
        close(before, row["before"])
        close(after, row["after"])
        # The step divides by what can be small, so q is less precise than the ELBO.
        for ours, theirs in zip(jax.tree.leaves(q), jax.tree.leaves(as_arrays(row["q"])), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7 * np.abs(theirs).max())


@pytest.mark.parametrize("name", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("way", ["in_turn", "together"])
def test_natural_steps_beside_adam_agree(name, way):
    """Five steps, each optimizer with its own gradient, or both with one. The inducing points are fixed."""
    recorded, data = record("natural")["two_optimizers"], case_of(name)
    x, y, row = jnp.array(data["x"]), jnp.array(data["y"]), recorded[way][name]
    params, model = as_arrays(row["start"]), model_of(name, row["start"])
    ways = transforms_of(name, params)
    trainable = tr.all_trainable(params, but="inducing")
    hyper = tr.set_trainable(params, trainable, "q", False)

    def loss(raw):
        return -model.apply({"params": gp.constrain(raw, ways, trainable)}, x, y)

    natural = gp.natural_gradient(recorded["rate"])
    adam = optax.adam(recorded["learning_rate"], eps=1e-14)
    labels = jax.tree.map(lambda train: "adam" if train else "fixed", hyper)
    labels["q"] = jax.tree.map(lambda _: "natural", params["q"])
    still = optax.set_to_zero()

    def partition(**given):
        each = {"natural": still, "adam": still, "fixed": still, **given}
        return optax.partition(each, labels)

    if way == "together":
        optimizers = [partition(natural=natural, adam=adam)]
    else:
        optimizers = [partition(natural=natural), partition(adam=adam)]
    raw = gp.unconstrain(params, ways, trainable)
    states = [optimizer.init(raw) for optimizer in optimizers]

    @jax.jit
    def step(raw, states):
        new = []
        for optimizer, state in zip(optimizers, states, strict=True):
            update, state = optimizer.update(jax.grad(loss)(raw), state, raw)
            raw = optax.apply_updates(raw, update)
            new.append(state)
        return raw, new

    for _ in range(recorded["steps"]):
        raw, states = step(raw, states)
    found = gp.constrain(raw, ways, trainable)
    np.testing.assert_allclose(-loss(raw), row["elbo"], rtol=1e-7)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(as_arrays(row["params"])), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7 * np.abs(theirs).max())
