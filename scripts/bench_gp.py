"""What a value and gradient of a Gaussian process's likelihood cost, and a whole fit, beside GPflow, GPJax and LAPACK.

    python scripts/bench_gp.py              print the ratios
    python scripts/bench_gp.py --record     and write them to scripts/bench_gp.json

Each library has a process of its own, on one core and with one thread. They are called in turn, so that a busy machine
slows all, and the fastest call of each counts, in seconds of the processor. The model is the same: a squared
exponential kernel, the mean zero and Gaussian noise, from the same start, with gradients of the unconstrained numbers.
A fit runs in a fresh process: its seconds are those from the data to the fitted parameters, with all compilation and
without the imports.

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
NOISE = 0.1  # where the variance of the noise starts; the variance and the lengthscale start at 1
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


# ---- in the process of a library: each function returns ways to evaluate and to fit, and the versions ---------------


def data(count):
    import numpy as np

    random = np.random.default_rng(count)
    x = np.sort(random.uniform(0, 10, count))
    return x[:, None], np.sin(x) + np.cos(3 * x) / 2 + 0.3 * random.normal(size=count)


def trainability():
    import jax
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

    return evaluation, fit, {"jax": jax.__version__, "scipy": scipy.__version__}


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

    return evaluation, None, {}


def gpjax():
    import equinox as eqx
    import gpjax as gpx
    import jax
    import jax.numpy as jnp

    def evaluation(count):
        x, y = data(count)
        prior = gpx.gps.Prior(gpx.kernels.RBF(), gpx.mean_functions.Zero(), jitter=0.0)
        model = prior * gpx.likelihoods.Gaussian(obs_stddev=jnp.sqrt(NOISE))
        params, static = eqx.partition(model, eqx.is_array)

        def loss(params, data):
            return -gpx.objectives.conjugate_mll(eqx.combine(params, static), data)

        program, given = jax.jit(jax.value_and_grad(loss)), gpx.Dataset(jnp.asarray(x), jnp.asarray(y)[:, None])
        return lambda: jax.block_until_ready(program(params, given))[0]

    return evaluation, None, {"gpjax": gpx.__version__}


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

    return evaluation, fit, {"gpflow": gpflow.__version__, "tensorflow": tf.__version__}


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

    return evaluation, None, {}


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
    """Answer requests, one a line: `evaluate N` or `fit N`. The first evaluation of each size compiles."""
    sys.stdout, answers = sys.stderr, sys.stdout  # a library may print
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # JAX makes a thread for each core that it sees
    evaluation, fit, versions = LIBRARIES[name]()
    print(json.dumps(versions), file=answers, flush=True)
    calls = {}
    for line in sys.stdin:
        what, count = line.split()
        if what == "fit":
            processor, clock, result = seconds(lambda count=count: fit(int(count)))
            found = {"evaluations": int(result.nfev), "loss": float(result.fun), "message": str(result.message)}
            answer = {"processor": processor, "clock": clock, **found}
        else:
            if count not in calls:
                calls[count] = evaluation(int(count))
                calls[count]()
            processor, clock, value = seconds(calls[count])
            answer = {"processor": processor, "clock": clock, "loss": float(value)}
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
        self.versions = self.answer()

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


def evaluations(found, count):
    first = {name: worker.ask("evaluate", count)["loss"] for name, worker in found.items()}
    for name in set(first) - {"potrf + potri"}:
        if abs(first[name] - first["trainability"]) > 1e-8 * abs(first[name]):
            sys.exit(f"N = {count}: {name} computes another loss, {first[name]} in place of {first['trainability']}.")
    times = {name: [] for name in found}
    for _ in range(ROUNDS):
        for name, worker in found.items():
            times[name].append(worker.ask("evaluate", count)["processor"])
    return compare(times, found)


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
        results["value and gradient"][str(count)] = evaluations(found, count)
        show(f"value and gradient, N = {count}, ratios to the package:", results["value and gradient"][str(count)])
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
