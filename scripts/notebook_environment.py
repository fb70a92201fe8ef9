"""The environment variables that notebooks are executed and tested under, so that they print the same everywhere."""

import os

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # the stored digits are a CPU's
    "JAX_PPRINT_USE_COLOR": "0",  # no colour codes in a printed jaxpr
    # One thread for NumPy's and SciPy's linear algebra: two notebooks run side by side, and the threads of one would
    # wait for cores that the other holds.
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",  # the same on a Mac, where NumPy uses Apple's Accelerate
    # Keras reads and writes its settings in this folder, and there is none: it takes its defaults and writes nothing.
    "KERAS_HOME": os.devnull,
}


def compilation_cache(folder):
    """Variables by which JAX keeps in a folder what it compiles, for other processes with the same programs."""
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
