"""Record what this process and its children load: Python imports a module of this name at its start, if it finds one.

Every file that is opened for reading goes into the folder RECORD_LOADED, one file of paths for each process. Written at
once, so that a process that is killed has told what it knew.
"""

import os
import sys


def start(folder):
    """Write the path of each file that this process opens from now on, once, to a file of its own in `folder`."""
    seen = set()
    record = os.open(os.path.join(folder, str(os.getpid())), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and str(arguments[1] or "r").startswith("r"):
            path = arguments[0]
        elif event == "import" and isinstance(arguments[1], str):  # a compiled module
            path = arguments[1]
        else:
            return
        if path not in seen:
            seen.add(path)
            os.write(record, f"{os.path.abspath(path)}\n".encode())

    sys.addaudithook(note)


if folder := os.environ.get("RECORD_LOADED"):
    start(folder)
