"""What the package's functions cost at 10,000 leaves, as ratios to the shortest unchecked JAX that does the same.

Both are called in turn, so that a busy machine slows both, and the fastest call of each counts. Times vary between
machines, so no test asserts them: the tests assert counts (compilations, traces, bytes that are fetched).
"""

import contextlib
import statistics
import time

import jax
import jax.numpy as jnp
import optax
import trainability as tr

LAYERS, ROUNDS = 5000, 15
OPTIMIZER = optax.adam(1e-3)


def seconds(call):
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def compare(name, call, plain, rounds=ROUNDS):
    """Print the ratio of the fastest calls, and how the ratios of the rounds spread."""
    pairs = [(seconds(call), seconds(plain)) for _ in range(rounds)]
    fastest = min(ours for ours, _ in pairs) / min(plain for _, plain in pairs)
    low, _, high = statistics.quantiles([ours / plain for ours, plain in pairs], n=4)
    print(f"{name:34} {fastest:5.2f}   (half of the rounds between {low:.2f} and {high:.2f})")


def report(name, call, kind=()):
    """Print the seconds of one call, which may end in an error."""
    start = time.perf_counter()
    with contextlib.suppress(kind):
        call()
    print(f"{name:34} {time.perf_counter() - start:5.2f} s")


def is_hole(node):
    return node is None


def set_by_hand(mask, name):
    def flag(keys, old):
        return False if jax.tree_util.keystr(keys, simple=True, separator="/").endswith(name) else old

    return jax.tree.map_with_path(flag, mask)


def masks():
    params = {f"layer{i}": {"a": jnp.ones(2), "b": jnp.ones(3)} for i in range(LAYERS)}
    mask = tr.all_trainable(params)
    half = tr.set_trainable(params, mask, "*/a", False)
    train, fixed = tr.partition(params, half)
    state = OPTIMIZER.init(train)

    def partition_by_hand():
        chosen = jax.tree.map(lambda leaf, flag: leaf if flag else None, params, half)
        return chosen, jax.tree.map(lambda leaf, flag: None if flag else leaf, params, half)

    def combine_by_hand():
        return jax.tree.map(lambda a, b: b if a is None else a, train, fixed, is_leaf=is_hole)

    def stop_by_hand():
        return jax.tree.map(lambda leaf, flag: leaf if flag else jax.lax.stop_gradient(leaf), params, half)

    compare("partition", lambda: tr.partition(params, half), partition_by_hand)
    compare("combine", lambda: tr.combine(train, fixed), combine_by_hand)
    compare("combine, compared with the mask", lambda: tr.combine(train, fixed, half), combine_by_hand)
    compare("stop_fixed", lambda: tr.stop_fixed(params, half), stop_by_hand)
    compare("set_trainable", lambda: tr.set_trainable(params, mask, "*/a", False), lambda: set_by_hand(mask, "/a"))
    other = jax.tree.map(lambda flag: not flag, half)
    move = lambda: tr.move_state(params, half, other, OPTIMIZER, state)  # noqa: E731
    compare("move_state, to optimizer.init", move, lambda: OPTIMIZER.init(train), rounds=3)
    report("summary", lambda: str(tr.summary(params, half)))
    wrong = {**half, "layer77": {"a": True}}
    report("an error of structure", lambda: tr.partition(params, wrong), ValueError)
    report("an error of no match", lambda: tr.set_trainable(params, mask, "*/kernel", False), tr.NoMatchError)


def loops():
    def loss(params, target):
        return sum(jnp.sum((leaf - target) ** 2) for leaf in jax.tree.leaves(params))

    params = [jnp.ones(2)] * 1000
    mask = tr.all_trainable(params)
    for name in ("fit, 1,000 leaves that train", "the same again, nothing compiled"):
        report(name, lambda: tr.fit(loss, params, mask, OPTIMIZER, 2, args=(3.0,)))

    def many_steps(progress):
        return tr.fit(loss, params[:1], mask[:1], OPTIMIZER, 10_000, args=(3.0,), progress=progress).params

    def every_hundred(step, loss):
        return f"{step}: {loss}" if step % 100 == 0 else ""

    compare("progress, 10,000 steps", lambda: many_steps(every_hundred), lambda: many_steps(None), rounds=5)


if __name__ == "__main__":
    print(f"jax {jax.__version__}, {2 * LAYERS} leaves; ratios to plain JAX, the fastest of {ROUNDS} rounds in turn")
    masks()
    loops()
