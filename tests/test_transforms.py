"""The package's constraints and priors: round trips, fixed leaves bit for bit, log-Jacobians, the table, every error.

tests/mutants/trainability/transforms.toml breaks the module on purpose; this file must turn red each time.
"""

import html
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from package_checks import (
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    deleted,
    examples,
    same_bits,
)
from trainability import transforms
from trainability.masks import NoMatchError, all_fixed, all_trainable, combine, partition
from trainability.training import fit
from trainability.transforms import (
    ParameterRow,
    constrain,
    fit_lbfgs,
    log_jacobian,
    log_prior,
    positive,
    potential,
    replace,
    summary,
    unconstrain,
)


@pytest.fixture(autouse=True)
def in_64_bits():
    with jax.enable_x64(True):
        yield


EXP, LOGIT, SOFTPLUS = dist.transforms.ExpTransform(), dist.transforms.SigmoidTransform(), positive()
PARAMS = {
    "kernel": {"lengthscales": np.array([0.3, 2.0]), "variance": np.array(1.7)},
    "mean": np.array(-0.4),
    "noise_variance": np.array(0.05),
}
WAYS = {"kernel": {"lengthscales": SOFTPLUS, "variance": EXP}, "mean": None, "noise_variance": positive(1e-6)}
NORMAL, POSITIVE_PRIOR = dist.Normal(0.0, 2.0), dist.LogNormal(0.0, 1.0)
PRIORS = {
    "kernel": {"lengthscales": POSITIVE_PRIOR, "variance": dist.Gamma(2.0, 1.0)},
    "mean": NORMAL,
    "noise_variance": POSITIVE_PRIOR,
}
NONE = {"kernel": {"lengthscales": None, "variance": None}, "mean": None, "noise_variance": None}
PATHS = ["kernel/lengthscales", "kernel/variance", "mean", "noise_variance"]
ALL = all_trainable(PARAMS)
few = settings(examples, max_examples=20)
masks = st.lists(st.booleans(), min_size=4, max_size=4).map(jax.tree.structure(PARAMS).unflatten)
seeds = st.integers(0, 10**9)


def drawn(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: np.exp(rng.normal(size=leaf.shape)) + 1e-3, PARAMS)


def entries(tree):
    """What a tree has for each parameter, by path. Bijectors and priors of NumPyro are pytrees themselves."""
    kernel = tree["kernel"]
    found = [kernel["lengthscales"], kernel["variance"], tree["mean"], tree["noise_variance"]]
    return dict(zip(PATHS, found, strict=True))


def close(found, wanted, tolerance=1e-12):
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=tolerance, atol=tolerance)


def accepted(call, *arguments):
    """The result of a call, which must not be refused."""
    try:
        return call(*arguments)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"refused: {error}") from error


def test_bijectors_and_priors_of_numpyro_may_be_pytrees():
    """If they were not taken as they are, these trees would differ in structure from the parameters."""
    assert sorted(jax.tree.leaves(NORMAL)) == [0.0, 2.0] and jax.tree.leaves(EXP) == []  # in an order of its own
    assert accepted(log_prior, PARAMS, PRIORS).shape == ()
    assert (
        accepted(unconstrain, PARAMS, {**WAYS, "mean": dist.transforms.AffineTransform(1.0, 2.0)}, ALL)["mean"] == -0.7
    )


# ---- positive --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [0.0, 1e-6, 2.0])
def test_positive_is_a_shifted_softplus(lower):
    way, free = positive(lower), np.array([-30.0, -1.0, 0.0, 2.5, 30.0])
    value = [lower + math.log1p(math.exp(number)) for number in free]
    close(way(free), value)
    close(way.inv(way(free[1:])), free[1:])
    slopes = jax.vmap(jax.grad(way))(free)
    close(way.log_abs_det_jacobian(free, way(free)), np.log(slopes))


def test_positive_is_exact_for_small_and_large_numbers():
    way = positive()
    small, large = np.array([1e-300, 1e-20, 1e-8]), np.array([50.0, 800.0, 1e8])
    np.testing.assert_allclose(way(way.inv(small)), small, rtol=1e-12)
    assert np.asarray(way.inv(large)).tolist() == large.tolist()
    assert np.asarray(way(large)).tolist() == large.tolist()
    assert np.isfinite(way.log_abs_det_jacobian(-1000.0, 0.0)) and way.log_abs_det_jacobian(1000.0, 1000.0) == 0
    assert jax.grad(way)(-1000.0) == 0 and jax.grad(way)(1000.0) == 1


def test_the_lower_bound_itself_is_outside():
    for lower in (0.0, 1e-6, 3.0):
        assert not np.isfinite(positive(lower).inv(lower)) and np.isnan(positive(lower).inv(lower - 1))
        assert np.isfinite(positive(lower).inv(lower + 1e-9))


def test_positive_keeps_32_bits():
    assert positive(1e-6)(np.float32(0.5)).dtype == positive(1e-6).inv(np.float32(0.5)).dtype == np.float32
    assert positive() == positive(0) != positive(1.0)


# ---- there and back --------------------------------------------------------------------------------------------------


@few
@given(seeds, masks)
def test_what_trains_is_transformed_and_comes_back(seed, mask):
    params = drawn(seed)
    raw = unconstrain(params, WAYS, mask)
    for path, value, free, way, train in zip(
        PATHS,
        jax.tree.leaves(params),
        jax.tree.leaves(raw),
        [SOFTPLUS, EXP, None, positive(1e-6)],
        jax.tree.leaves(mask),
        strict=True,
    ):
        if train and way is not None:
            close(free, np.log(value) if way is EXP else np.log(np.expm1(value - way.lower)), 1e-9)
        else:
            assert free is value, path
    back = constrain(raw, WAYS, mask)
    for value, again, train in zip(jax.tree.leaves(params), jax.tree.leaves(back), jax.tree.leaves(mask), strict=True):
        assert train or again is value
        close(again, value)


def test_a_fixed_leaf_is_exact_where_a_round_trip_is_not():
    params = {"a": np.float32(0.1), "b": np.float32(0.1)}
    mask, ways = {"a": True, "b": False}, {"a": EXP, "b": EXP}
    there_and_back = constrain(unconstrain(params, ways, mask), ways, mask)
    assert there_and_back["b"].tobytes() == params["b"].tobytes()
    assert np.asarray(there_and_back["a"]).tobytes() != params["a"].tobytes()


def test_a_fixed_value_may_be_outside_its_constraint():
    params = {"a": np.array(0.0), "b": np.array(-0.0), "c": np.array(np.nan)}
    ways, mask = dict.fromkeys(params, SOFTPLUS), all_fixed(params)
    assert same_bits(constrain(unconstrain(params, ways, mask), ways, mask), params)


def test_structures_other_than_dicts():
    params = ({"a": [np.array(2.0), np.array(3.0)]}, np.array(1.0))
    ways, mask = ({"a": [EXP, None]}, SOFTPLUS), ({"a": [True, True]}, False)
    raw = unconstrain(params, ways, mask)
    assert jax.tree.structure(raw) == jax.tree.structure(params)
    close(raw[0]["a"][0], math.log(2))
    assert raw[0]["a"][1] is params[0]["a"][1] and raw[1] is params[1]


def test_a_bijector_may_change_the_shape():
    params, mask = {"weights": np.array([0.2, 0.3, 0.5])}, {"weights": True}
    way = dist.transforms.StickBreakingTransform()
    raw = unconstrain(params, {"weights": way}, mask)
    assert raw["weights"].shape == (2,)
    close(constrain(raw, {"weights": way}, mask)["weights"], params["weights"])
    jacobian = jax.jacobian(lambda free: way(free)[:2])(raw["weights"])
    close(log_jacobian(raw, {"weights": way}, mask), np.linalg.slogdet(jacobian)[1])


class Doubled:
    """A bijector of someone else."""

    def __call__(self, free):
        return 2 * free

    def inv(self, value):
        return value / 2

    def log_abs_det_jacobian(self, free, value):
        return jnp.full(jnp.shape(free), math.log(2))


def test_any_bijector_will_do():
    params, ways, mask = {"a": np.array([2.0, 4.0])}, {"a": Doubled()}, {"a": True}
    raw = unconstrain(params, ways, mask)
    assert raw["a"].tolist() == [1.0, 2.0] and constrain(raw, ways, mask)["a"].tolist() == [2.0, 4.0]
    close(log_jacobian(raw, ways, mask), 2 * math.log(2))


def test_under_jit_a_value_outside_is_nan():
    ways, mask = {"a": SOFTPLUS}, {"a": True}
    assert np.isnan(jax.jit(lambda params: unconstrain(params, ways, mask))({"a": -1.0})["a"])
    params = jax.jit(lambda raw: constrain(raw, ways, mask))({"a": 0.3})
    close(params["a"], math.log1p(math.exp(0.3)))


# ---- log-Jacobian and priors -----------------------------------------------------------------------------------------


@few
@given(seeds, masks)
def test_the_log_jacobian_is_that_of_autodiff(seed, mask):
    raw = jax.tree.map(np.log, drawn(seed))

    def flat(part):
        values = constrain(combine(part, fixed), WAYS, mask)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(partition(values, mask)[0])])

    train, fixed = partition(raw, mask)
    if not jax.tree.leaves(train):
        assert log_jacobian(raw, WAYS, mask) == 0
        return
    columns = [np.atleast_2d(np.asarray(leaf)) for leaf in jax.tree.leaves(jax.jacobian(flat)(train))]
    count = len(flat(train))
    matrix = np.concatenate([column.reshape(count, -1) for column in columns], axis=1)
    close(log_jacobian(raw, WAYS, mask), np.linalg.slogdet(matrix)[1], 1e-9)


@few
@given(seeds)
def test_the_log_prior_is_the_sum_of_scipys_densities(seed):
    params = drawn(seed)
    scales, variance, mean, noise = jax.tree.leaves(params)
    terms = {
        "kernel/lengthscales": scipy.stats.lognorm(1.0).logpdf(scales).sum(),
        "kernel/variance": scipy.stats.gamma(2.0).logpdf(variance),
        "mean": scipy.stats.norm(0, 2).logpdf(mean),
        "noise_variance": scipy.stats.lognorm(1.0).logpdf(noise),
    }
    close(log_prior(params, PRIORS), sum(terms.values()), 1e-10)
    for path in PATHS:
        close(log_prior(params, replace(PRIORS, path, None)), sum(terms.values()) - terms[path], 1e-10)
    assert log_prior(params, NONE) == 0 and log_prior(params, NONE).shape == ()


def test_a_prior_for_each_number_and_of_a_whole_array():
    params = {"a": np.array([0.5, 2.0])}
    each = dist.Normal(np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    wanted = scipy.stats.norm([0, 1], [1, 3]).logpdf(params["a"]).sum()
    close(log_prior(params, {"a": each}), wanted)
    whole = dist.MultivariateNormal(np.array([0.0, 1.0]), np.diag([1.0, 9.0]))
    close(accepted(log_prior, params, {"a": whole}), wanted)


def test_outside_of_its_support_a_prior_gives_minus_infinity():
    density = jax.jit(lambda value: log_prior({"period": value}, {"period": dist.Uniform(0.9, 1.1)}))
    close(density(1.0), math.log(5))
    assert density(2.0) == -math.inf


# ---- fits ------------------------------------------------------------------------------------------------------------

DATA = np.array([0.2, 0.9, 2.5])


def loss_fn(params, data):
    """The minimum is inside for the variance, and at the lower bound for the noise."""
    kernel = params["kernel"]
    fit = jnp.sum((kernel["lengthscales"] - 1.5) ** 2) + (kernel["variance"] - 0.4) ** 2
    return fit + jnp.sum((params["mean"] - data) ** 2) + (params["noise_variance"] - 0.7) ** 2


def test_fit_lbfgs_is_scipys_over_the_free_numbers():
    mask = replace(ALL, "noise_variance", False)
    fitted = fit_lbfgs(loss_fn, PARAMS, mask, WAYS, args=(DATA,))

    def by_hand(vector):
        scales, variance = np.log1p(np.exp(vector[:2])), np.exp(vector[2])
        residuals = vector[3] - DATA
        value = np.sum((scales - 1.5) ** 2) + (variance - 0.4) ** 2 + np.sum(residuals**2) + (0.05 - 0.7) ** 2
        slopes = 2 * (scales - 1.5) / (1 + np.exp(-vector[:2]))
        return value, np.array([*slopes, 2 * (variance - 0.4) * variance, 2 * residuals.sum()])

    start = np.array([*np.log(np.expm1([0.3, 2.0])), np.log(1.7), -0.4])
    other = scipy.optimize.minimize(by_hand, start, jac=True, method="L-BFGS-B")
    assert fitted.result.success and fitted.result.nit == other.nit and fitted.result.nfev == other.nfev
    close(fitted.result.x, other.x, 1e-7)
    close(fitted.params["kernel"]["lengthscales"], np.log1p(np.exp(other.x[:2])), 1e-7)
    close(fitted.params["kernel"]["variance"], np.exp(other.x[2]), 1e-7)
    close(fitted.losses[0], by_hand(start)[0])
    assert fitted.params["noise_variance"] is PARAMS["noise_variance"]
    assert fitted.result.names == ["kernel/lengthscales[0]", "kernel/lengthscales[1]", "kernel/variance", "mean"]


def test_fit_lbfgs_stays_inside_the_constraint():
    fitted = fit_lbfgs(lambda params: (params["a"] + 1) ** 2, {"a": 3.0}, {"a": True}, {"a": positive(0.5)})
    assert fitted.params["a"] >= 0.5
    free = fit_lbfgs(lambda params: (params["a"] + 1) ** 2, {"a": 3.0}, {"a": True}, {"a": None})
    close(free.params["a"], -1.0, 1e-5)


def test_fit_lbfgs_passes_its_settings_on():
    seen = []
    fitted = fit_lbfgs(
        loss_fn, PARAMS, ALL, WAYS, args=(DATA,), maxiter=2, progress=lambda number, loss: seen.append(number)
    )
    assert seen == [1, 2] and len(fitted.losses) == 3


def refuses(params, data):
    if not isinstance(data, jax.core.Tracer) and np.isnan(data).any():
        raise ValueError("data has a NaN")
    return jnp.sum(params["mean"] - data) ** 2


def test_a_loss_is_called_with_known_values_first():
    for call in (fit_lbfgs, lambda *given, args: potential(*given, PRIORS, args=args)):
        with pytest.raises(ValueError, match="data has a NaN"):
            call(refuses, PARAMS, ALL, WAYS, args=(np.array([np.nan]),))


def test_the_loop_of_optax_fits_what_unconstrain_returns():
    """The trees work with every other tool of the package."""
    mask = replace(ALL, "kernel/variance", False)
    raw = unconstrain(PARAMS, WAYS, mask)
    loss = lambda raw: loss_fn(constrain(raw, WAYS, mask), DATA)  # noqa: E731
    fitted = constrain(fit(loss, raw, mask, optax.adam(0.1), 300).params, WAYS, mask)
    close(fitted["kernel"]["lengthscales"], [1.5, 1.5], 1e-3)
    assert same_bits(fitted["kernel"]["variance"], PARAMS["kernel"]["variance"])


# ---- the potential ---------------------------------------------------------------------------------------------------


@few
@given(seeds, masks.filter(lambda mask: any(jax.tree.leaves(mask))))
def test_the_potential_is_minus_the_log_posterior_of_the_free_numbers(seed, mask):
    params = drawn(seed)
    energy, start = potential(loss_fn, params, mask, WAYS, PRIORS, args=(DATA,))
    raw = unconstrain(params, WAYS, mask)
    assert same_bits(start, jax.tree.map(jnp.asarray, partition(raw, mask)[0]))
    wanted = loss_fn(params, DATA) - log_prior(params, PRIORS) - log_jacobian(raw, WAYS, mask)
    close(energy(start), wanted, 1e-10)
    moved = jax.tree.map(lambda leaf: leaf + 0.3, start)
    raw = combine(moved, partition(raw, mask)[1])
    values = constrain(raw, WAYS, mask)
    wanted = loss_fn(values, DATA) - log_prior(values, PRIORS) - log_jacobian(raw, WAYS, mask)
    close(energy(moved), wanted, 1e-10)


def test_the_potential_needs_priors_for_what_trains_only():
    mask, priors = replace(ALL, "mean", False), replace(PRIORS, "mean", None)
    energy, start = accepted(lambda: potential(loss_fn, PARAMS, mask, WAYS, priors, args=(DATA,)))
    assert start["mean"] is None and np.isfinite(energy(start))
    with pytest.raises(ValueError, match="mean would be sampled and has no prior"):
        potential(loss_fn, PARAMS, ALL, WAYS, priors, args=(DATA,))


def test_the_start_of_a_sampler_has_strong_types():
    """A loop of JAX refuses a carry that is weakly typed before the first step only."""
    energy, start = potential(lambda params: params["a"], {"a": 1.0}, {"a": True}, {"a": None}, {"a": NORMAL})
    assert not start["a"].weak_type and start["a"].dtype == np.float64
    assert energy({"a": 2.0}).shape == ()


def test_nuts_samples_the_posterior_and_leaves_fixed_leaves_alone():
    """Without data the posterior is the prior, so the moments of the samples are known."""
    from numpyro.infer import MCMC, NUTS

    params = {"fixed": np.array(0.3), "free": np.array(1.5)}
    mask, ways = {"fixed": False, "free": True}, {"fixed": EXP, "free": SOFTPLUS}
    priors = {"fixed": None, "free": dist.LogNormal(0.5, 0.4)}
    energy, start = potential(lambda params: 0.0 * params["fixed"], params, mask, ways, priors)
    sampler = MCMC(NUTS(potential_fn=energy), num_warmup=300, num_samples=2000, progress_bar=False)
    sampler.run(jax.random.key(0), init_params=start)
    samples = sampler.get_samples()
    assert samples["fixed"] is None and samples["free"].shape == (2000,)
    drawn = jax.vmap(lambda free: constrain(combine(free, {"fixed": params["fixed"], "free": None}), ways, mask))(
        samples
    )
    logs = np.log(np.asarray(drawn["free"]))
    assert abs(logs.mean() - 0.5) < 0.06 and abs(logs.std() - 0.4) < 0.06
    assert set(np.asarray(drawn["fixed"]).tolist()) == {0.3}


# ---- replacing one thing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_replace_changes_one_leaf_and_no_other(path):
    for tree, new in ((PARAMS, entries(PARAMS)[path] + 1), (WAYS, EXP), (PRIORS, None), (ALL, False)):
        before = entries(tree)
        after = entries(replace(tree, path, new))
        assert all(after[name] is before[name] for name in PATHS if name != path)
        assert np.array_equal(after[path], new) if tree is PARAMS else after[path] is new
        assert all(entries(tree)[name] is before[name] for name in PATHS)


def test_a_new_value_takes_the_dtype():
    params = {"a": np.ones(2, np.float32), "b": jnp.array(1), "c": 1.0}
    new = replace(params, "a", [1, 2])["a"]
    assert new.dtype == np.float32 and new.tolist() == [1.0, 2.0]
    assert replace(params, "a", np.array([0.1, 0.2]))["a"].dtype == np.float32
    assert replace(params, "b", 3)["b"].dtype == params["b"].dtype
    assert replace(params, "c", 2)["c"] == 2
    assert jax.jit(lambda value: replace(params, "a", value)["a"])(np.zeros(2)).dtype == np.float32


def test_what_is_not_a_dict_is_a_leaf():
    tree = {"a": (1, 2), "b": {"c": [3]}}
    assert replace(tree, "b/c", None) == {"a": (1, 2), "b": {"c": None}}
    assert replace(tree, "a", "new") == {"a": "new", "b": {"c": [3]}}
    normal = replace({"a": NORMAL}, "a", POSITIVE_PRIOR)  # a distribution of NumPyro is a pytree of two numbers
    assert normal["a"] is POSITIVE_PRIOR


# ---- the table -------------------------------------------------------------------------------------------------------

MASK = replace(ALL, "mean", False)
TABLE = """\
path                 value     transform         prior      trainable  shape  dtype
kernel/lengthscales  [0.3, 2]  softplus          LogNormal  True       (2,)   float64
kernel/variance      1.7       ExpTransform      Gamma      True       ()     float64
mean                 -0.4                        Normal     False      ()     float64
noise_variance       0.05      softplus + 1e-06  LogNormal  True       ()     float64
4 of 5 numbers train (32 of 40 bytes)"""


def test_the_table():
    table = summary(PARAMS, MASK, WAYS, PRIORS)
    assert str(table) == repr(table) == TABLE
    assert table.rows[2] == ParameterRow("mean", "-0.4", "", "Normal", "False", "()", "float64")
    without = summary(PARAMS, MASK, WAYS)
    assert [row.prior for row in without.rows] == [""] * 4 and without.totals == table.totals


def test_the_table_in_a_notebook():
    markup = summary(PARAMS, MASK, {**WAYS, "mean": Named()}, PRIORS)._repr_html_()
    cells = [html.unescape(part.partition("</td>")[0]) for part in markup.split("<td>")[1:]]
    heads = [part.partition("</th>")[0] for part in markup.split('<th scope="col">')[1:]]
    assert heads == list(ParameterRow._fields)
    assert cells[14:21] == ["mean", "-0.4", "<a&b>", "Normal", "False", "()", "float64"]
    assert "<a&b>" not in markup and markup.endswith("<p>4 of 5 numbers train (32 of 40 bytes)</p>")


class Named(Doubled):
    name = "<a&b>"


def test_how_many_numbers_are_shown():
    params = {
        "a": np.arange(4.0),
        "b": np.arange(5.0),
        "c": np.ones((2, 2)),
        "d": 1.0,
        "e": np.zeros(0),
        "f": np.ones(1),
    }
    table = summary(params, all_trainable(params), dict.fromkeys(params))
    assert [row.value for row in table.rows] == ["[0, 1, 2, 3]", "0 …", "[1, 1, 1, 1]", "1", "", "1"]
    steps = summary({"n": np.array(3)}, {"n": False}, {"n": None})
    assert steps.rows[0].trainable == "integer, never trains"


def test_values_that_are_not_known_are_empty():
    seen = []

    def record(params):
        seen.append(summary(params, {"a": True, "b": True}, {"a": SOFTPLUS, "b": None}))
        return params

    jax.jit(record)({"a": np.ones(2), "b": np.array(1.0)})
    assert [row.value for row in seen[0].rows] == ["", ""]
    gone = summary({"a": deleted(), "b": 1.0}, {"a": True, "b": True}, {"a": None, "b": None})
    assert [row.value for row in gone.rows] == ["deleted", "1"]


def test_the_table_of_many_leaves_has_all_rows():
    params = {f"{number:03}": 1.0 for number in range(150)}
    assert len(summary(params, all_trainable(params), dict.fromkeys(params)).rows) == 150


# ---- errors and docstrings -------------------------------------------------------------------------------------------

OTHER = {"kernel": WAYS["kernel"], "mean": None}
LACKS = "the tree of parameters and the tree of transforms differ in structure: at the top the tree of transforms lacks"
LACKS_PRIOR = "the tree of parameters and the tree of priors differ in structure: at kernel the tree of priors lacks"
WITHOUT_A_PRIOR = {**PRIORS, "kernel": {"variance": None}}
LINES = {"a/b": np.array(1.0), "a": {"b": np.array(2.0)}}
NO_CLASS = "must have a bijector, such as positive(), or None at each leaf, but mean has the class ExpTransform."


def mean_squared(params):
    return params["mean"] ** 2


def outside(**changes):
    return {**PARAMS, **{name: np.asarray(value) for name, value in changes.items()}}


ERRORS = {
    "an infinite bound": (
        lambda: positive(math.inf),
        ValueError,
        "lower must be a finite Python number, not the number",
    ),
    "a bound for each": (
        lambda: positive(np.ones(2)),
        ValueError,
        "lower must be a finite Python number, not an array of float64 and shape (2,).",
    ),
    "outside": (
        lambda: unconstrain(outside(noise_variance=-0.5), WAYS, ALL),
        ValueError,
        "noise_variance has the value -0.5, which is outside its constraint (softplus + 1e-06). Start from a value "
        "inside it, or fix this parameter, or give it another transform or None.",
    ),
    "on the bound": (
        lambda: unconstrain(outside(noise_variance=1e-6), WAYS, ALL),
        ValueError,
        "noise_variance has the value 1e-06, which is outside",
    ),
    "one of two outside": (
        lambda: unconstrain(replace(PARAMS, "kernel/lengthscales", [1.0, -2.0]), WAYS, ALL),
        ValueError,
        "kernel/lengthscales has the value -2.0, which is outside its constraint (softplus).",
    ),
    "a whole array outside": (
        lambda: unconstrain({"w": np.array([-1.0, 2.0])}, {"w": dist.transforms.StickBreakingTransform()}, {"w": True}),
        ValueError,
        "w has the value [-1. 2.], which is outside its constraint (StickBreakingTransform).",
    ),
    "the only parameter outside": (
        lambda: unconstrain(-1.0, SOFTPLUS, True),
        ValueError,
        "the parameter has the value -1.0, which is outside",
    ),
    "transforms of another structure": (lambda: unconstrain(PARAMS, OTHER, ALL), ValueError, LACKS),
    "and back": (lambda: constrain(PARAMS, OTHER, ALL), ValueError, LACKS),
    "and its Jacobian": (lambda: log_jacobian(PARAMS, OTHER, ALL), ValueError, LACKS),
    "and its fit": (lambda: fit_lbfgs(mean_squared, PARAMS, ALL, OTHER), ValueError, LACKS),
    "and its potential": (lambda: potential(mean_squared, PARAMS, ALL, OTHER, PRIORS), ValueError, LACKS),
    "and its table": (lambda: summary(PARAMS, ALL, OTHER), ValueError, LACKS),
    "a transform too many": (
        lambda: unconstrain(PARAMS, {**WAYS, "nois": None}, ALL),
        ValueError,
        "at the top the tree of transforms also has 'nois'.",
    ),
    "one transform for all": (
        lambda: unconstrain(PARAMS, SOFTPLUS, ALL),
        ValueError,
        "at the top the tree of parameters has a dict, the tree of transforms a leaf.",
    ),
    "priors of another structure": (lambda: log_prior(PARAMS, WITHOUT_A_PRIOR), ValueError, LACKS_PRIOR),
    "and the potential of them": (
        lambda: potential(mean_squared, PARAMS, ALL, WAYS, WITHOUT_A_PRIOR),
        ValueError,
        LACKS_PRIOR,
    ),
    "and the table of them": (lambda: summary(PARAMS, ALL, WAYS, WITHOUT_A_PRIOR), ValueError, LACKS_PRIOR),
    "a mask of another structure": (
        lambda: unconstrain(PARAMS, WAYS, {"kernel": True}),
        ValueError,
        "the tree of parameters and the mask differ in structure",
    ),
    "a mask of another structure, and back": (
        lambda: constrain(PARAMS, WAYS, {"kernel": True}),
        ValueError,
        "the tree of parameters and the mask differ in structure",
    ),
    "a traced mask": (
        lambda: log_jacobian(PARAMS, WAYS, jax.tree.map(jnp.asarray, ALL)),
        TypeError,
        "a static mask is needed",
    ),
    "a class": (
        lambda: unconstrain(PARAMS, {**WAYS, "mean": dist.transforms.ExpTransform}, ALL),
        TypeError,
        f"the tree of transforms {NO_CLASS}",
    ),
    "a number": (
        lambda: constrain(PARAMS, {**WAYS, "mean": 1.0}, ALL),
        TypeError,
        "or None at each leaf, but mean has the number 1.0.",
    ),
    "a prior among the transforms": (
        lambda: unconstrain(PARAMS, {**WAYS, "mean": NORMAL}, ALL),
        TypeError,
        "the tree of transforms must have a bijector, such as positive(), or None at each leaf, but mean has a Normal.",
    ),
    "a transform among the priors": (
        lambda: log_prior(PARAMS, {**PRIORS, "mean": EXP}),
        TypeError,
        "the tree of priors must have a distribution, with a method log_prob, or None at each leaf, but mean has a "
        "ExpTransform.",
    ),
    "an integer that trains": (
        lambda: unconstrain({"n": np.array(3)}, {"n": SOFTPLUS}, {"n": True}),
        TypeError,
        "n cannot train: it is int64, which has no gradient.",
    ),
    "a prior of two numbers for one": (
        lambda: log_prior(PARAMS, {**PRIORS, "mean": dist.Normal(np.zeros(2), 1.0)}),
        ValueError,
        "the prior of mean has the shape (2,), but the parameter has ().",
    ),
    "args that are no tuple": (
        lambda: fit_lbfgs(loss_fn, PARAMS, ALL, WAYS, args=[DATA]),
        TypeError,
        "args must be a tuple",
    ),
    "args of a potential that are no tuple": (
        lambda: potential(loss_fn, PARAMS, ALL, WAYS, PRIORS, args=DATA),
        TypeError,
        "args must be a tuple",
    ),
    "nothing to fit": (lambda: fit_lbfgs(mean_squared, PARAMS, all_fixed(PARAMS), WAYS), ValueError, "nothing trains:"),
    "nothing to sample": (
        lambda: potential(mean_squared, PARAMS, all_fixed(PARAMS), WAYS, PRIORS),
        ValueError,
        "nothing trains: every leaf of the mask is False",
    ),
    "a prior is missing": (
        lambda: potential(mean_squared, PARAMS, ALL, WAYS, {**PRIORS, "mean": None}),
        ValueError,
        "mean would be sampled and has no prior. Give a prior in priors, or fix in the mask.",
    ),
    "all priors are missing": (
        lambda: potential(mean_squared, PARAMS, ALL, WAYS, NONE),
        ValueError,
        "kernel/lengthscales, kernel/variance, mean, noise_variance would be sampled and have no prior.",
    ),
    "a start outside a prior": (
        lambda: potential(mean_squared, PARAMS, ALL, WAYS, {**PRIORS, "mean": Impossible()}),
        ValueError,
        "the prior of mean has the log density -inf at the start. Change the value, or the prior.",
    ),
    "a fixed value outside its prior": (
        lambda: potential(mean_squared, PARAMS, MASK, WAYS, {**PRIORS, "mean": Impossible()}),
        ValueError,
        "the prior of mean has the log density -inf at the start.",
    ),
    "a loss that is not finite": (
        lambda: potential(lambda params: jnp.sum(params["mean"]) / 0.0, PARAMS, ALL, WAYS, PRIORS),
        ValueError,
        "the loss is -inf at the start.",
    ),
    "a loss of two numbers": (
        lambda: potential(lambda params: params["kernel"]["lengthscales"], PARAMS, ALL, WAYS, PRIORS),
        ValueError,
        "the loss must be a scalar, of shape (), but it has the shape (2,).",
    ),
    "no such path": (
        lambda: replace(PARAMS, "kernel/varience", 1.0),
        NoMatchError,
        "'kernel/varience' is not the path of a leaf. There are: kernel/lengthscales, kernel/variance, mean,",
    ),
    "no such path among many": (
        lambda: replace({f"layer{number}": {"lengthscales": 1.0} for number in range(20)}, "lengthscale", 1.0),
        NoMatchError,
        "There are 20 leaves, and the nearest names are: lengthscales",
    ),
    "a dict of one leaf": (
        lambda: replace({"a": {"b": 1.0}}, "a", 1.0),
        NoMatchError,
        "'a' is not the path of a leaf. There are: a/b.",
    ),
    "the path of a dict": (lambda: replace(PARAMS, "kernel", 1.0), NoMatchError, "'kernel' is not the path of a leaf."),
    "the path of two places": (lambda: replace(LINES, "a/b", 1.0), ValueError, "'a/b' is the path of 2 places"),
    "a path as a tuple": (
        lambda: replace(PARAMS, ("kernel", "variance"), 1.0),
        TypeError,
        "path must be a string such as 'kernel/variance', not a tuple.",
    ),
    "another shape": (
        lambda: replace(PARAMS, "kernel/lengthscales", 1.0),
        ValueError,
        "kernel/lengthscales has the shape (2,), but the new value has ().",
    ),
    "another kind of number": (
        lambda: replace({"n": np.array(3)}, "n", 1.5),
        TypeError,
        "n is an array of int64, and the number 1.5 cannot be converted to that.",
    ),
    "no number": (
        lambda: replace(PARAMS, "mean", EXP),
        TypeError,
        "mean is an array, and must be replaced by an array or a number, not by a ExpTransform.",
    ),
    "a word": (
        lambda: replace(PARAMS, "mean", "1.0"),
        TypeError,
        "mean is an array, and must be replaced by an array or a number, not by the string '1.0'.",
    ),
}


class Impossible:
    def log_prob(self, value):
        return jnp.full(jnp.shape(value), -jnp.inf)


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_an_error_says_what_is_wrong(case):
    check_error(case)


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(transforms, ERRORS)


def test_the_examples_run():
    with jax.enable_x64(False):
        check_examples(transforms)
