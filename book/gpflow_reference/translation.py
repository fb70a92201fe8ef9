"""The tasks of the translation pages in GPflow. `make gpflow` compares the results.

The pages show the lines between `# show NAME` and `# end`. What a part prints is
kept with its numbers, and `run` gives all of it.
"""

import contextlib
import io

# show model
import gpflow
import numpy as np
import tensorflow as tf
from gpflow.keras import tf_keras

tf_keras.backend.set_floatx("float64")  # else the learning rate has 32 bits

x = np.array([[1.0, 2.0], [2.0, -1.0], [-1.0, 1.0], [0.5, -2.0]])
y = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5]])
kernel, bias = np.array([[0.5, -0.3], [0.2, 0.4]]), np.array([0.1, -0.1])
head_kernel, head_bias = np.array([[0.6, 0.1], [-0.2, 0.7]]), np.array([0.0, 0.2])


class Dense(gpflow.Module):
    def __init__(self, kernel, bias):
        super().__init__()
        self.kernel, self.bias = gpflow.Parameter(kernel), gpflow.Parameter(bias)

    def __call__(self, x):
        return x @ self.kernel + self.bias


class GPflowNet(gpflow.Module):
    def __init__(self):
        super().__init__()
        self.body = Dense(kernel, bias)
        self.head = Dense(head_kernel, head_bias)

    def __call__(self, x):
        return self.head(tf.tanh(self.body(x)))


def gpflow_loss(model):
    return tf.reduce_mean((model(x) - y) ** 2)


# end

results, printed = {}, io.StringIO()
redirected = contextlib.redirect_stdout(printed)
redirected.__enter__()


def record(name, **numbers):
    """Keep the numbers of a part, and what it printed since the last one."""
    values = {key: np.asarray(value).item() for key, value in numbers.items()}
    results[name] = {"printed": printed.getvalue().splitlines(), **values}
    printed.seek(0)
    printed.truncate()


record("model", loss=gpflow_loss(GPflowNet()))


# show fix
def train_gpflow(model, **settings):
    optimizer = tf_keras.optimizers.SGD(0.1, **settings)
    variables = model.trainable_variables  # what trains, at this moment
    optimizer.build(variables)

    @tf.function
    def step():
        optimizer.minimize(lambda: gpflow_loss(model), variables)

    for _ in range(100):
        step()


model = GPflowNet()
gpflow.set_trainable(model.body.kernel, False)
train_gpflow(model)
assert np.array_equal(model.body.kernel, kernel)
# end

record("fix", loss=gpflow_loss(model))

# show free
gpflow.set_trainable(model.body.kernel, True)
train_gpflow(model)
assert not np.array_equal(model.body.kernel, kernel)
# end

record("free", loss=gpflow_loss(model))

# show list
gpflow.set_trainable(model.body.kernel, False)
parameters = gpflow.utilities.parameter_dict(model)
listed = [path for path, p in parameters.items() if p.trainable]
print(listed)
assert listed == [".body.bias", ".head.kernel", ".head.bias"]

try:
    gpflow.set_trainable(parameters[".body.kernal"], False)
except KeyError as refusal:
    print("refused:", refusal)
else:
    raise AssertionError("a misspelt path is refused")

misspelt = GPflowNet()
misspelt.body.trainable = False  # no error, and nothing is fixed
assert len(misspelt.trainable_variables) == 4
# end

record("list")

# show replace
model = GPflowNet()
gpflow.set_trainable(model.body.kernel, False)
model.body.kernel.assign(np.eye(2))
loss_at_once = gpflow_loss(model)

train_gpflow(model)
assert np.array_equal(model.body.kernel, np.eye(2))
# end

record("replace", loss=gpflow_loss(model), at_once=loss_at_once)

# show gradient
model = GPflowNet()
gpflow.set_trainable(model.body.kernel, False)
with tf.GradientTape(persistent=True) as tape:
    loss = gpflow_loss(model)
gradient = tape.gradient(loss, model.trainable_variables)
fixed = tape.gradient(loss, model.body.kernel.unconstrained_variable)
assert fixed is None and len(gradient) == 3
squares = sum(tf.reduce_sum(g**2) for g in gradient)
# end

record("gradient", squares=squares)

# show decay
model = GPflowNet()
gpflow.set_trainable(model.body.kernel, False)
train_gpflow(model, weight_decay=np.float64(0.1))  # 0.1 alone is rounded to 32 bits
assert np.array_equal(model.body.kernel, kernel)
# end

record("decay", loss=gpflow_loss(model))

# show part
model = GPflowNet()
entries = np.array([[False, False], [True, True]])
gpflow.set_trainable(model.body.kernel, entries)  # no error yet
try:
    train_gpflow(model)
except ValueError as refusal:
    print("refused:", str(refusal).split(".")[0])
else:
    raise AssertionError("set_trainable is for whole parameters")


class RowNet(GPflowNet):
    def __init__(self):
        super().__init__()
        self.row = gpflow.Parameter(kernel[1])
        gpflow.set_trainable(self.body.kernel, False)

    def __call__(self, x):
        joined = tf.concat([self.body.kernel[:1], self.row[None]], axis=0)
        return self.head(tf.tanh(x @ joined + self.body.bias))


model = RowNet()
train_gpflow(model)
assert np.array_equal(model.body.kernel, kernel)
assert not np.array_equal(model.row, kernel[1])
# end

record("part", loss=gpflow_loss(model))

# show tie
model = GPflowNet()
model.head.kernel = model.body.kernel  # one Parameter, two names
train_gpflow(model)
before = model.body.kernel.numpy()
assert not np.array_equal(before, kernel)

gpflow.set_trainable(model.head.kernel, False)  # either name will do
train_gpflow(model)
assert model.head.kernel is model.body.kernel
assert np.array_equal(model.body.kernel, before)
# end

record("tie", loss=gpflow_loss(model))

redirected.__exit__(None, None, None)


RTOL = 1e-10  # the pages assert ten digits


def run():
    for name, loss in (
        ("fix", 0.09867624095336738),
        ("decay", 0.11906498341938036),
    ):
        np.testing.assert_allclose(results[name]["loss"], loss, rtol=RTOL)
    return {"results": results}
