"""Keep some parameters fixed while the others train: masks, partitions and training loops for any JAX pytree.

>>> import trainability as tr
>>> params = {"encoder": 1.0, "head": 2.0}
>>> tr.all_fixed(params, but="head")
{'encoder': False, 'head': True}

A mask is data beside the parameters: a pytree with their structure, in which True means that a leaf trains.

Every public name is here, except those of ``trainability.live``, for Flax NNX models, and ``trainability.gp``, for
Gaussian processes in Flax Linen. These two modules are imported when they are first used, because Flax is an optional
dependency. The other modules are ``masks``, ``checks`` for what moved, ``entries`` for parts of arrays, and
``training`` for the loops.
"""

import importlib
from typing import TYPE_CHECKING, Any

from trainability.checks import check_step, moved
from trainability.entries import combine_entries, entry_names, partition_entries
from trainability.masks import (
    NoMatchError,
    Row,
    Summary,
    all_fixed,
    all_trainable,
    combine,
    move_state,
    partition,
    path_of,
    set_trainable,
    stop_fixed,
    summary,
    trainable_paths,
)
from trainability.training import Fit, LbfgsFit, fit, fit_lbfgs

__all__ = [
    "Fit",
    "LbfgsFit",
    "NoMatchError",
    "Row",
    "Summary",
    "all_fixed",
    "all_trainable",
    "check_step",
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

if TYPE_CHECKING:  # with a __getattr__ a type checker would accept any name
    from trainability import gp as gp
    from trainability import live as live
else:

    def __getattr__(name: str) -> Any:
        if name in ("gp", "live"):
            return importlib.import_module(f"trainability.{name}")
        raise AttributeError(f"module 'trainability' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "gp", "live"])
