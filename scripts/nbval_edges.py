"""A pytest plugin: nbval's kernels mark each printed number whose digits hang on a rounding edge (see edges.py)."""

from nbval.plugin import IPyNbFile

INSTALL = "import edges; edges.install(get_ipython()); del edges"
SECONDS = 60


def pytest_configure(config):
    start = IPyNbFile.setup

    def setup(notebook):
        start(notebook)
        message = notebook.kernel.execute_cell_input(INSTALL)
        notebook.kernel.await_reply(message, SECONDS)
        notebook.kernel.await_idle(message, SECONDS)

    IPyNbFile.setup = setup
