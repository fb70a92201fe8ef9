"""A Sphinx extension: the whole book as a zip, made before each build, for a page to offer with {download}."""

import pathlib
import subprocess
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
ZIP = ROOT / "_build" / "trainable-false-book.zip"
CACHES = {"__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
NOT_THE_BOOK = {"_build", "dist", ".git", *CACHES}
SAME_DAY = (2026, 1, 1, 0, 0, 0)  # so that the same book gives the same bytes


def files_of_the_book():
    """Paths of all files of the book, relative to its top: what git knows, or, unpacked from a zip, what is there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and (ROOT / ".git").exists():
        names = [pathlib.Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    else:
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    return sorted(
        name for name in names if not NOT_THE_BOOK & set(name.parts) and not name.parts[0].startswith(".venv")
    )


def write_zip(app):
    ZIP.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in files_of_the_book():
            entry = zipfile.ZipInfo(f"{ZIP.stem}/{name.as_posix()}", SAME_DAY)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (ROOT / name).stat().st_mode << 16
            archive.writestr(entry, (ROOT / name).read_bytes())


def setup(app):
    app.connect("builder-inited", write_zip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
