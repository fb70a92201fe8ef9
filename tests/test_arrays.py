"""The checks that the modules of Gaussian processes share: each of them on values and inside jax.jit.

tests/mutants/trainability/arrays.toml breaks the module on purpose; this file must turn red each time. That the models
use the checks is tested with the models.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from package_checks import check_error
from trainability import arrays


@pytest.fixture(autouse=True, scope="module")
def sixty_four_bits():
    with jax.enable_x64(True):
        yield


def test_floats_have_the_dtype_to_which_all_promote():
    single, double = np.ones(2, np.float32), np.ones(2)
    assert [array.dtype for array in arrays._floats(single, single)] == [np.float32] * 2
    assert [array.dtype for array in arrays._floats(single, double, [1])] == [np.float64] * 3
    assert [array.dtype for array in arrays._floats([1, 2])] == [np.float64]


def test_what_is_right_is_accepted():
    points = jnp.ones([3, 2])
    arrays._check_points("x", points)
    arrays._check_one_for_each("y", jnp.ones(3), "x", 3)
    arrays._check_square("covariance", jnp.eye(2))
    np.testing.assert_allclose(arrays._cholesky(jnp.array([[4.0, 2.0], [2.0, 5.0]])), [[2, 0], [1, 2]], rtol=1e-12)


def one_for_each(values):
    arrays._check_one_for_each("y", jnp.asarray(values), "x", 3)


def bad(place, value):
    return jnp.ones([3, 2]).at[place].set(value)


SINGULAR = (
    "the covariance of 2 points is not positive definite in float64. Check that the variances and lengthscales are "
    "positive. Then use a larger noise variance or jitter, leave out points that coincide, or use 64-bit floats."
)
ERRORS = {
    "NaN": (
        lambda: arrays._check_finite("x", bad((2, 1), np.nan)),
        ValueError,
        "x has a value that is not finite: x[2, 1] is nan.",
    ),
    "infinity": (
        lambda: arrays._check_finite("x", bad((1, 0), -np.inf)),
        ValueError,
        "x has a value that is not finite: x[1, 0] is -inf.",
    ),
    "points with one coordinate": (
        lambda: arrays._check_points("x", jnp.ones(3)),
        ValueError,
        "x must have the shape (N, D), a row for each point, not (3,). If the points have one coordinate, pass "
        "x[:, None].",
    ),
    "points with too many axes": (
        lambda: arrays._check_points("x", jnp.ones([1, 3, 2])),
        ValueError,
        "x must have the shape (N, D), a row for each point, not (1, 3, 2).",
    ),
    "no points": (
        lambda: arrays._check_points("x", jnp.ones([0, 2])),
        ValueError,
        "x is empty: it has the shape (0, 2).",
    ),
    "a point that is NaN": (
        lambda: arrays._check_points("x", bad((0, 0), np.nan)),
        ValueError,
        "x has a value that is not finite: x[0, 0] is nan.",
    ),
    "a column": (
        lambda: one_for_each(np.ones([3, 1])),
        ValueError,
        "y must have the shape (N,), a number for each row of x, not (3, 1). Pass y[:, 0].",
    ),
    "two columns": (
        lambda: one_for_each(np.ones([3, 2])),
        ValueError,
        "y must have the shape (N,), a number for each row of x, not (3, 2).",
    ),
    "another number of values": (
        lambda: one_for_each(np.ones(2)),
        ValueError,
        "y has 2 numbers, but x has 3 rows.",
    ),
    "a value that is NaN": (
        lambda: one_for_each([0.0, 0.0, np.nan]),
        ValueError,
        "y has a value that is not finite: y[2] is nan.",
    ),
    "a matrix that is not square": (
        lambda: arrays._check_square("covariance", jnp.ones([2, 3])),
        ValueError,
        "covariance must have the shape (N, N), not (2, 3).",
    ),
    "a matrix of nothing": (
        lambda: arrays._check_square("covariance", jnp.ones([0, 0])),
        ValueError,
        "covariance is empty: it has the shape (0, 0).",
    ),
    "a singular covariance": (lambda: arrays._cholesky(jnp.ones([2, 2])), ValueError, SINGULAR),
    "a singular covariance of single precision": (
        lambda: arrays._cholesky(jnp.ones([2, 2], np.float32)),
        ValueError,
        SINGULAR.replace("float64", "float32"),
    ),
    "a covariance that is NaN": (
        lambda: arrays._cholesky(jnp.array([[1.0, np.nan], [np.nan, 1.0]])),
        ValueError,
        "covariance has a value that is not finite: covariance[0, 1] is nan.",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_error(case):
    check_error(case)


def test_an_error_of_a_value_says_nothing_more():
    with pytest.raises(ValueError, match=r"not \(3, 2\)\.$"):
        one_for_each(np.ones([3, 2]))
    with pytest.raises(ValueError, match=r"not \(1, 3, 2\)\.$"):
        arrays._check_points("x", jnp.ones([1, 3, 2]))


def test_inside_jit_only_shapes_are_checked():
    def checked(points, values, covariance):
        arrays._check_points("x", points)
        arrays._check_one_for_each("y", values, "x", 3)
        return arrays._cholesky(covariance)

    program = jax.jit(checked)
    assert np.isfinite(program(np.ones([3, 2]), np.ones(3), np.eye(2))).all()
    assert np.isnan(program(np.full([3, 2], np.nan), np.full(3, np.nan), np.ones([2, 2]))).any()
    with pytest.raises(ValueError, match=r"^x must have the shape"):
        program(np.ones(3), np.ones(3), np.eye(2))
    with pytest.raises(ValueError, match=r"^y has 2 numbers"):
        program(np.ones([3, 2]), np.ones(2), np.eye(2))
