"""Run scripts in GPflow, all in this one process: importing TensorFlow takes longer than most of them.

Called by gpflow_runs.py with the interpreter of `.venv-gpflow`. It reads a list of jobs as JSON, and writes a list of
what each of them gave. A job is a script (`script`), the file that its code is read from, which for a mutant is an
edited copy (`source`), and the function to call (`call`).
"""

import contextlib
import io
import json
import pathlib
import random
import sys
import time
import traceback
import types

import gpflow
import numpy as np
import tensorflow as tf


def run(job):
    """What the function gave, or which error it raised; both with the CPU's seconds and what was printed."""
    module, printed, start = types.ModuleType("script"), io.StringIO(), time.process_time()
    module.__file__ = job["script"]  # beside which it finds its data
    sys.modules["script"] = module
    gpflow.keras.tf_keras.backend.set_floatx("float32")  # the default, which a script may have changed
    random.seed(0)
    np.random.seed(0)
    tf.random.set_seed(0)
    try:
        # A script may change GPflow's settings, and the next one must not notice.
        with contextlib.redirect_stdout(printed), gpflow.config.as_context():
            # From a file, for AutoGraph reads the source of a function again.
            exec(compile(pathlib.Path(job["source"]).read_text("utf-8"), job["source"], "exec"), module.__dict__)
            result = getattr(module, job["call"])()
        given = {"result": json.loads(json.dumps(result)), "tolerance": getattr(module, "RTOL", 1e-8)}
    except Exception as error:
        given = {"error": type(error).__name__, "traceback": traceback.format_exc()}
    return {**given, "printed": printed.getvalue(), "seconds": time.process_time() - start}


def main(jobs_path, given_path):
    jobs = json.loads(pathlib.Path(jobs_path).read_text("utf-8"))
    versions = {"gpflow": gpflow.__version__, "tensorflow": tf.__version__}
    given = {"versions": versions, "runs": [run(job) for job in jobs]}
    pathlib.Path(given_path).write_text(json.dumps(given), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
