"""A reader's first program with the package: `make wheel` runs it where pip has just installed that, and nothing else.

It imports no test tool and no path of the book. With the argument `flax` it does the same with a Flax model.
"""

import platform
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import trainability as tr

assert str(tr.__file__).startswith(sys.prefix), f"{tr.__file__} is not the package that was installed"


def train(predict: Callable[[Any, jax.Array], Any], params: Any) -> None:
    """Three steps of Adam in which everything but the head is fixed; then to the minimum."""
    x, y = jnp.linspace(-1.0, 1.0, 8)[:, None], jnp.ones([8, 1])

    def loss(params: Any) -> Any:
        return jnp.mean((predict(params, x) - y) ** 2)

    trainable = tr.all_fixed(params, but="head")
    fitted = tr.fit(loss, params, trainable, optax.adam(0.1), 3)
    at_minimum = tr.fit_lbfgs(loss, params, trainable)
    for after in (fitted.params, at_minimum.params):
        for path in ("encoder", "head"):
            before_and_after = zip(jax.tree.leaves(params[path]), jax.tree.leaves(after[path]), strict=True)
            same = [np.array_equal(old, new) for old, new in before_and_after]
            assert all(same) if path == "encoder" else not any(same), path
    assert loss(at_minimum.params) <= loss(fitted.params) < loss(params)
    print(tr.summary(params, trainable))


def by_hand() -> None:
    def predict(params: Any, x: jax.Array) -> Any:
        return jnp.tanh(x @ params["encoder"]) @ params["head"]["kernel"] + params["head"]["bias"]

    head = {"kernel": jnp.ones([2, 1]), "bias": jnp.zeros(1)}
    train(predict, {"encoder": jnp.array([[1.0, -0.5]]), "head": head})


def with_flax() -> None:
    import flax.linen as nn

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(1, name="head")(jnp.tanh(nn.Dense(2, name="encoder")(x)))

    model = Model()
    params = model.init(jax.random.key(0), jnp.ones([1, 1]))["params"]
    train(lambda params, x: model.apply({"params": params}, x), params)
    live_model()
    gaussian_process()


def live_model() -> None:
    from flax import nnx

    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    if version("flax") < "0.12":
        try:
            tr.live.set_trainable(model, "bias", False)
        except ImportError as error:
            assert "needs Flax 0.12" in str(error)
        else:
            raise AssertionError("an older Flax has no metadata to set, and no error says so")
        return
    tr.live.set_trainable(model, "bias", False)
    assert tr.live.trainable_paths(model) == ["kernel"]


def gaussian_process() -> None:
    """A kernel of two parts, of which one parameter is fitted to a covariance, and the others are fixed."""
    kernel = tr.gp.Sum((tr.gp.SquaredExponential(name="trend"), tr.gp.White(0.1)))
    x = jnp.linspace(0.0, 1.0, 5)[:, None]
    params = kernel.init(jax.random.key(0), x)["params"]
    target = tr.gp.squared_exponential(x, None, 1.0, 0.5) + tr.gp.white(x, None, 0.1)

    def loss(params: Any) -> Any:
        found: Any = kernel.apply({"params": params}, x)
        return jnp.sum((found - target) ** 2)

    trainable = tr.all_fixed(params, but="trend/lengthscales")
    transforms = jax.tree.map(lambda leaf: tr.gp.positive(), params)
    fitted = tr.gp.fit_lbfgs(loss, params, trainable, transforms).params
    assert abs(fitted["trend"]["lengthscales"] - 0.5) < 0.01
    assert fitted["trend"]["variance"] is params["trend"]["variance"]
    print(tr.gp.summary(fitted, trainable, transforms))


if __name__ == "__main__":
    names = ["jax", "optax", *sys.argv[1:]]
    with_flax() if "flax" in names else by_hand()
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"works: Python {platform.python_version()}, {versions}")
