"""The environment variables that notebooks are executed and tested under, so that they print the same everywhere."""

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # the stored digits are a CPU's
    "JAX_PPRINT_USE_COLOR": "0",  # no colour codes in a printed jaxpr
}
