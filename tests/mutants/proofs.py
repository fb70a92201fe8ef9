"""What need not be proved again: proved.json, a digest of all that the verdict on some mutants depended on.

A proof is of a chapter (`03a-masks`) or of a module of the package (`trainability/masks`). Its record names the files
of the project and the distributions that were loaded in the run, as the run itself recorded them. The digest is made of
their contents and versions, of the mutants and of what they break, of the environment's variables and of Python's minor
version. While all of that is the same, so is the verdict.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
import sys
import tempfile

from notebook_environment import ENVIRONMENT

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
RECORDER = HERE / "recorder"


@dataclasses.dataclass
class Loaded:
    """What a run loaded: files of the project, relative to its top, and names of distributions; sorted."""

    files: list = dataclasses.field(default_factory=list)
    distributions: list = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def recording(places):
    """Record what the processes that are started with these variables load: yields (variables, loaded).

    `places` is {folder: its place in the project} for copies of the project's files. `loaded` is filled at the end.
    """
    loaded = Loaded()
    with tempfile.TemporaryDirectory() as folder:
        yield {"RECORD_LOADED": folder, "PYTHONPATH": os.pathsep.join([str(RECORDER), str(ROOT / "scripts")])}, loaded
        paths = {line for file in pathlib.Path(folder).iterdir() for line in file.read_text("utf-8").splitlines()}
    loaded.files, loaded.distributions = sort_out(paths, {**places, ROOT: pathlib.PurePath()})


def sort_out(paths, places):
    """(files of the project, distributions) among the absolute paths that a run opened."""
    owners = importlib.metadata.packages_distributions()
    files, distributions = set(), set()
    for path in map(pathlib.Path, paths):
        if path.parent.name == "__pycache__":  # a compiled file stands for its source
            path = path.parent.with_name(f"{path.name.partition('.')[0]}.py")
        if "site-packages" in path.parts:
            for top in path.parts[path.parts.index("site-packages") + 1 :][:1]:  # the folder itself has none
                distributions.update(owners.get(top.partition(".")[0], []))
            continue
        for folder, place in places.items():
            name = place / path.relative_to(folder) if path.is_relative_to(folder) else None
            if name and path.suffix != ".ipynb" and (ROOT / name).is_file():
                files.add(name.as_posix())
                break
    return sorted(files), sorted(distributions)


def version(distribution):
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def content(name):
    path = ROOT / name
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def runner():
    """The files of the project that judge: what this process has loaded, and what records what the others load."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    own = {RECORDER / "sitecustomize.py", *(pathlib.Path(file) for file in files if file)}
    folders = (HERE, RECORDER, ROOT / "scripts")
    return sorted(path.relative_to(ROOT).as_posix() for path in own if path.parent in folders)


def digest(subject, loaded):
    """A digest of the subject (mutants and what they break), of what was loaded, and of what it ran in."""
    parts = [
        subject,
        {name: content(name) for name in [*runner(), *loaded.files]},
        {name: version(name) for name in loaded.distributions},
        ENVIRONMENT,
        sys.version_info[:2],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Record:
    """The proofs that are kept, in a JSON file: {name: {files, distributions, digest}}."""

    def __init__(self, path):
        self.path = path
        self.proofs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def holds(self, name, subject):
        """Whether a proof is kept and nothing has changed that its verdict depended on."""
        if name not in self.proofs:
            return False
        proof = self.proofs[name]
        return proof["digest"] == digest(subject, Loaded(proof["files"], proof["distributions"].split()))

    def write(self, name, subject, loaded):
        distributions = " ".join(loaded.distributions)
        self.proofs[name] = {
            "digest": digest(subject, loaded),
            "files": loaded.files,
            "distributions": distributions,
        }
        self._save()

    def remove(self, name):
        if self.proofs.pop(name, None):
            self._save()

    def keep_only(self, names):
        """Forget what there is no longer."""
        for name in set(self.proofs) - set(names):
            self.remove(name)

    def _save(self):
        self.path.write_text(json.dumps(self.proofs, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def drawn(names, count, commit):
    """`count` of the names, by a lot that the hash of a commit casts."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{commit} {name}".encode()).digest())[:count]
