"""What trains is data beside the parameters: masks, halves and training loops for any pytree of JAX.

>>> import trainability as tr
>>> params = {"encoder": 1.0, "head": 2.0}
>>> tr.set_trainable(tr.all_trainable(params), "encoder", False)
{'encoder': False, 'head': True}

Every public name is here. The modules say what they are about: ``masks``, ``entries`` for parts of arrays, and the
training loops. The name of the last one, ``fit``, is here that of the function: Python binds a module's name in its
package when it loads the module, so the module is loaded first, and at once, and the function takes the name after it.
"""

from trainability.entries import combine_entries, entry_names, partition_entries
from trainability.fit import Fit, fit, fit_lbfgs
from trainability.masks import (
    NoMatchError,
    Row,
    Summary,
    all_fixed,
    all_trainable,
    combine,
    move_state,
    moved,
    partition,
    path_of,
    set_trainable,
    stop_fixed,
    summary,
    trainable_paths,
)

__all__ = [
    "Fit",
    "NoMatchError",
    "Row",
    "Summary",
    "all_fixed",
    "all_trainable",
    "combine",
    "combine_entries",
    "entry_names",
    "fit",
    "fit_lbfgs",
    "move_state",
    "moved",
    "partition",
    "partition_entries",
    "path_of",
    "set_trainable",
    "stop_fixed",
    "summary",
    "trainable_paths",
]
