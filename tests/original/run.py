"""Run the listings of the 2020 post as printed, on flax 0.1.0 and today's JAX, and write down what came out.

    python tests/original/run.py RESULT.json

`make original` calls this in an environment of its own, made from requirements-original.txt. Three kinds of code meet
here: the post's listings (listings.py, not changed), a shim that lets flax 0.1.0 work with today's JAX, and the glue
that the listings lack. Shim and glue are ours. Every value in the JSON is read from the listings' own names.
"""

import ast
import json
import pathlib
import sys
from importlib.metadata import version

import listings

# Fact: the expression that gives it, in the names of the post and of our glue.
NUMBERS = {
    "loss of the free model": "loss_fn(free_model)",
    "loss of the fixed model": "loss_fn(fixed_model)",
    "parameter of the fixed model": "fixed_model.params['layer']['a']",
    "gradient of the free model": "free_model_grad.params['layer']['a']",
    "gradient of the fixed model": "fixed_model_grad.params['layer']['a']",
    "output of the fixed model": "fixed_model(x)",
    "parameter after replace": "new_fixed_model.params['layer']['a']",
    "output after replace": "new_fixed_model(x)",
    "output with the new kwargs": "redefined_model(x)",
    "loss with the new kwargs": "loss_fn(redefined_model)",
    "gradient with the new kwargs": "jax.grad(loss_fn)(redefined_model).params['layer']['a']",
}


def flax_of_2020():
    """flax 0.1.0, mended where today's JAX has changed under it: the shim."""
    import jax
    import jax.numpy as jnp

    # flax 0.1.0 imports this name when it is imported itself; JAX calls the function `standardize` now.
    jax.nn.normalize = jax.nn.standardize
    import flax

    def with_zeros(fn, input_spec):
        """Call `fn` on zeros of the given shapes and dtypes."""
        return fn(*(jnp.zeros(shape, dtype) for shape, dtype in input_spec))

    # `init_by_shape` calls this to get parameters from shapes alone. The old one asks a tracer for `_trace.master`, and
    # JAX for `tree_leaves` and `tree_multimap`: none of the three is there any more. The parameters of the post do not
    # depend on the values of the inputs, so zeros will do.
    flax.jax_utils.partial_eval_by_shape = with_zeros
    return flax


def run_glue(code, namespace):
    """Execute code of ours: what the listings need and do not say."""
    exec(code, namespace)


def run_listing(listing, namespace):
    """Execute a listing of the post, statement by statement; {assertion: "passes" or "raises AssertionError"}.

    An assertion that raises does not stop the listing, so that each one is seen to pass or to raise by itself.
    """
    outcomes = {}
    for statement in ast.parse(listing).body:
        code = compile(ast.Module([statement], []), "listing", "exec")
        if not isinstance(statement, ast.Assert):
            exec(code, namespace)
            continue
        outcome = "passes"
        try:
            exec(code, namespace)
        except AssertionError:
            outcome = "raises AssertionError"
        outcomes[f"assert {ast.unparse(statement.test)}"] = outcome
    return outcomes


def run_post():
    """{fact: value} after all listings have run in one namespace, in their order."""
    namespace = {"flax": flax_of_2020(), "__name__": "post"}
    # Ours: the imports that the post leaves out.
    run_glue("import jax\nimport jax.numpy as jnp\nfrom jax import random", namespace)
    run_listing(listings.LAYER, namespace)
    run_listing(listings.MODEL, namespace)
    run_listing(listings.DEFINITIONS, namespace)
    # Ours: the inputs, and the two models that the post has created without showing it.
    run_glue("input_shape_and_dtype = [((1,), jnp.float32)]", namespace)
    run_glue("free_model = create_model(free_model_def, random.PRNGKey(0), input_shape_and_dtype)", namespace)
    run_glue("fixed_model = create_model(fixed_model_def, random.PRNGKey(0), input_shape_and_dtype)", namespace)

    prompt, _ = listings.FIXED_PARAMS.splitlines()  # the printed output cannot be read by Python
    expression = prompt.removeprefix(">>> ")
    facts = {expression: repr(eval(expression, namespace))}

    facts |= run_listing(listings.GRADIENTS, namespace)
    # Ours: `x`, which the post uses outside of `loss_fn` without having defined it there.
    run_glue("x = jnp.ones(*input_shape_and_dtype[0])", namespace)
    facts |= run_listing(listings.CAVEAT, namespace)
    # Ours: the assertion with the call that it lacks.
    facts |= run_listing("assert new_fixed_model(x) != fixed_model(x)", namespace)

    run_listing(listings.NEW_KWARGS, namespace)
    # Ours: a model with the new kwargs, made as the post made the others.
    run_glue("new_fixed_model_def = MyModel.partial(**new_fixed_kwargs)", namespace)
    run_glue("redefined_model = create_model(new_fixed_model_def, random.PRNGKey(0), input_shape_and_dtype)", namespace)
    return facts | {fact: eval(expression, namespace).item() for fact, expression in NUMBERS.items()}


def main(path):
    versions = {name: version(name) for name in ("flax", "jax", "jaxlib", "numpy")}
    result = {"versions": versions, "facts": run_post()}
    text = json.dumps(result, indent=2) + "\n"
    pathlib.Path(path).write_text(text, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("run.py: there is no place to write to. Name a file, as in `run.py RESULT.json`.")
    main(sys.argv[1])
