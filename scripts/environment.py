"""Make a virtual environment of the book from its lock, by name.

    python scripts/environment.py              .venv, the book's own, with this Python or the one there was
    python scripts/environment.py --named      the same, with this Python
    python scripts/environment.py NAME         .venv-NAME: newest, original, torch, gpflow

With --unlocked it is made of today's newest versions instead of the locked ones.

Called by the Makefile before every command that needs one. A complete environment holds a copy of the lock it was
installed from, so that a second call does nothing, and a changed lock is noticed.

This file must be readable by any Python, however old, because its first task is to say that a Python is too old: no
syntax newer than Python 2.7.
"""

from __future__ import print_function

import filecmp
import os
import shutil
import subprocess
import sys

# name: the lock, and the oldest and the newest Python that it is made for
LOCKS = {
    "book": ("requirements.txt", (3, 11), (3, 14)),
    "newest": ("requirements-newest.txt", (3, 12), (3, 14)),
    "original": ("requirements-original.txt", (3, 11), (3, 14)),
    "torch": ("requirements-torch.txt", (3, 11), (3, 11)),
    "gpflow": ("requirements-gpflow.txt", (3, 11), (3, 12)),
}
USES_THE_NEWEST_PYTHON = ("newest",)  # the others use the Python that runs this file, if they can
NOT_HASHED = ("torch",)  # and not complete: pip adds what the build of the index needs, as NVIDIA's libraries
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Environment(object):
    """Where an environment is, and what it is made from. All paths are relative to the top of the book."""

    def __init__(self, name):
        self.name = name
        self.lock, self.oldest, self.newest = LOCKS[name]
        self.chosen = self.lock.replace(".txt", ".in")
        self.folder = ".venv" if name == "book" else ".venv-" + name
        self.python = os.path.join(self.folder, *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
        self.installed = os.path.join(self.folder, "installed-" + self.lock)
        self.unfinished = os.path.join(self.folder, "unfinished")

    def fits(self, version):
        return version is not None and self.oldest <= version <= self.newest

    def range(self):
        if self.oldest == self.newest:
            return "Python {0}.{1}".format(*self.oldest)
        return "Python {0}.{1} to {2}.{3}".format(*(self.oldest + self.newest))

    def stop(self, problem, remedy):
        """End with exit code 1 and one line: what is wrong, and what to do."""
        sys.exit("{0}: {1}. {2}.".format(self.folder, problem, remedy))


def version_of(python, modules="pip"):
    """(major, minor) of the interpreter at this path; None if it does not run or lacks one of the modules."""
    code = "import sys, {0}; print('%d %d' % sys.version_info[:2])".format(modules)
    try:
        process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError:
        return None
    words = process.communicate()[0].split()
    return tuple(int(word) for word in words) if process.returncode == 0 else None


def other_pythons(environment):
    """Paths of interpreters beside this one: those on the PATH by name, and those that pyenv keeps."""
    for minor in range(environment.newest[1], environment.oldest[1] - 1, -1):
        yield "python3.{0}".format(minor)
    if shutil.which("pyenv"):
        root = subprocess.check_output(["pyenv", "root"]).decode().strip()
        versions = os.path.join(root, "versions")
        for name in sorted(os.listdir(versions)) if os.path.isdir(versions) else []:
            yield os.path.join(versions, name, "bin", "python")


def find_python(name):
    """The path of an interpreter that an environment can be made with; None if there is none here."""
    environment = Environment(name)
    this = version_of(sys.executable, "venv, ensurepip")
    if environment.fits(this) and name not in USES_THE_NEWEST_PYTHON:
        return sys.executable
    found = [(this, sys.executable)]
    found += [(version_of(path, "venv, ensurepip"), path) for path in other_pythons(environment)]
    usable = [(version, path) for version, path in found if environment.fits(version)]
    return max(usable)[1] if usable else None


def check_this_python(environment):
    """Stop unless this interpreter is one that the lock is made for and can make environments."""
    this = sys.version_info[:2]
    if not environment.fits(this):
        environment.stop(
            "Python {0}.{1} is too {2}".format(this[0], this[1], "old" if this < environment.oldest else "new"),
            "The book needs {0}: name one, as in `make book PYTHON=python3.12`".format(environment.range()),
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        environment.stop(
            "this Python cannot make virtual environments ({0})".format(error),
            "Install its venv package (Debian, Ubuntu: `apt install python3-venv`), or name another"
            " Python with PYTHON=",
        )


def python_for(environment):
    """The interpreter to make an environment with: for the book's own, this one and no other."""
    if environment.name == "book":
        check_this_python(environment)
        return sys.executable
    python = find_python(environment.name)
    if python is None:
        environment.stop("there is no {0} here".format(environment.range()), "Install one and try again")
    return python


def install(environment, unlocked):
    """Install the lock, or the newest of what was chosen.

    An interrupted installation leaves a mark, so that the next one starts afresh. The lock is complete, so pip has
    nothing to resolve (--no-deps). Where it resolves all the same, some versions of it want the newest of a package of
    which another one asks for an extra, and refuse the lock once there is a newer one.
    """
    open(environment.unfinished, "w").close()
    command = [environment.python, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    if not unlocked and environment.name not in NOT_HASHED:
        command += ["--no-deps", "--require-hashes"]
    command += ["-r", environment.chosen if unlocked else environment.lock]
    if subprocess.call(command) != 0:
        environment.stop(
            "installing {0} failed, for the reason that pip gives above".format(command[-1]),
            "Mend that (is there a network?) and run the same command again",
        )
    if unlocked:
        return  # with the mark: it is not what the lock says, and the next call makes that
    shutil.copyfile(environment.lock, environment.installed)
    os.remove(environment.unfinished)


def make(name="book", python_was_named=False, unlocked=False):
    """Make or complete an environment, unless it is complete; the path of its interpreter.

    With `unlocked` it is made anew, of the newest versions there are today.
    """
    environment = Environment(name)
    if not os.path.exists(environment.lock):
        environment.stop("there is no {0}".format(environment.lock), "Run make lock")
    found = version_of(environment.python)
    usable = environment.fits(found) and not os.path.exists(environment.unfinished) and not unlocked
    other_python = usable and python_was_named and found != sys.version_info[:2]
    if usable and not other_python:
        if os.path.exists(environment.installed) and filecmp.cmp(environment.lock, environment.installed, False):
            return os.path.abspath(environment.python)
        print("{0}: the lock has changed; installing what is new in it.".format(environment.folder))
        sys.stdout.flush()
        install(environment, unlocked)
        return os.path.abspath(environment.python)
    python = python_for(environment)
    if other_python:
        old = "{0}: made with Python {1}.{2}; making it again with the one you named."
        print(old.format(environment.folder, *found))
    elif os.path.lexists(environment.folder) and not unlocked:
        print("{0}: incomplete; making it again.".format(environment.folder))
    what = environment.chosen if unlocked else environment.lock
    print("{0}: installing {1} (a minute or two, once).".format(environment.folder, what))
    sys.stdout.flush()
    if os.path.lexists(environment.folder) and not os.path.isdir(environment.folder):
        environment.stop("there is a file where the folder {0} should be".format(environment.folder), "Move it away")
    if subprocess.call([python, "-m", "venv", "--clear", environment.folder]) != 0:
        environment.stop(
            "Python could not make a virtual environment, for the reason above", "Mend that, or name another PYTHON="
        )
    install(environment, unlocked)
    return os.path.abspath(environment.python)


if __name__ == "__main__":
    os.chdir(ROOT)
    names = [word for word in sys.argv[1:] if not word.startswith("-")] or ["book"]
    if names[0] not in LOCKS:
        sys.exit("There is no environment {0}. There are: {1}.".format(names[0], ", ".join(sorted(LOCKS))))
    make(names[0], python_was_named="--named" in sys.argv[1:], unlocked="--unlocked" in sys.argv[1:])
