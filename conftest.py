"""Gives every test, and each notebook that nbval runs, the environment in which `make execute` stored the outputs."""

import os
import sys

from notebook_environment import ENVIRONMENT

os.environ.update(ENVIRONMENT)

# Figures are compared where they were drawn: another system may draw the letters of a label otherwise.
pytest_plugins = ["nbval_figures"] if sys.platform == "linux" else []
