"""Gives every test, and each notebook that nbval runs, the environment in which `make execute` stored the outputs."""

import os

from notebook_environment import ENVIRONMENT

os.environ.update(ENVIRONMENT)
