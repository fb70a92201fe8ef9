"""What the tests of the package share: random pytrees for hypothesis, and checks of errors, docstrings and examples."""

import doctest
import functools
import inspect
import os
import subprocess
import sys
import textwrap
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from trainability.masks import all_trainable


@flax.struct.dataclass
class Box:
    inner: Any
    other: Any


class Pair(NamedTuple):
    first: Any
    second: Any


@jax.tree_util.register_pytree_node_class
class Picky:
    """A class whose constructor checks its argument. JAX calls the constructor to unflatten it."""

    def __init__(self, array):
        if not hasattr(array, "shape"):
            raise ValueError("an array, please")
        self.array = array

    def tree_flatten(self):
        return (self.array,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


@jax.tree_util.register_pytree_node_class
class Converting(Picky):
    """A class whose constructor converts its argument to an array, and None to NaN."""

    def __init__(self, array):
        self.array = np.asarray(np.nan if array is None else array)


def deleted():
    array = jnp.ones(2)
    array.delete()
    return array


FLOATS = [
    np.float32(1.5),
    np.array([1.0, -2.0], np.float32),
    np.ones([2, 1], jnp.bfloat16),
    np.array([1j], np.complex64),
]
OTHERS = [np.array([3, 4]), np.array(True), np.uint8(7), jax.random.key(0)]
NAMES = ["a", "b", "kernel", "bias"]


def trees(leaves):
    def containers(children):
        dicts = st.dictionaries(st.sampled_from(NAMES), children, min_size=1, max_size=3)
        return st.one_of(
            dicts,
            dicts.map(flax.core.freeze),
            st.lists(children, min_size=1, max_size=3),
            st.lists(children, min_size=1, max_size=3).map(tuple),
            st.builds(Box, children, children),
            st.builds(Pair, children, children),
        )

    return st.recursive(st.sampled_from(leaves), containers, max_leaves=8)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs)])
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(3, 1, rngs=rngs)


LIBRARIES = ["Linen", "Linen, in boxes", "NNX state", "NNX parameters", "NNX module", "Equinox", "Haiku"]


@functools.cache
def trees_of_libraries():
    """Parameters as each library stores them, by the name of the library."""
    import equinox as eqx  # these take seconds to import, which would slow down every mutant of a module
    import haiku as hk

    x, key, net = jnp.ones([1, 2]), jax.random.key(0), Net(nnx.Rngs(0))
    spread = nn.with_partitioning(nn.initializers.lecun_normal(), (None, "devices"))
    return {
        "Linen": nn.Dense(2).init(key, x),
        "Linen, in boxes": nn.Dense(2, kernel_init=spread).init(key, x),
        "NNX state": nnx.state(net),
        "NNX parameters": nnx.state(net, nnx.Param),
        "NNX module": net,
        "Equinox": eqx.filter(eqx.nn.MLP(2, 1, 3, 1, key=key), eqx.is_array),
        "Haiku": hk.transform(lambda x: hk.nets.MLP([3, 1])(x)).init(key, x),
    }


@st.composite
def trees_and_masks(draw, leaves=(*FLOATS, *OTHERS), number=1):
    """Parameters, and masks for them in which only leaves that can train do."""
    params = draw(trees(leaves))
    able, structure = jax.tree.flatten(all_trainable(params))
    masks = [structure.unflatten([can and draw(st.booleans()) for can in able]) for _ in range(number)]
    return (params, *masks)


# The same examples each time, so that a failure on one machine is a failure on all of them; and no check of the clock,
# so that a busy machine is none.
examples = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)


def same_bits(first, second):
    def bits(leaf):
        leaf = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        return leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()

    assert jax.tree.structure(first) == jax.tree.structure(second)
    return all(bits(a) == bits(b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def as_arrays(tree):
    return jax.tree.map(jnp.asarray, tree)


# ---- errors and docstrings -------------------------------------------------------------------------------------------


def check_error(case):
    """`case` is a call, the kind of error that it must raise, and words that the message must contain."""
    call, kind, message = case
    with pytest.raises(kind) as caught:
        call()
    assert " ".join(message.split()) in " ".join(str(caught.value).split())


def public_functions(module):
    return {
        name: function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    }


def check_every_function_is_asked_for_its_errors(module, cases):
    """Every function whose docstring has a section `Raises` is called by one of the cases."""
    with_errors = {name for name, function in public_functions(module).items() if "Raises:" in inspect.getdoc(function)}
    called = {name for call, _, _ in cases.values() for name in call.__code__.co_names}
    assert with_errors and with_errors <= called


def check_examples(module):
    """Every public function has an example in its docstring, and all of them run."""
    result = doctest.testmod(module)
    assert result.failed == 0
    assert all(">>> " in inspect.getdoc(function) for function in public_functions(module).values())
    assert result.attempted >= len(public_functions(module))


def on_eight_devices(code):
    """Run code in its own process, on eight virtual devices. There, `sharded` shards an array over an explicit axis."""
    setup = """
        import jax
        jax.config.update("jax_num_cpu_devices", 8)
        import jax.numpy as jnp
        import numpy as np
        from jax.sharding import NamedSharding, PartitionSpec
        mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
        def sharded(array):
            return jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))
    """
    program = textwrap.dedent(setup) + textwrap.dedent(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
