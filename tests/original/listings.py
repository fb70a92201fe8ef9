"""The code listings of the 2020 post, as printed and in their order.

Quoted from Daniel Tait's post "trainable == False in Flax (part i)", 22 March 2020. They are his, attributed to him,
and NOT covered by this project's licence. Nothing in them is changed. What they lack in order to run is in run.py.
"""

# GPflow's one line, which the post wants for Flax. Run by `make gpflow`, in book/gpflow_reference/post.py.
SET_TRAINABLE = """\
gpflow.utilities.set_trainable(model.param, False)
"""

# The layer whose parameter can be fixed by a flag.
LAYER = """\
class Layer(flax.nn.Module):
    def apply(self, x, a_fixed=False, a_init=jax.nn.initializers.ones):
        a = self.param('a', (1, ), a_init)
        if a_fixed:
            _default_key = random.PRNGKey(0)
            a = a_init(_default_key, (1, ))
        return a * x
"""

# The larger model, which hands its kwargs down.
MODEL = """\
class MyModel(flax.nn.Module):
    def apply(self, x, **kwargs):
        x = Layer(x, **kwargs.get('layer_kwargs', {}), name='layer')
        return x
"""

# The two definitions by partial, and the function that creates a model from one.
DEFINITIONS = """\
free_kwargs = {'layer_kwargs': {'a_fixed': False}}
fixed_kwargs = {'layer_kwargs': {'a_fixed': True}}

# use partial to fix the initial functions
free_model_def = MyModel.partial(**free_kwargs)
fixed_model_def = MyModel.partial(**fixed_kwargs)

def create_model(model_def, key, input_specs):
    x, init_params = model_def.init_by_shape(key, input_specs)
    return flax.nn.Model(model_def, init_params)
"""

# The fixed model's parameters, as a session. The output is quoted only: a parenthesis is missing in it.
FIXED_PARAMS = """\
>>> fixed_model.params
{'layer': {'a': DeviceArray([1.], dtype=float32}}
"""

# The loss, the two gradients, and the three assertions.
GRADIENTS = """\
def loss_fn(model):
    x = jnp.ones(*input_shape_and_dtype[0])
    y = model(x)
    return jnp.mean(y ** 2)

free_model_grad = jax.grad(loss_fn)(free_model)
fixed_model_grad = jax.grad(loss_fn)(fixed_model)

assert(loss_fn(free_model) == loss_fn(fixed_model))
assert(free_model_grad.params['layer']['a'] == 2)
assert(fixed_model_grad.params['layer']['a'] == 0)
"""

# The big caveat: a replaced value, and the assertion that is said to raise.
CAVEAT = """\
new_fixed_model = fixed_model.replace(
    params={'layer': {'a': 3.14*jnp.ones([1])}})

assert(new_fixed_model(x) != fixed_model)
"""

# The way out: an initializer that gives the wanted value.
NEW_KWARGS = """\
new_fixed_kwargs = {
    'layer_kwargs':
        {'a_fixed': True, 'a_init': lambda key, shape: 3.14*jnp.ones([1])}}
"""

LISTINGS = (SET_TRAINABLE, LAYER, MODEL, DEFINITIONS, FIXED_PARAMS, GRADIENTS, CAVEAT, NEW_KWARGS)
