"""Gaussian process regression in Flax Linen, in which you choose what trains.

This module needs Flax and is loaded when it is first used.
"""

__all__: list[str] = []
