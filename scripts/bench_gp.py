"""What Gaussian processes cost beside GPflow, GPJax and LAPACK: a gradient, a whole fit, and steps of a sparse process.

    python scripts/bench_gp.py              print the ratios
    python scripts/bench_gp.py --record     and write them to scripts/bench_gp.json

Each library has a process of its own, on one core and with one thread. They are called in turn, so that a busy machine
slows all, and the fastest call of each counts, in seconds of the processor. The model is the same: a squared
exponential kernel, the mean zero and Gaussian noise, from the same start, with gradients of the unconstrained numbers.
A fit runs in a fresh process: its seconds are those from the data to the fitted parameters, with all compilation and
without the imports.

The sparse process has M inducing points, a whitened q and Gaussian noise, and sees a batch of 256 of 10,000 data. A
step is the value and gradient of its bound with respect to all parameters, and an update by Adam. A natural step is the
value and gradient with respect to q, and a natural gradient update of q.

Times vary between machines, so no test asserts them. GPflow needs its environment (make gpflow), GPJax to be installed.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import environment

ROOT = pathlib.Path(__file__).parents[1]
RECORD = pathlib.Path(__file__).with_suffix(".json")
SIZES, ROUNDS, FITS = (100, 500, 1000, 2000), 30, 5
INDUCING, BATCH, ALL = (50, 200), 256, 10_000
NOISE = 0.1  # where the variance of the noise starts; the variance and the lengthscale start at 1
RATE = {"step": 0.01, "natural": 0.1}
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "0",
    "PYTHONPATH": str(ROOT / "book"),
}


# ---- in the process of a library: each function returns what it can do, {request: function}, and the versions --------


def data(count):
    import numpy as np

    random = np.random.default_rng(count)
    x = np.sort(random.uniform(0, 10, count))
    return x[:, None], np.sin(x) + np.cos(3 * x) / 2 + 0.3 * random.normal(size=count)


def sparse_start(inducing):
    """A batch, the inducing points, and the mean and the root of q, of shapes (M, 1) and (M, M)."""
    import numpy as np

    random = np.random.default_rng(inducing)
    x, y = data(ALL)
    rows = random.choice(ALL, BATCH, replace=False)
    root = 0.5 * np.eye(inducing) + 0.01 * np.tril(random.normal(size=(inducing, inducing)), -1)
    return x[rows], y[rows], np.linspace(0, 10, inducing)[:, None], random.normal(size=(inducing, 1)), root


def trainability():
    import jax
    import optax
    import scipy.optimize
    import trainability as tr

    gp = tr.gp
    model = gp.Regression(gp.SquaredExponential(), noise_variance=NOISE)
    ways = {
        "kernel": {"variance": gp.positive(), "lengthscales": gp.positive()},
        "noise_variance": gp.positive(1e-6),
    }

    def loss(params, x, y):
        return -model.apply({"params": params}, x, y)

    def started(count):
        x, y = data(count)
        params = jax.jit(model.init)(jax.random.key(0), x, y)["params"]
        return params, tr.all_trainable(params), x, y

    def evaluation(count):
        params, mask, x, y = started(count)
        program = jax.jit(jax.value_and_grad(lambda raw, x, y: loss(gp.constrain(raw, ways, mask), x, y)))
        raw, x, y = gp.unconstrain(params, ways, mask), jax.numpy.asarray(x), jax.numpy.asarray(y)
        return lambda: jax.block_until_ready(program(raw, x, y))[0]

    def fit(count):
        params, mask, x, y = started(count)
        return gp.fit_lbfgs(loss, params, mask, ways, args=(x, y)).result

    def sparse_step(inducing, names, optimizer):
        """A step of an optimizer for the parameters of these names."""
        x, y, z, mean, root = sparse_start(inducing)
        sparse = gp.Sparse(gp.SquaredExponential(), gp.Gaussian(NOISE), z)
        params = jax.jit(sparse.init)(jax.random.key(0), x, y)["params"]
        params["q"] = {"mean": jax.numpy.asarray(mean), "root": jax.numpy.asarray(root)[None]}
        mask = tr.all_fixed(params, but=names)
        sparse_ways = {
            "kernel": ways["kernel"],
            "likelihood": {"variance": gp.positive(1e-6)},
            "inducing": None,
            "q": {"mean": None, "root": None},
        }

        @jax.jit
        def program(train, fixed, state, x, y):
            def loss(train):
                inside = gp.constrain(tr.combine(train, fixed), sparse_ways, mask)
                return -sparse.apply({"params": inside}, x, y, count=ALL)

            value, gradient = jax.value_and_grad(loss)(train)
            updates, state = optimizer.update(gradient, state, train)
            return value, optax.apply_updates(train, updates), state

        train, fixed = tr.partition(gp.unconstrain(params, sparse_ways, mask), mask)
        given = jax.tree.map(jax.numpy.asarray, (train, fixed, optimizer.init(train), x, y))
        return lambda: jax.block_until_ready(program(*given))[0]

    can = {
        "evaluate": evaluation,
        "fit": fit,
        "step": lambda inducing: sparse_step(inducing, "*", optax.adam(RATE["step"])),
        "natural": lambda inducing: sparse_step(inducing, "q", gp.natural_gradient(RATE["natural"])),
    }
    return can, {"jax": jax.__version__, "scipy": scipy.__version__}


def autodiff():
    """The same without the package's rule for the gradient: JAX differentiates the Cholesky factor."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.linalg import solve_triangular

    def loss(raw, x, y):
        variance, lengthscale, noise = jax.nn.softplus(raw[0]), jax.nn.softplus(raw[1]), jax.nn.softplus(raw[2]) + 1e-6
        covariance = variance * jnp.exp(-0.5 * (((x[:, None] - x[None]) / lengthscale) ** 2).sum(-1))
        factor = jnp.linalg.cholesky(covariance + noise * jnp.eye(len(x)))
        white = solve_triangular(factor, y, lower=True)
        return 0.5 * white @ white + jnp.log(jnp.diagonal(factor)).sum() + 0.5 * len(y) * jnp.log(2 * jnp.pi)

    def evaluation(count):
        x, y = map(jnp.asarray, data(count))
        program, raw = jax.jit(jax.value_and_grad(loss)), jnp.log(jnp.expm1(jnp.array([1.0, 1.0, NOISE - 1e-6])))
        return lambda: jax.block_until_ready(program(raw, x, y))[0]

    return {"evaluate": evaluation}, {}


def gpjax():
    import equinox as eqx
    import gpjax as gpx
    import jax
    import jax.numpy as jnp
    import optax
    from gpjax.natural_gradients import natural_gradient_step, partition_variational

    def evaluation(count):
        x, y = data(count)
        prior = gpx.gps.Prior(gpx.kernels.RBF(), gpx.mean_functions.Zero(), jitter=0.0)
        model = prior * gpx.likelihoods.Gaussian(obs_stddev=jnp.sqrt(NOISE))
        params, static = eqx.partition(model, eqx.is_array)

        def loss(params, data):
            return -gpx.objectives.conjugate_mll(eqx.combine(params, static), data)

        program, given = jax.jit(jax.value_and_grad(loss)), gpx.Dataset(jnp.asarray(x), jnp.asarray(y)[:, None])
        return lambda: jax.block_until_ready(program(params, given))[0]

    def loss(family, batch):
        return -gpx.objectives.elbo(family, batch)

    def sparse(inducing):
        x, y, z, mean, root = map(jnp.asarray, sparse_start(inducing))
        prior = gpx.gps.Prior(gpx.kernels.RBF(), gpx.mean_functions.Zero(), jitter=1e-6)
        model = prior * gpx.likelihoods.Gaussian(obs_stddev=jnp.sqrt(NOISE))
        family = gpx.variational_families.WhitenedVariationalGaussian(model, z, mean, root)
        return family, gpx.Dataset(x, y[:, None], n_total=ALL)

    def step(inducing):
        family, batch = sparse(inducing)
        params, static = eqx.partition(family, eqx.is_array)
        adam = optax.adam(RATE["step"])

        @jax.jit
        def program(params, state, batch):
            value, gradient = jax.value_and_grad(lambda params: loss(eqx.combine(params, static), batch))(params)
            updates, state = adam.update(gradient, state, params)
            return value, optax.apply_updates(params, updates), state

        given = params, adam.init(params), batch
        return lambda: jax.block_until_ready(program(*given))[0]

    def natural(inducing):
        family, batch = sparse(inducing)
        parts, rate = partition_variational(family), jnp.asarray(RATE["natural"])
        program = eqx.filter_jit(lambda parts, batch: natural_gradient_step(*parts, batch, loss, rate))
        return lambda: jax.block_until_ready(eqx.filter(program(parts, batch), eqx.is_array))[1]

    return {"evaluate": evaluation, "step": step, "natural": natural}, {"gpjax": gpx.__version__}


def gpflow():
    import gpflow
    import tensorflow as tf

    def started(count):
        x, y = data(count)
        return gpflow.models.GPR((x, y[:, None]), gpflow.kernels.SquaredExponential(), noise_variance=NOISE)

    def evaluation(count):
        model = started(count)

        @tf.function
        def program():
            with tf.GradientTape() as tape:
                loss = model.training_loss()
            return loss, tape.gradient(loss, model.trainable_variables)

        return lambda: program()[0].numpy()  # on the CPU, all of the program is done when it returns

    def fit(count):
        model = started(count)
        return gpflow.optimizers.Scipy().minimize(model.training_loss, model.trainable_variables)

    def sparse(inducing):
        x, y, z, mean, root = sparse_start(inducing)
        kernel, likelihood = gpflow.kernels.SquaredExponential(), gpflow.likelihoods.Gaussian(NOISE)
        model = gpflow.models.SVGP(kernel, likelihood, z, q_mu=mean, q_sqrt=root[None], num_data=ALL)
        return model, (tf.constant(x), tf.constant(y[:, None]))

    def step(inducing):
        model, batch = sparse(inducing)
        adam = tf.keras.optimizers.Adam(RATE["step"])

        @tf.function
        def program():
            with tf.GradientTape() as tape:
                loss = model.training_loss(batch)
            gradients = tape.gradient(loss, model.trainable_variables)
            adam.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return loss

        return lambda: program().numpy()

    def natural(inducing):
        model, batch = sparse(inducing)
        gpflow.set_trainable(model.kernel, False)
        gpflow.set_trainable(model.likelihood, False)
        gpflow.set_trainable(model.inducing_variable, False)
        optimizer, values = gpflow.optimizers.NaturalGradient(gamma=RATE["natural"]), []

        def loss():
            values.append(model.training_loss(batch))
            return values[-1]

        @tf.function
        def program():
            optimizer.minimize(loss, [(model.q_mu, model.q_sqrt)])
            return values[-1]

        return lambda: program().numpy()

    can = {"evaluate": evaluation, "fit": fit, "step": step, "natural": natural}
    return can, {"gpflow": gpflow.__version__, "tensorflow": tf.__version__}


def lapack():
    """What any way must do at least: the Cholesky factor, and the inverse from it."""
    import numpy as np
    from scipy.linalg import lapack

    def evaluation(count):
        x, _ = data(count)
        covariance = np.asfortranarray(np.exp(-0.5 * (x - x.T) ** 2) + NOISE * np.eye(count))

        def call():
            factor, _ = lapack.dpotrf(covariance, lower=1)
            return lapack.dpotri(factor, lower=1)[1]

        return call

    return {"evaluate": evaluation}, {}


LIBRARIES = {
    "trainability": trainability,
    "autodiff": autodiff,
    "gpjax": gpjax,
    "gpflow": gpflow,
    "potrf + potri": lapack,
}


def seconds(call):
    """Seconds of the processor and of the clock, and what the call gave."""
    start, clock = time.process_time(), time.perf_counter()
    given = call()
    return time.process_time() - start, time.perf_counter() - clock, given


def work(name):
    """Answer requests, one a line, such as `evaluate N`. The first call of each size compiles; its loss is reported."""
    sys.stdout, answers = sys.stderr, sys.stdout  # a library may print
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # JAX makes a thread for each core that it sees
    can, versions = LIBRARIES[name]()
    print(json.dumps([list(can), versions]), file=answers, flush=True)
    calls, first = {}, {}
    for line in sys.stdin:
        what, count = line.split()
        if what == "fit":
            processor, clock, result = seconds(lambda count=count: can["fit"](int(count)))
            found = {"evaluations": int(result.nfev), "loss": float(result.fun), "message": str(result.message)}
            answer = {"processor": processor, "clock": clock, **found}
        else:
            if line not in calls:
                calls[line] = can[what](int(count))
                first[line] = float(calls[line]())
            processor, clock, _ = seconds(calls[line])
            answer = {"processor": processor, "clock": clock, "loss": first[line]}
        print(json.dumps(answer), file=answers, flush=True)


# ---- in the process that asks ----------------------------------------------------------------------------------------


class Worker:
    """The process of a library, which works only while it is asked."""

    def __init__(self, name):
        python = ROOT / environment.Environment("gpflow").python if name == "gpflow" else sys.executable
        self.process = subprocess.Popen(
            [python, __file__, "--work", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.can, self.versions = self.answer()

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, what, count):
        print(what, count, file=self.process.stdin, flush=True)
        return self.answer()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def workers():
    """A process for each library that is there."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = Worker(name)
        except (OSError, json.JSONDecodeError):
            print(f"{name}: NOT RUN, it is not installed here")
    return found


def compare(times, names):
    """The ratio of each to the package: of the fastest calls, and the quartiles of those of the rounds."""
    ratios = {}
    for name in names:
        low, _, high = statistics.quantiles(
            [a / b for a, b in zip(times[name], times["trainability"], strict=True)], n=4
        )
        ratios[name] = {
            "milliseconds": round(1e3 * min(times[name]), 3),
            "ratio": round(min(times[name]) / min(times["trainability"]), 2),
            "quartiles": [round(low, 2), round(high, 2)],
        }
    return ratios


def show(title, ratios):
    print(title)
    for name, found in ratios.items():
        low, high = found["quartiles"]
        print(f"  {name:14} {found['milliseconds']:9.2f} ms  {found['ratio']:5.2f}  (half between {low} and {high})")


def in_turn(what, found, count):
    """The fastest of many calls of each library that can do it."""
    asked = {name: worker for name, worker in found.items() if what in worker.can}
    first = {name: worker.ask(what, count)["loss"] for name, worker in asked.items()}
    limit = 1e-8 if what == "evaluate" else 1e-5  # GPJax adds the jitter to the variances at the data, too
    for name in set(first) - {"potrf + potri"}:
        if abs(first[name] - first["trainability"]) > limit * abs(first[name]):
            sys.exit(
                f"{what} {count}: {name} computes another loss, {first[name]} in place of {first['trainability']}."
            )
    times = {name: [] for name in asked}
    for _ in range(ROUNDS):
        for name, worker in asked.items():
            times[name].append(worker.ask(what, count)["processor"])
    return compare(times, asked)


def cold_fits(names, count):
    times, said = {name: [] for name in names}, {}
    for _ in range(FITS):
        for name in names:
            worker = Worker(name)
            said[name] = worker.ask("fit", count)
            times[name].append(said[name]["processor"])
            worker.end()
    ratios = compare(times, names)
    for name in names:
        ratios[name] |= {"evaluations": said[name]["evaluations"], "loss": said[name]["loss"]}
    return ratios


def processor():
    lines = pathlib.Path("/proc/cpuinfo")
    names = [line for line in lines.read_text().splitlines() if line.startswith("model name")] if lines.exists() else []
    return names[0].partition(": ")[2] if names else platform.processor()


def main(record):
    found = workers()
    versions = {"python": platform.python_version()}
    for worker in found.values():
        versions |= worker.versions
    results = {"processor": processor(), "versions": versions, "rounds": ROUNDS, "value and gradient": {}}
    print(f"{results['processor']}; {', '.join(f'{name} {version}' for name, version in versions.items())}")
    for count in SIZES:
        results["value and gradient"][str(count)] = in_turn("evaluate", found, count)
        show(f"value and gradient, N = {count}, ratios to the package:", results["value and gradient"][str(count)])
    for what, title in (("step", "sparse, a step of Adam"), ("natural", "sparse, a natural step")):
        results[title] = {}
        for count in INDUCING:
            results[title][str(count)] = in_turn(what, found, count)
            show(f"{title}, M = {count}, a batch of {BATCH}:", results[title][str(count)])
    for worker in found.values():
        worker.end()
    results["cold fit, N = 500"] = cold_fits([name for name in ("trainability", "gpflow") if name in found], 500)
    show(f"a whole cold fit, N = 500, the fastest of {FITS}:", results["cold fit, N = 500"])
    if record:
        RECORD.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--work", metavar="LIBRARY", choices=LIBRARIES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work(arguments.work) if arguments.work else main(arguments.record)
