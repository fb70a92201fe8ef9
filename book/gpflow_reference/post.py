"""The line that the post wants for Flax, run in GPflow, on a model like the post's.

`make gpflow` runs this file, and compares what `run` gives with post.json. The page
of the original shows the model.
"""

# show model
import gpflow
import numpy as np
import tensorflow as tf


class Model(gpflow.Module):
    def __init__(self):
        super().__init__()
        self.param = gpflow.Parameter([1.0])
        self.offset = gpflow.Parameter([0.0])

    def __call__(self, x):
        return self.param * x + self.offset


x = np.ones(1)


def loss_fn(model):
    return tf.reduce_mean(model(x) ** 2)


# end


def gradients(model):
    """That of `param` and that of `offset`."""
    variables = [p.unconstrained_variable for p in (model.param, model.offset)]
    with tf.GradientTape() as tape:
        loss = loss_fn(model)
    return tape.gradient(loss, variables)


def fit(model):
    variables = model.trainable_variables
    gpflow.optimizers.Scipy().minimize(lambda: loss_fn(model), variables)


def number(tensor):
    return np.asarray(tensor).item()


def run():
    model, facts = Model(), {}
    free, of_offset = gradients(model)
    assert number(free) == number(of_offset) == 2
    facts["loss of the free model"] = number(loss_fn(model))
    facts["gradient of the free model"] = number(free)

    gpflow.utilities.set_trainable(model.param, False)
    assert not model.param.trainable and model.offset.trainable
    fixed, of_offset = gradients(model)
    assert fixed is None and number(of_offset) == 2  # none at all, and not a zero
    facts["loss of the fixed model"] = number(loss_fn(model))
    facts["parameter of the fixed model"] = number(model.param)
    facts["gradient of the fixed model"] = repr(fixed)
    facts["output of the fixed model"] = number(model(x))

    model.param.assign([3.14])
    assert number(model(x)) == 3.14 and not model.param.trainable
    facts["parameter after replace"] = number(model.param)
    facts["output after replace"] = number(model(x))

    fit(model)
    assert number(model.param) == 3.14  # fixed
    assert abs(number(model.offset) + 3.14) < 1e-6  # and trained
    facts["parameter after a fit"] = number(model.param)
    facts["offset after a fit"] = number(model.offset)

    gpflow.utilities.set_trainable(model.param, True)
    model.offset.assign([0.0])
    fit(model)
    assert abs(number(model.param) - 3.14) > 1  # free again
    assert abs(number(model(x))) < 1e-6
    facts["parameter after a fit of both"] = number(model.param)
    return facts
