"""Make the virtual environment `.venv` from the lock `requirements.txt`.

Called by the Makefile before every command that needs it. A complete
environment holds a copy of the lock it was installed from, so that a second
call does nothing, and a changed lock is noticed.

This file must be readable by any Python, however old, because its first task
is to say that a Python is too old: no syntax newer than Python 2.7.
"""

from __future__ import print_function

import filecmp
import os
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
LOCK = "requirements.txt"
VENV = ".venv"
INSTALLED = os.path.join(VENV, "installed-" + LOCK)
UNFINISHED = os.path.join(VENV, "unfinished")
VENV_PYTHON = os.path.join(VENV, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))


def stop(problem, remedy):
    """End with exit code 1 and one line: what is wrong, and what to do."""
    sys.exit("{0}: {1}. {2}.".format(os.path.basename(VENV), problem, remedy))


def version_of(python):
    """(major, minor) of the interpreter at this path; None if it does not run or has no pip."""
    code = "import sys, pip; print('%d %d' % sys.version_info[:2])"
    try:
        process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError:
        return None
    words = process.communicate()[0].split()
    return tuple(int(word) for word in words) if process.returncode == 0 else None


def check_this_python():
    """Stop unless this interpreter is one that the lock is made for and can make environments."""
    this = sys.version_info[:2]
    if not OLDEST <= this <= NEWEST:
        stop(
            "Python {0}.{1} is too {2}".format(this[0], this[1], "old" if this < OLDEST else "new"),
            "The book needs Python 3.11 to 3.14: name one, as in `make book PYTHON=python3.12`",
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        stop(
            "this Python cannot make virtual environments ({0})".format(error),
            "Install its venv package (Debian, Ubuntu: `apt install python3-venv`), or name another"
            " Python with PYTHON=",
        )


def install():
    """Install the lock into `.venv`. An interrupted installation leaves a mark, so that the next starts afresh.

    The lock is complete, so pip has nothing to resolve (--no-deps). Where it resolves all the same, some versions of it
    want the newest of a package of which another one asks for an extra, and refuse the lock once there is a newer one.
    """
    open(UNFINISHED, "w").close()
    command = [VENV_PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    if subprocess.call(command + ["--no-deps", "--require-hashes", "-r", LOCK]) != 0:
        stop(
            "installing {0} failed, for the reason that pip gives above".format(LOCK),
            "Mend that (is there a network?) and run the same command again",
        )
    shutil.copyfile(LOCK, INSTALLED)
    os.remove(UNFINISHED)


def main(python_was_named):
    found = version_of(VENV_PYTHON)
    usable = found is not None and OLDEST <= found <= NEWEST and not os.path.exists(UNFINISHED)
    other_python = usable and python_was_named and found != sys.version_info[:2]
    if usable and not other_python:
        if os.path.exists(INSTALLED) and filecmp.cmp(LOCK, INSTALLED, shallow=False):
            return
        print(".venv: the lock has changed; installing what is new in it.")
        install()
        return
    check_this_python()
    if other_python:
        print(".venv: made with Python {0}.{1}; making it again with the one you named.".format(*found))
    elif os.path.lexists(VENV):
        print(".venv: incomplete; making it again.")
    print(".venv: installing the book's {0} (a minute or two, once).".format(LOCK))
    sys.stdout.flush()
    if os.path.lexists(VENV) and not os.path.isdir(VENV):
        stop("there is a file where the folder .venv should be", "Move it away")
    if subprocess.call([sys.executable, "-m", "venv", "--clear", VENV]) != 0:
        stop("Python could not make a virtual environment, for the reason above", "Mend that, or name another PYTHON=")
    install()


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    main(python_was_named="--named" in sys.argv[1:])
