"""The package's live models: the flag, the filter, an optimizer that is moved over, every error, every example.

tests/mutants/trainability/live.toml breaks the module on purpose; this file must turn red each time.
"""

import functools
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from package_checks import (
    check_error,
    check_every_function_is_asked_for_its_errors,
    check_examples,
    examples,
    same_bits,
)
from trainability import live
from trainability.live import Optimizer, move_optimizer, set_trainable, summary, trainable, trainable_paths
from trainability.masks import NoMatchError


class Layer(nnx.Module):
    def __init__(self):
        self.a = nnx.Param(jnp.ones(1))

    def __call__(self, x):
        return self.a * x


class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)


class Network(nnx.Module):
    """A tied kernel, a shared module, statistics, random state, an integer, a plain array, a shared dictionary."""

    def __init__(self, rngs=None):
        rngs = nnx.Rngs(0) if rngs is None else rngs
        self.encoder = Encoder(rngs)
        self.decoder = nnx.Linear(2, 3, rngs=rngs)
        self.decoder.kernel = self.encoder.linear.kernel
        self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(2)])
        self.one = Layer()
        self.same = self.one
        self.order = nnx.Param(jnp.arange(3))
        self.plain = nnx.data(jnp.ones(2))
        self.parts = nnx.data({"w": nnx.Param(jnp.ones(2))})
        self.parts_again = nnx.data(self.parts)
        self.lora = nnx.LoRAParam(jnp.ones(4))

    def __call__(self, x):
        x = nnx.tanh(self.encoder.norm(self.encoder.linear(x)) + self.decoder(x))
        for layer in self.layers:
            x = nnx.tanh(layer(x))
        return self.one(x).sum(axis=-1) * self.lora.mean() * self.parts["w"].sum()


EVERYTHING = [
    "decoder/bias",
    "decoder/kernel",
    "encoder/linear/bias",
    "encoder/norm/bias",
    "encoder/norm/scale",
    *(f"layers/{number}/{name}" for number in range(2) for name in ("bias", "kernel")),
    "lora",
    "one/a",
    "parts/w",
]
X = jax.random.normal(jax.random.key(1), (5, 2))


def loss_fn(model):
    return jnp.mean((model(X) - 1) ** 2)


def arrays(model, *filters):
    """What is in a model, as arrays: `nnx.state` alone gives the live variables."""
    return nnx.as_pure(nnx.state(model, *filters))


def accepted(call, *arguments):
    """The call, which must not be refused."""
    try:
        call(*arguments)
    except (NoMatchError, TypeError, ValueError) as error:
        raise AssertionError(f"refused: {error}") from error


def step(model, optimizer, loss=loss_fn):
    optimizer.update(model, nnx.grad(loss, argnums=nnx.DiffState(0, trainable))(model))


# ---- GPflow's line ---------------------------------------------------------------------------------------------------


def test_gpflows_line_a_step_and_the_line_again():
    model = Layer()
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=trainable)
    square = lambda model: jnp.mean(model(jnp.ones(1)) ** 2)  # noqa: E731

    set_trainable(model, "a", False)
    assert trainable_paths(model) == [] and model.a[0] == 1
    set_trainable(model, "a", True)
    step(model, optimizer, square)
    assert model.a[0] == np.float32(0.8)


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_everything_trains_at_first_that_can():
    assert trainable_paths(Network()) == EVERYTHING


def test_paths_are_those_of_the_state_without_value():
    model = Network()
    flat = nnx.to_flat_state(nnx.state(model, trainable))
    assert trainable_paths(model) == ["/".join(map(str, path)) for path, _ in flat]
    assert not any(path.endswith("value") for path in trainable_paths(model))


@functools.cache
def network():
    """One model for the random tests, which set all flags first."""
    return Network()


def set_all(model, flag):
    for _, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        variable.set_metadata(trainable=flag)


NODES = sorted({"/".join(path.split("/")[:n]) for path in EVERYTHING for n in range(1, path.count("/") + 2)})
NODES = [
    node for node in NODES if node not in ("decoder", "encoder", "encoder/linear", "one", "parts")
]  # which reach something shared


@examples
@given(st.sampled_from(NODES), st.booleans())
def test_a_path_means_itself_and_what_is_below_it(where, flag):
    model = network()
    set_all(model, not flag)
    accepted(set_trainable, model, where, flag)
    below = [path for path in EVERYTHING if path == where or path.startswith(where + "/")]
    expected = below if flag else [path for path in EVERYTHING if path not in below]
    assert trainable_paths(model) == expected
    set_trainable(model, where, flag)
    assert trainable_paths(model) == expected


@examples
@given(st.sampled_from(["*", "*bias", "layers/?/kernel", "layers/*", "lor[ao]", "*/norm/*"]), st.booleans())
def test_a_glob_and_the_function_that_says_the_same(glob, flag):
    pattern = {
        "*": ".*",
        "*bias": ".*bias",
        "layers/?/kernel": "layers/./kernel",
        "layers/*": "layers/.*",
        "lor[ao]": "lora",
        "*/norm/*": ".*/norm/.*",
    }[glob]
    meant = [path for path in EVERYTHING if re.fullmatch(pattern, path)]
    for where in (glob, lambda path, variable: re.fullmatch(pattern, path) is not None):
        model = network()
        set_all(model, not flag)
        accepted(set_trainable, model, where, flag)
        assert trainable_paths(model) == (meant if flag else [path for path in EVERYTHING if path not in meant])


@pytest.mark.parametrize(
    ("where", "meant"),
    {
        "every layer of a type": (nnx.BatchNorm, ["encoder/norm/bias", "encoder/norm/scale"]),
        "every linear layer, with the kernel that two of them share": (
            nnx.Linear,
            [path for path in EVERYTHING if re.match("layers|decoder|encoder/linear", path)],
        ),
        "every variable of a type": (nnx.LoRAParam, ["lora"]),
        "a base class, too": (nnx.Module, EVERYTHING),
        "a function that is given the variable": (lambda path, variable: variable.shape == (4,), ["lora"]),
        "a list": (["lora", "layers/1/*"], ["layers/1/bias", "layers/1/kernel", "lora"]),
    }.values(),
)
def test_what_a_where_means(where, meant):
    model = Network()
    accepted(set_trainable, model, "*", False)
    accepted(set_trainable, model, where, True)
    assert trainable_paths(model) == meant


def test_a_part_of_the_model_means_what_is_below_it():
    model = Network()
    set_trainable(model, "*", False)
    set_trainable(model, model.layers[1], True)
    set_trainable(model, model.encoder.linear.kernel, True)
    assert trainable_paths(model) == ["decoder/kernel", "layers/1/bias", "layers/1/kernel"]


def test_layers_keep_their_order_from_ten_on():
    model = nnx.List([Layer() for _ in range(11)])
    model.append(model[10])
    assert trainable_paths(model) == [f"{number}/a" for number in range(11)]


def test_a_parameter_may_hold_several_arrays():
    model = Layer()
    model.pair = nnx.Param({"left": jnp.ones(1), "right": jnp.arange(2)})
    assert trainable_paths(model) == ["a"]  # as one of them cannot train
    model.pair = nnx.Param({"left": jnp.ones(1), "right": jnp.ones(2)})
    set_trainable(model, "pair", False)
    assert trainable_paths(model) == ["a"]
    set_trainable(model, "pair", True)
    assert trainable_paths(model) == ["a", "pair"]


def test_flags_given_to_the_constructor_count():
    model = Layer()
    model.a = nnx.Param(jnp.ones(1), trainable=False)
    assert trainable_paths(model) == []


def test_nothing_is_set_if_anything_is_refused():
    model = Network()
    with pytest.raises(NoMatchError):
        set_trainable(model, ["lora", "layres"], False)
    with pytest.raises(ValueError, match="the same parameter"):
        set_trainable(model, ["lora", "decoder"], False)
    assert trainable_paths(model) == EVERYTHING


def test_a_model_that_holds_itself_is_walked_once():
    model = Layer()
    model.parent = model
    assert trainable_paths(model) == ["a"]
    assert [row.path for row in summary(model).rows] == ["a"]
    set_trainable(model, "*", False)
    assert trainable_paths(model) == []


# ---- shared parameters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encoder/linear/kernel", "decoder/kernel"])
def test_either_path_fixes_a_tied_parameter(name):
    model = Network()
    accepted(set_trainable, model, name, False)
    assert trainable_paths(model) == [path for path in EVERYTHING if path != "decoder/kernel"]
    before = arrays(model)
    step(model, Optimizer(model, optax.adamw(0.1)))
    assert same_bits(before["decoder"]["kernel"], model.encoder.linear.kernel[...])
    assert not same_bits(before["decoder"]["bias"], model.decoder.bias[...])


@pytest.mark.parametrize("path", ["one/a", "same/a", "parts/w", "parts_again/w"])
def test_either_path_fixes_what_a_shared_module_holds(path):
    model = Network()
    set_trainable(model, path, False)
    assert len(trainable_paths(model)) == len(EVERYTHING) - 1
    set_trainable(model, path, True)
    assert trainable_paths(model) == EVERYTHING


@pytest.mark.parametrize("where", ["decoder", "decoder/*", "one", nnx.BatchNorm])
def test_to_mean_a_shared_parameter_by_one_path_only_is_an_error(where):
    model = Network()
    if where is nnx.BatchNorm:
        model.decoder.bias = model.encoder.norm.bias
    with pytest.raises(ValueError, match="is the same parameter as"):
        set_trainable(model, where, False)


def test_the_path_of_the_shared_parameter_in_the_list_settles_it():
    for where in (["decoder", "encoder/linear/kernel"], ["decoder", "decoder/kernel"]):
        model = Network()
        accepted(set_trainable, model, where, False)
        assert trainable_paths(model) == EVERYTHING[2:]
    model = Network()
    set_trainable(model, lambda path, variable: path.startswith("decoder") and "kernel" not in path, False)
    assert trainable_paths(model) == EVERYTHING[1:]


# ---- training --------------------------------------------------------------------------------------------------------


@settings(examples, max_examples=5)  # a gradient to trace for each
@given(
    st.lists(st.sampled_from(["encoder/norm", "layers/1/bias", "*/kernel", "lora"]), min_size=1, unique=True),
    st.booleans(),
)
def test_what_is_fixed_keeps_its_bits_and_the_rest_moves(wheres, narrow):
    """By a narrow gradient and by a wide one, with decay, momentum and clipping."""
    model = network()
    set_all(model, True)
    set_trainable(model, wheres, False)
    free = trainable_paths(model)
    before = flat(model)
    optimizer = Optimizer(model, optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01)))
    gradient = nnx.grad(loss_fn, argnums=nnx.DiffState(0, trainable if narrow else is_float))(model)
    for _ in range(2):
        optimizer.update(model, gradient)
    assert [path for path, leaf in flat(model).items() if not same_bits(before[path], leaf)] == free


def flat(model):
    """{path: array} of the parameters."""
    return {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(arrays(model, nnx.Param))}


def is_float(path, variable):
    return isinstance(variable, nnx.Param) and path != ("order",)


def test_statistics_and_random_states_never_train():
    model = Network()
    names = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Not(trainable)))}
    assert names == {
        "encoder/drop/rngs/count",
        "encoder/drop/rngs/key",
        "encoder/norm/mean",
        "encoder/norm/var",
        "order",
        "plain",
    }


def test_a_flag_that_changes_makes_the_jitted_step_trace_again_and_only_then():
    traces = 0

    @nnx.jit
    def jitted(model, optimizer):
        nonlocal traces
        traces += 1
        step(model, optimizer)

    model = Network()
    optimizer = Optimizer(model, optax.adam(0.01))
    for flag in (True, True, False, False):
        set_trainable(model, "layers/0", flag)
        move_optimizer(model, optimizer)
        before = model.layers[0].kernel[...]
        accepted(jitted, model, optimizer)
        assert same_bits(before, model.layers[0].kernel[...]) != flag
    assert traces == 2


def test_the_filter_in_split():
    model = Network()
    set_trainable(model, ["encoder", "decoder", "*kernel"], False)
    graph, train, rest = nnx.split(model, trainable, ...)
    assert len(jax.tree.leaves(train)) == len(trainable_paths(model))
    merged = nnx.merge(graph, train, rest)
    assert trainable_paths(merged) == trainable_paths(model)


# ---- optimizers ------------------------------------------------------------------------------------------------------


def moments(optimizer):
    """{path: first average} of an optimizer that is Adam's."""
    mu = nnx.to_flat_state(nnx.as_pure(optimizer.opt_state[0].mu))
    return {"/".join(map(str, path)): value for path, value in mu}


@pytest.mark.parametrize("kind", [Optimizer, functools.partial(nnx.Optimizer, wrt=trainable)])
def test_a_moved_state_keeps_what_trains_on(kind):
    model = Network()
    set_trainable(model, ["layers/0", "lora"], False)
    optimizer = kind(model, optax.adam(0.01))
    for _ in range(2):
        step(model, optimizer)
    before, values = moments(optimizer), arrays(model)
    set_trainable(model, "layers/0", True)
    set_trainable(model, "layers/1", False)
    move_optimizer(model, optimizer)
    after = moments(optimizer)
    assert sorted(after) == sorted(trainable_paths(model))
    assert optimizer.opt_state[0].count[...] == 2 and optimizer.step[...] == 2
    for path, moment in after.items():
        if path.startswith("layers/0/"):
            assert not np.any(moment)
        else:
            assert same_bits(moment, before[path])
    assert np.any(after["encoder/norm/bias"]) and same_bits(values, arrays(model))
    step(model, optimizer)
    assert not same_bits(values["layers"][0], arrays(model)["layers"][0])
    assert same_bits(values["layers"][1], arrays(model)["layers"][1])


def test_to_move_to_the_same_flags_changes_nothing():
    model = Network()
    optimizer = Optimizer(model, optax.adam(0.01))
    step(model, optimizer)
    before = nnx.as_pure(optimizer.opt_state)
    move_optimizer(model, optimizer)
    assert same_bits(jax.tree.leaves(before), jax.tree.leaves(nnx.as_pure(optimizer.opt_state)))


def test_a_filter_of_ones_own_is_kept():
    model = Network()
    of_layers = nnx.All(trainable, nnx.PathContains("layers"))
    optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=of_layers)
    set_trainable(model, "layers/0", False)
    move_optimizer(model, optimizer)
    assert sorted(moments(optimizer)) == sorted(path for path in EVERYTHING if path.startswith("layers/1"))


@pytest.mark.parametrize("tx", [optax.adam(0.1), optax.sgd(0.1)], ids=["adam", "sgd"])
@pytest.mark.parametrize("flag", [True, False])
def test_an_optimizer_that_was_not_told_refuses(tx, flag):
    model = Network()
    set_trainable(model, "layers/0", not flag)
    optimizer = Optimizer(model, tx)
    set_trainable(model, "layers/0", flag)
    before = arrays(model, nnx.Param)
    said = ("trainable now" if flag else "no longer trainable") + ": layers/0/bias, layers/0/kernel). Call "
    with pytest.raises(
        ValueError, match=re.escape(f"flags have changed since the optimizer was made or moved ({said}")
    ):
        step(model, optimizer)
    assert same_bits(jax.tree.leaves(before), jax.tree.leaves(arrays(model, nnx.Param)))
    move_optimizer(model, optimizer)
    step(model, optimizer)


def test_the_optimizer_is_otherwise_that_of_nnx():
    results = []
    for kind in (Optimizer, functools.partial(nnx.Optimizer, wrt=trainable)):
        model = Network()
        set_trainable(model, "*/bias", False)
        optimizer = kind(model, optax.adamw(0.01))
        for _ in range(3):
            step(model, optimizer)
        results.append(jax.tree.leaves((arrays(model), nnx.as_pure(optimizer.opt_state))))
    assert same_bits(*results)


# ---- the table -------------------------------------------------------------------------------------------------------


def test_the_summary_of_a_live_model():
    model = Network()
    model.layers = nnx.List(model.layers[:1])
    model.pair = nnx.Param({"left": jnp.ones(1), "right": jnp.ones(2)})
    set_trainable(model, ["encoder/norm", "layers/0/kernel"], False)
    lines = str(summary(model)).splitlines()
    assert [re.split(r" {2,}", line)[:4] for line in lines[1:-1]] == [
        ["decoder/bias", "(3,)", "float32", "True"],
        ["decoder/kernel = encoder/linear/kernel", "(2, 3)", "float32", "True"],
        ["encoder/drop/rngs/count", "()", "uint32", "RngCount, never trains"],
        ["encoder/drop/rngs/key", "()", "key<fry>", "RngKey, never trains"],
        ["encoder/linear/bias", "(3,)", "float32", "True"],
        ["encoder/norm/bias", "(3,)", "float32", "False"],
        ["encoder/norm/mean", "(3,)", "float32", "BatchStat, never trains"],
        ["encoder/norm/scale", "(3,)", "float32", "False"],
        ["encoder/norm/var", "(3,)", "float32", "BatchStat, never trains"],
        ["layers/0/bias", "(3,)", "float32", "True"],
        ["layers/0/kernel", "(3, 3)", "float32", "False"],
        ["lora", "(4,)", "float32", "True"],
        ["one/a = same/a", "(1,)", "float32", "True"],
        ["order", "(3,)", "int32", "integer, never trains"],
        ["pair/left", "(1,)", "float32", "True"],
        ["pair/right", "(2,)", "float32", "True"],
        ["parts/w = parts_again/w", "(2,)", "float32", "True"],
        ["plain", "(2,)", "float32", "array, never trains"],
    ]
    train = 3 + 6 + 3 + 3 + 4 + 1 + 3 + 2
    numbers = train + 1 + 1 + 4 * 3 + 9 + 3 + 2
    key_size = jax.random.key(0).dtype.itemsize - 4
    assert lines[-1] == f"{train} of {numbers} numbers train ({4 * train} of {4 * numbers + key_size} bytes)"


def test_a_long_summary_is_cut_and_counts_all():
    model = Network()
    short, whole = summary(model, max_rows=2), summary(model)
    assert short.rows == whole.rows[:2] and short.totals == whole.totals
    assert short.left_out == f"… and {len(whole.rows) - 2} more, not shown"
    assert whole.left_out == "" and whole.rows[0].value == "0 …"


# ---- errors ----------------------------------------------------------------------------------------------------------


def flagged(flag):
    model = Layer()
    model.a.set_metadata(trainable=flag)
    return model


def with_slash():
    model = Layer()
    model.parts = nnx.Dict({"w/x": nnx.Param(jnp.ones(1)), "w": nnx.Dict({"x": nnx.Param(jnp.ones(1))})})
    return model


def fixed_layer():
    model = Layer()
    set_trainable(model, "a", False)
    return model


def with_another_shape():
    model = Layer()
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=trainable)
    model.a = nnx.Param(jnp.ones(3))
    return model, optimizer


ERRORS = {
    "a misspelt path": (
        lambda: set_trainable(Network(), "encoder/liner", False),
        NoMatchError,
        "'encoder/liner' matches no leaf. There are",
    ),
    "half a name": (lambda: set_trainable(Network(), "enc", False), NoMatchError, "matches no leaf"),
    "the path that nnx.state has": (
        lambda: set_trainable(Layer(), "a/value", False),
        NoMatchError,
        "'a/value' matches no leaf. There are: a.",
    ),
    "a glob for nothing": (lambda: set_trainable(Layer(), "*/baises", False), NoMatchError, "matches no leaf"),
    "a function for nothing": (
        lambda: set_trainable(Layer(), lambda path, variable: False, False),
        NoMatchError,
        "the function is true for no leaf",
    ),
    "a type that is not there": (
        lambda: set_trainable(Network(), nnx.LayerNorm, False),
        NoMatchError,
        "the model has no parameter in a LayerNorm. The nearest are: Layer.",
    ),
    "a type that is not there, in a small model": (
        lambda: set_trainable(Layer(), nnx.Linear, False),
        NoMatchError,
        "the model has no parameter in a Linear. Its types are: Layer, Param.",
    ),
    "a module of another model": (
        lambda: set_trainable(Network(), Layer(), False),
        NoMatchError,
        "the Layer given is not in the model",
    ),
    "an empty list": (lambda: set_trainable(Layer(), [], False), NoMatchError, "where is an empty list"),
    "a number": (lambda: set_trainable(Layer(), 3, False), TypeError, "where must be a path"),
    "a mean that is to train": (
        lambda: set_trainable(Network(), "encoder/norm/mean", True),
        TypeError,
        "encoder/norm/mean never trains: it is of type BatchStat",
    ),
    "a mean that is to be fixed": (
        lambda: set_trainable(Network(), "encoder/norm/mean", False),
        TypeError,
        "to stop that, call eval() of the layer",
    ),
    "the variable itself": (
        lambda: (model := Network()) and set_trainable(model, model.encoder.norm.mean, False),
        TypeError,
        "encoder/norm/mean never trains",
    ),
    "statistics by their type": (
        lambda: set_trainable(Network(), nnx.BatchStat, False),
        TypeError,
        "encoder/norm/mean never trains",
    ),
    "nothing but random states": (
        lambda: set_trainable(Network(), "encoder/drop", False),
        TypeError,
        "encoder/drop/rngs/count never trains: it is of type RngCount, and only an nnx.Param has a flag.",
    ),
    "an array that is no Param": (
        lambda: set_trainable(Network(), "plain", True),
        TypeError,
        "plain never trains: it is of type array",
    ),
    "an integer": (lambda: set_trainable(Network(), "order", True), TypeError, "order cannot train: it is int32"),
    "a flag that is no bool": (
        lambda: set_trainable(Layer(), "a", 0),
        TypeError,
        "flag must be True (trains) or False",
    ),
    "a flag of NumPy": (lambda: set_trainable(Layer(), "a", np.True_), TypeError, "bool(flag)"),
    "a flag in the metadata that is no bool": (
        lambda: trainable(("a",), flagged(0).a),
        TypeError,
        "a has trainable=0 in its metadata",
    ),
    "a dictionary": (
        lambda: set_trainable({"a": jnp.ones(1)}, "a", False),
        TypeError,
        "a live nnx.Module is needed, not a dict",
    ),
    "a state": (lambda: trainable_paths(nnx.state(Layer())), TypeError, "a live nnx.Module is needed"),
    "a table of a state": (lambda: summary(nnx.state(Layer())), TypeError, "a live nnx.Module is needed"),
    "a path of two places": (
        lambda: set_trainable(with_slash(), "parts/w/x", False),
        ValueError,
        "'parts/w/x' is the path of 2 places",
    ),
    "a module with a tied kernel": (
        lambda: set_trainable(Network(), "decoder", False),
        ValueError,
        "decoder/kernel is the same parameter as encoder/linear/kernel, which 'decoder' does not match. To set this "
        "parameter too, add its path: pass a list that contains 'encoder/linear/kernel'.",
    ),
    "an optimizer over nothing": (
        lambda: Optimizer(fixed_layer(), optax.sgd(0.1)),
        ValueError,
        "nothing trains: every parameter of the model is fixed",
    ),
    "an optimizer moved to nothing": (
        lambda: move_optimizer(fixed_layer(), nnx.Optimizer(Layer(), optax.adam(0.1), wrt=trainable)),
        ValueError,
        "nothing trains: the optimizer's filter wrt matches no parameter",
    ),
    "an optimizer that does not ask": (
        lambda: move_optimizer(fixed_layer(), nnx.Optimizer(Layer(), optax.adam(0.1), wrt=nnx.Param)),
        ValueError,
        "a is fixed, but the optimizer's filter wrt matches it",
    ),
    "a state of another shape": (
        lambda: move_optimizer(*with_another_shape()),
        ValueError,
        "the optimizer's state has the shape (1,) at 0/mu/a and should have (3,)",
    ),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_error(case):
    check_error(case)


def test_every_function_is_asked_for_its_errors():
    check_every_function_is_asked_for_its_errors(live, ERRORS)


def test_every_function_has_an_example_that_runs():
    check_examples(live)


def test_the_book_s_package_does_not_need_flax():
    """In a process where Flax cannot be imported, all but this module can."""
    code = "import sys; sys.modules['flax'] = None; import trainability"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
