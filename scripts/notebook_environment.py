"""The environment variables that notebooks are executed and tested under, so that they print the same everywhere."""

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # the stored digits are a CPU's
    "JAX_PPRINT_USE_COLOR": "0",  # no colour codes in a printed jaxpr
}


def compilation_cache(folder):
    """Variables by which JAX keeps in a folder what it compiles, for other processes with the same programs."""
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
