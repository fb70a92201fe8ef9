"""The package's kernels: against their formulas, written out again; what holds for every kernel; every error.

tests/mutants/trainability/kernels.toml breaks the module on purpose; this file must turn red each time.
"""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from package_checks import check_error, check_every_function_is_asked_for_its_errors, check_examples, examples
from trainability import kernels
from trainability.kernels import (
    Constant,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    Product,
    RationalQuadratic,
    SquaredExponential,
    Sum,
    White,
    constant,
    diagonal,
    linear,
    matern12,
    matern32,
    matern52,
    periodic,
    rational_quadratic,
    squared_exponential,
    white,
)


@pytest.fixture(autouse=True)
def in_64_bits():
    with jax.enable_x64(True):
        yield


def squared(x, y, lengthscales):
    return sum(((a - b) / scale) ** 2 for a, b, scale in zip(x, y, lengthscales, strict=True))


def waves(x, y, lengthscales, period):
    triples = zip(x, y, lengthscales, period, strict=True)
    return sum((math.sin(math.pi * (a - b) / turn) / scale) ** 2 for a, b, scale, turn in triples)


class Kernel(NamedTuple):
    """A kernel: its function, its module, its formula for two points, and the shapes of its parameters."""

    function: Any
    module: Any
    formula: Any
    shapes: dict


ONE_EACH = {"variance": (), "lengthscales": (2,)}
KERNELS = {
    "squared exponential": Kernel(
        squared_exponential, SquaredExponential, lambda x, y, v, s: v * math.exp(-squared(x, y, s) / 2), ONE_EACH
    ),
    "matern12": Kernel(matern12, Matern12, lambda x, y, v, s: v * math.exp(-math.sqrt(squared(x, y, s))), ONE_EACH),
    "matern32": Kernel(
        matern32,
        Matern32,
        lambda x, y, v, s: v * (1 + math.sqrt(3 * squared(x, y, s))) * math.exp(-math.sqrt(3 * squared(x, y, s))),
        ONE_EACH,
    ),
    "matern52": Kernel(
        matern52,
        Matern52,
        lambda x, y, v, s: (
            v
            * (1 + math.sqrt(5 * squared(x, y, s)) + 5 / 3 * squared(x, y, s))
            * math.exp(-math.sqrt(5 * squared(x, y, s)))
        ),
        ONE_EACH,
    ),
    "rational quadratic": Kernel(
        rational_quadratic,
        RationalQuadratic,
        lambda x, y, v, s, alpha: v * (1 + squared(x, y, s) / (2 * alpha)) ** -alpha,
        {**ONE_EACH, "alpha": ()},
    ),
    "periodic": Kernel(
        periodic,
        Periodic,
        lambda x, y, v, s, period: v * math.exp(-waves(x, y, s, period) / 2),
        {**ONE_EACH, "period": (2,)},
    ),
    "linear": Kernel(
        linear,
        Linear,
        lambda x, y, v: sum(slope * a * b for slope, a, b in zip(v, x, y, strict=True)),
        {"variance": (2,)},
    ),
    "constant": Kernel(constant, Constant, lambda x, y, v: v, {"variance": ()}),
    "white": Kernel(white, White, lambda x, y, v: v if x is y else 0.0, {"variance": ()}),
}
STATIONARY = [name for name in KERNELS if name != "linear"]
WITH_LENGTHSCALES = [name for name, kernel in KERNELS.items() if "lengthscales" in kernel.shapes]
SMOOTH = [name for name in KERNELS if name != "matern12"]  # which has no derivative where points coincide
seeds, few = st.integers(0, 10**9), settings(examples, max_examples=15)
every_kernel = pytest.mark.parametrize("name", KERNELS)


def drawn(name, seed):
    """Six points, of which two coincide, four other points, and parameters."""
    rng = np.random.default_rng(seed)
    x1, x2 = rng.normal(size=(6, 2)) * 2, rng.normal(size=(4, 2)) * 2
    x1[5] = x1[0]
    parameters = [rng.uniform(0.3, 3.0, shape) for shape in KERNELS[name].shapes.values()]
    return x1, x2, [value if value.shape else float(value) for value in map(np.asarray, parameters)]


def close(found, wanted, tolerance=1e-12):
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


# ---- every kernel ----------------------------------------------------------------------------------------------------


@every_kernel
@few
@given(seed=seeds)
def test_a_kernel_is_its_formula(name, seed):
    function, _, formula, _ = KERNELS[name]
    x1, x2, parameters = drawn(name, seed)
    close(function(x1, x2, *parameters), [[formula(x, y, *parameters) for y in x2] for x in x1])
    rows = list(x1)
    close(function(x1, None, *parameters), [[formula(x, y, *parameters) for y in rows] for x in rows])


@every_kernel
@few
@given(seed=seeds)
def test_covariances_are_symmetric_and_positive_semidefinite(name, seed):
    x1, _, parameters = drawn(name, seed)
    matrix = np.asarray(KERNELS[name].function(x1, None, *parameters))
    close(matrix, matrix.T, 1e-14)
    assert np.linalg.eigvalsh(matrix).min() >= -1e-12 * np.abs(matrix).max()


@every_kernel
@few
@given(seed=seeds)
def test_the_two_sets_of_points_change_places_with_the_axes(name, seed):
    x1, x2, parameters = drawn(name, seed)
    function = KERNELS[name].function
    close(function(x1, x2, *parameters), function(x2, x1, *parameters).T, 1e-14)


@every_kernel
@few
@given(seed=seeds)
def test_the_diagonal(name, seed):
    x1, _, parameters = drawn(name, seed)
    kernel = lambda x1, x2=None: KERNELS[name].function(x1, x2, *parameters)  # noqa: E731
    close(diagonal(kernel, x1), np.diag(kernel(x1)), 1e-14)
    close(diagonal(kernel, x1[:0]), np.zeros(0))


@pytest.mark.parametrize("name", STATIONARY)
@few
@given(seed=seeds)
def test_only_differences_of_points_count(name, seed):
    x1, x2, parameters = drawn(name, seed)
    function, by = KERNELS[name].function, np.array([3.0, -7.5])
    close(function(x1 + by, x2 + by, *parameters), function(x1, x2, *parameters), 1e-10)
    if name != "white":
        exact = np.full(6, parameters[0])
        assert np.asarray(diagonal(lambda x1, x2=None: function(x1, x2, *parameters), x1)).tobytes() == exact.tobytes()


@every_kernel
@few
@given(seed=seeds)
def test_gradients_are_those_of_finite_differences_also_where_points_coincide(name, seed):
    x1, _, parameters = drawn(name, seed)
    weights = np.random.default_rng(seed).normal(size=(6, 6))

    def total(x1, *parameters):
        return jnp.sum(weights * KERNELS[name].function(x1, None, *parameters))

    arguments = (x1, *map(np.asarray, parameters))
    found = compiled_gradient(name)(weights, *arguments)
    assert all(np.isfinite(gradient).all() for gradient in found)
    for number in range(0 if name in SMOOTH else 1, len(arguments)):
        direction = np.random.default_rng(seed + number).normal(size=arguments[number].shape)
        values = []
        for step in (1e-5, -1e-5):
            moved = list(arguments)
            moved[number] = moved[number] + step * direction
            values.append(float(total(*moved)))
        wanted = (values[0] - values[1]) / 2e-5
        assert abs(np.sum(found[number] * direction) - wanted) <= 2e-4 * max(1, abs(wanted))


@functools.cache
def compiled_gradient(name):
    function, count = KERNELS[name].function, len(KERNELS[name].shapes)

    def total(weights, x1, *parameters):
        return jnp.sum(weights * function(x1, None, *parameters))

    return jax.jit(jax.grad(total, argnums=tuple(range(1, count + 2))))


def test_a_fixed_variance_of_zero_spoils_no_gradient():
    """The kernel's own rule for derivatives divides by the variance, but only if this has a derivative."""
    x1, _, (_, lengthscales) = drawn("squared exponential", 0)

    def total(lengthscales, variance):
        return KERNELS["squared exponential"].function(x1, None, variance, lengthscales).sum()

    for derivative in (jax.grad, jax.jacfwd):
        assert np.all(np.asarray(derivative(total)(lengthscales, 0.0)) == 0)
    assert np.isnan(jax.grad(total, argnums=1)(lengthscales, 0.0))  # 36 in truth, but a variance is positive


def test_second_derivatives_of_the_squared_exponential():
    x1, _, parameters = drawn("squared exponential", 0)

    def by_autodiff(variance, lengthscales):
        return variance * jnp.exp(-0.5 * jnp.square((x1[:, None] - x1[None]) / lengthscales).sum(-1))

    arguments = [jnp.asarray(value) for value in parameters]
    kernel = lambda *parameters: KERNELS["squared exponential"].function(x1, None, *parameters)  # noqa: E731
    for second in (jax.hessian, lambda function, argnums: jax.jacfwd(jax.jacfwd(function, argnums), argnums)):
        found, wanted = (jax.jit(second(function, argnums=(0, 1)))(*arguments) for function in (kernel, by_autodiff))
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            close(one, other)


@every_kernel
def test_the_gradient_at_one_point_twice(name):
    """The same point in both sets: the distance is zero, and has no derivative."""
    _, _, parameters = drawn(name, 0)
    point = jnp.array([[0.5, -1.5]])
    gradient = jax.grad(lambda x: KERNELS[name].function(x, point, *parameters).sum())(point)
    wanted = np.asarray(parameters[0]) * np.asarray(point) if name == "linear" else np.zeros((1, 2))
    close(gradient, wanted)


@every_kernel
def test_under_jit_and_vmap(name):
    x1, x2, parameters = drawn(name, 0)
    function = KERNELS[name].function
    close(jax.jit(function)(x1, x2, *parameters), function(x1, x2, *parameters))
    many = [jnp.stack([jnp.asarray(value), jnp.asarray(value) * 2]) for value in parameters]
    found = jax.vmap(lambda *parameters: function(x1, x2, *parameters))(*many)
    close(found[1], function(x1, x2, *[value[1] for value in many]))


# ---- dtypes, and parameters for each column --------------------------------------------------------------------------


@every_kernel
def test_the_dtype_is_that_of_the_points_or_a_float(name):
    function, _, _, shapes = KERNELS[name]
    numbers = [1.0] * len(shapes)
    assert function(np.ones((2, 2), np.float32), None, *numbers).dtype == np.float32
    assert function(np.ones((2, 2)), None, *numbers).dtype == np.float64
    assert function([[1, 2]], None, *numbers).dtype == np.float64


def test_points_of_unsigned_integers_have_negative_differences():
    points = np.array([[1], [30]], np.uint8)
    close(squared_exponential(points, None, 1.0, 29.0)[0, 1], math.exp(-0.5))
    close(matern12(points, None, 1.0, 29.0), [[1, math.exp(-1)], [math.exp(-1), 1]])


@pytest.mark.parametrize("name", WITH_LENGTHSCALES)
def test_a_scalar_lengthscale_is_one_for_each_column(name):
    x1, x2, (variance, _, *others) = drawn(name, 1)
    function = KERNELS[name].function
    close(function(x1, x2, variance, 0.7, *others), function(x1, x2, variance, [0.7, 0.7], *others))
    if name != "periodic":
        scales = np.array([0.5, 2.0])
        close(function(x1, x2, variance, scales, *others), function(x1 / scales, x2 / scales, variance, 1.0, *others))
    without = function(
        x1[:, :1], x2[:, :1], variance, 0.5, *[other if np.shape(other) == () else other[:1] for other in others]
    )
    close(function(x1, x2, variance, [0.5, 1e9], *others), without, 1e-8)


def test_periods_of_each_column():
    x1, x2, (variance, scales, periods) = drawn("periodic", 2)
    close(periodic(x1 + periods * [2, -3], x2, variance, scales, periods), periodic(x1, x2, variance, scales, periods))
    close(periodic(x1, x2, variance, scales, 0.7), periodic(x1, x2, variance, scales, [0.7, 0.7]))
    assert not np.allclose(periodic(x1, x2, variance, scales, 0.7), periodic(x1, x2, variance, scales, [0.7, 1.1]))


def test_rational_quadratic_becomes_squared_exponential():
    """Computed as a power, it would have lost half of the digits here."""
    x1, x2, (variance, scales, _) = drawn("rational quadratic", 3)
    close(rational_quadratic(x1, x2, variance, scales, 1e9), squared_exponential(x1, x2, variance, scales), 1e-8)
    close(rational_quadratic(x1, x2, variance, scales, 1e15), squared_exponential(x1, x2, variance, scales), 1e-12)


def test_white_noise_is_for_the_same_points_only():
    points = np.zeros((3, 1))
    close(white(points, None, 2.0), 2 * np.eye(3))
    close(white(points, points, 2.0), np.zeros((3, 3)))
    close(white(points, points[:2], 2.0), np.zeros((3, 2)))


# ---- modules ---------------------------------------------------------------------------------------------------------

X1, X2 = np.random.default_rng(0).normal(size=(5, 2)), np.random.default_rng(1).normal(size=(3, 2))


def params_of(kernel, x=X1):
    return kernel.init(jax.random.key(0), x)["params"]


def value(kernel, *points, params=None):
    return kernel.apply({"params": params_of(kernel) if params is None else params}, *points)


@every_kernel
def test_a_module_is_the_function_at_its_parameters(name):
    function, module, _, shapes = KERNELS[name]
    _, _, parameters = drawn(name, 4)
    start = {
        key: value if np.ndim(value) == 0 else tuple(value.tolist())
        for key, value in zip(shapes, parameters, strict=True)
    }
    kernel = module(**start)
    params = params_of(kernel)
    assert {key: (leaf.shape, leaf.dtype) for key, leaf in params.items()} == {
        key: (shape, np.float64) for key, shape in shapes.items()
    }
    assert {key: np.asarray(leaf).tolist() for key, leaf in params.items()} == {
        key: np.asarray(value).tolist() for key, value in start.items()
    }
    close(value(kernel, X1, X2), function(X1, X2, *parameters))
    close(value(kernel, X1), function(X1, None, *parameters))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)  # it uses the parameters, not its attributes
    close(value(kernel, X1, X2, params=doubled), function(X1, X2, *[2 * np.asarray(value) for value in parameters]))


@every_kernel
def test_parameters_start_at_one(name):
    params = params_of(KERNELS[name].module())
    assert {key: leaf.item() for key, leaf in params.items()} == dict.fromkeys(KERNELS[name].shapes, 1.0)
    with jax.enable_x64(False):
        assert {leaf.dtype for leaf in params_of(KERNELS[name].module(2)).values()} == {np.dtype("float32")}


@pytest.mark.parametrize("name", [*WITH_LENGTHSCALES, "linear"])
def test_active_dims_are_the_columns_that_a_kernel_sees(name):
    kernel = KERNELS[name].module(active_dims=(1,))
    numbers = [1.0] * len(KERNELS[name].shapes)
    x1, x2 = X1[:, 1:], X2[:, 1:]
    close(value(kernel, X1, X2), KERNELS[name].function(x1, x2, *numbers))
    close(value(kernel, X1), KERNELS[name].function(x1, None, *numbers))


def test_active_dims_may_be_in_any_order():
    kernel = SquaredExponential(lengthscales=(0.5, 2.0), active_dims=[1, 0])
    close(value(kernel, X1, X2), squared_exponential(X1, X2, 1.0, [2.0, 0.5]))


def test_sums_and_products():
    scale, smooth, noise = Constant(3.0), SquaredExponential(2.0, 0.5), White(0.1)
    k = squared_exponential(X1, None, 2.0, 0.5)
    close(value(Sum((scale, smooth, noise)), X1), 3 + k + 0.1 * np.eye(5))
    close(value(Product((scale, smooth)), X1), 3 * k)
    close(value(Product((smooth, noise)), X1), 0.2 * np.eye(5))  # None reaches every part
    close(value(Product((smooth, noise)), X1, X1), np.zeros((5, 5)))
    close(value(Sum((Product((scale, smooth)), noise)), X1), 3 * k + 0.1 * np.eye(5))
    close(value(Product((scale, Sum((smooth, noise)))), X1), 3 * (k + 0.1 * np.eye(5)))
    close(value(Sum((smooth,)), X1, X2), squared_exponential(X1, X2, 2.0, 0.5))


@pytest.mark.parametrize("kind", [Sum, Product])
def test_a_part_that_has_a_name_keeps_it(kind):
    inside = kind((Matern32(name="fast"), Constant(name="level")), name="season")
    kernel = kind((SquaredExponential(name="trend"), White(), inside))
    params = params_of(kernel)
    assert {name: set(below) for name, below in params.items()} == {
        "trend": {"variance", "lengthscales"},
        "parts_1": {"variance"},
        "season": {"fast", "level"},
    }
    params["trend"]["lengthscales"] = jnp.array(0.3)
    one = value(kind((SquaredExponential(1.0, 0.3), White(), kind((Matern32(), Constant())))), X1)
    close(value(kernel, X1, params=params), one)


class Cosine(nn.Module):
    """A kernel of someone else."""

    @nn.compact
    def __call__(self, x1, x2=None):
        frequency = self.param("frequency", lambda key: jnp.array(2.0))
        x2 = x1 if x2 is None else x2
        return jnp.cos(frequency * (x1[:, :1] - x2[:, 0]))


def test_a_part_may_be_any_module_that_is_called_like_a_kernel():
    kernel = Product((Cosine(), SquaredExponential()))
    close(value(kernel, X1, X2), np.cos(2 * (X1[:, :1] - X2[:, 0])) * squared_exponential(X1, X2, 1.0, 1.0))


class Model(nn.Module):
    kernel: Any

    @nn.compact
    def __call__(self, x):
        return diagonal(self.kernel, x)


def test_the_diagonal_of_a_kernel_inside_a_module():
    model = Model(Sum((Linear(2.0, name="slope"), White(0.5))))
    close(value(model, X1), 2 * (X1**2).sum(1) + 0.5)
    assert list(params_of(model)) == ["kernel"] and set(params_of(model)["kernel"]) == {"slope", "parts_1"}


# ---- errors and docstrings -------------------------------------------------------------------------------------------

LINE = np.zeros(3)
NOT_TWO = (
    "lengthscales must be a scalar or have the shape (2,), one number for each column of the points, but it has the "
    "shape (3,)."
)
ERRORS = {
    "one axis": (
        lambda: squared_exponential(LINE, None, 1.0, 1.0),
        ValueError,
        "x1 must have the shape (N, D), not (3,): x1[:, None], if these are points with one coordinate.",
    ),
    "one axis, second": (
        lambda: linear(X1, LINE, 1.0),
        ValueError,
        "x2 must have the shape (N, D), not (3,): x2[:, None], if these are points with one coordinate.",
    ),
    "three axes": (
        lambda: constant(np.zeros((2, 3, 4)), None, 1.0),
        ValueError,
        "x1 must have the shape (N, D), not (2, 3, 4).",
    ),
    "other columns": (
        lambda: white(X1, X1[:, :1], 1.0),
        ValueError,
        "x1 and x2 must have the same number of columns, but their shapes are (5, 2) and (5, 1).",
    ),
    "three lengthscales": (lambda: matern12(X1, None, 1.0, [1.0, 2.0, 3.0]), ValueError, NOT_TWO),
    "lengthscales in a column": (
        lambda: matern32(X1, None, 1.0, np.ones((2, 1))),
        ValueError,
        "lengthscales must be a scalar or have the shape (2,), one number for each column of the points, but it has "
        "the shape (2, 1).",
    ),
    "a variance for each point": (
        lambda: matern52(X1, None, np.ones(5), 1.0),
        ValueError,
        "variance must be a scalar, of shape (), but it has the shape (5,).",
    ),
    "two alphas": (
        lambda: rational_quadratic(X1, None, 1.0, 1.0, np.ones(2)),
        ValueError,
        "alpha must be a scalar, of shape (), but it has the shape (2,).",
    ),
    "three periods": (
        lambda: periodic(X1, None, 1.0, 1.0, np.ones(3)),
        ValueError,
        "period must be a scalar or have the shape (2,)",
    ),
    "three lengthscales of waves": (lambda: periodic(X1, None, 1.0, np.ones(3), 1.0), ValueError, NOT_TWO),
    "three slopes": (lambda: linear(X1, None, np.ones(3)), ValueError, "variance must be a scalar or have the shape"),
    "two constants": (lambda: constant(X1, None, np.ones(2)), ValueError, "variance must be a scalar, of shape ()"),
    "two noises": (lambda: white(X1, None, np.ones(2)), ValueError, "variance must be a scalar, of shape ()"),
    "two variances of waves": (
        lambda: periodic(X1, None, np.ones(2), 1.0, 1.0),
        ValueError,
        "variance must be a scalar, of shape ()",
    ),
    "inside jit": (
        lambda: jax.jit(squared_exponential)(LINE, None, 1.0, 1.0),
        ValueError,
        "x1 must have the shape (N, D)",
    ),
    "the diagonal of a line": (
        lambda: diagonal(lambda x1, x2=None: x1 @ x1.T, LINE),
        ValueError,
        "x1 must have the shape (N, D), not (3,)",
    ),
    "a start at zero": (
        lambda: params_of(SquaredExponential(lengthscales=0.0)),
        ValueError,
        "lengthscales of SquaredExponential must be positive, not 0.0.",
    ),
    "a start at minus one": (
        lambda: params_of(Periodic(period=(1.0, -1.0))),
        ValueError,
        "period of Periodic must be positive, not (1.0, -1.0).",
    ),
    "a start at NaN": (
        lambda: params_of(White(math.nan)),
        ValueError,
        "variance of White must be positive, not nan.",
    ),
    "an infinite start": (
        lambda: params_of(Linear(math.inf)),
        ValueError,
        "variance of Linear must be positive, not inf.",
    ),
    "a column that is not there": (
        lambda: params_of(Matern12(active_dims=(2,))),
        ValueError,
        "active_dims must be different columns of the points, from 0 to 1, not (2,).",
    ),
    "a column from the end": (lambda: params_of(Matern32(active_dims=(-1,))), ValueError, "from 0 to 1, not (-1,)."),
    "a column twice": (lambda: params_of(Matern52(active_dims=(1, 1))), ValueError, "from 0 to 1, not (1, 1)."),
    "no columns": (lambda: params_of(Linear(active_dims=())), ValueError, "from 0 to 1, not ()."),
    "three lengthscales, two columns": (
        lambda: params_of(RationalQuadratic(lengthscales=(1.0, 1.0, 1.0), active_dims=(0, 1))),
        ValueError,
        NOT_TWO,
    ),
    "no parts": (
        lambda: params_of(Sum(())),
        ValueError,
        "parts of Sum must be a tuple of kernels, and at least one.",
    ),
    "a part that is not in a tuple": (
        lambda: params_of(Product(White())),
        ValueError,
        "parts of Product must be a tuple of kernels, and at least one.",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_an_error_says_what_is_wrong(case):
    check_error(case)


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(kernels, {k: v for k, v in ERRORS.items() if k != "inside jit"})


def test_the_examples_run():
    with jax.enable_x64(False):
        check_examples(kernels)
