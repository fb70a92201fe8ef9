"""Calls of the package that a type checker must refuse, each below its right twin. Read by test_types.py.

A wrong call bears the comment `# wrong`, with the kind of error in mypy's words. The right ones are also run.
What no checker sees: a mask in the place of parameters, because both are pytrees.
"""

import jax
import optax
import trainability as tr
from flax import nnx

params = {"a": 1.0, "b": 2.0}
mask = {"a": False, "b": True}
optimizer = optax.sgd(0.1)
model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))


def loss(params: dict[str, jax.Array]) -> jax.Array:
    return (params["a"] * params["b"] - 3) ** 2


def show(step: int, loss: float) -> None:
    pass


def show_step(step: int) -> None:
    pass


# a name that is not there
tr.set_trainable(mask, mask, "a", False)
tr.set_trainble(mask, "a", False)  # wrong: attr-defined

# a number where a path is meant
tr.set_trainable(mask, mask, "b", False)
tr.set_trainable(mask, mask, 1, False)  # wrong: arg-type

# a word as the flag
tr.set_trainable(params, mask, "b", True)
tr.set_trainable(params, mask, "b", "trains")  # wrong: arg-type

# the mask forgotten
tr.summary(params, mask)
tr.summary(params)  # wrong: call-arg

# both halves as one argument
tr.combine(*tr.partition(params, mask))
tr.combine(tr.partition(params, mask))  # wrong: call-arg

# three halves
train, fixed = tr.partition(params, mask)
train, fixed, rest = tr.partition(params, mask)  # wrong: misc

# a learning rate where an optimizer is meant
tr.fit(loss, params, mask, optimizer, 3)
tr.fit(loss, params, mask, 0.1, 3)  # wrong: arg-type

# a state by position
tr.fit(loss, params, mask, optimizer, 3, state=None)
tr.fit(loss, params, mask, optimizer, 3, None)  # wrong: call-arg

# a progress that does not take the loss
tr.fit(loss, params, mask, optimizer, 3, progress=show)
tr.fit(loss, params, mask, optimizer, 3, progress=show_step)  # wrong: arg-type

# what a fit returns, under another name
print(tr.fit(loss, params, mask, optimizer, 3).params)
print(tr.fit(loss, params, mask, optimizer, 3).parameters)  # wrong: attr-defined

# an optimizer for L-BFGS, which is one
tr.fit_lbfgs(loss, params, mask)
tr.fit_lbfgs(loss, params, mask, optimizer)  # wrong: call-arg

# a list of names taken for one name
tr.entry_names(params)[0].split("/")
tr.entry_names(params).split("/")  # wrong: attr-defined

# the flag of a live model forgotten
tr.live.set_trainable(model, "kernel", False)
tr.live.set_trainable(model, "kernel")  # wrong: call-arg

# the transforms forgotten
tr.gp.fit_lbfgs(loss, params, mask, {"a": None, "b": None})
tr.gp.fit_lbfgs(loss, params, mask)  # wrong: call-arg
