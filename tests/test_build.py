"""What the build does: it is strict, and it offers what it can offer."""

import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import zipfile

import pytest
import sphinx_book_zip

from conftest import make

ROOT = pathlib.Path(__file__).parents[1]


def test_a_reference_to_nothing_fails_the_build_each_time(small_book):
    """A section that is not there, and a name of an API that was not confirmed."""
    page = small_book / "book/second.md"
    whole = page.read_text()
    page.write_text(whole + "\nSee {ref}`nowhere` and {py:func}`jax.lax.no_such_function`.\n")
    for _ in range(2):  # without --all the second build would remember nothing and pass
        failed = make("book", folder=small_book)
        said = failed.stdout + failed.stderr
        assert failed.returncode != 0 and "nowhere" in said and "jax.lax.no_such_function" in said

    page.write_text(whole + "\nSee {py:func}`jax.lax.stop_gradient`.\n")
    mended = make("book", folder=small_book)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    address = "https://docs.jax.dev/en/latest/_autosummary/jax.lax.stop_gradient.html#jax.lax.stop_gradient"
    assert f'href="{address}"' in (small_book / "_build/html/book/second.html").read_text()


# ---- where the site lives --------------------------------------------------------------------------------------------

PLACES = {"BOOK_URL": "https://example.org/the-book", "REPOSITORY_URL": "https://github.com/someone/the-book"}
TRACES = {
    "BOOK_URL": ["og:url", "og:title", "canonical", "example.org"],
    "REPOSITORY_URL": ["github.com/someone", "colab.research.google.com", "mybinder.org", "/edit/"],
}


@pytest.fixture
def book_with_notebooks(small_book):
    """The small book with a chapter that needs only Colab's libraries, and one that imports the book's package."""
    chapter = (ROOT / "templates/chapter.ipynb").read_text()
    (small_book / "book/index.md").write_text("# First\n\n{cite:p}`jax` See the [second](second.md).\n")
    (small_book / "book/plain.ipynb").write_text(chapter)
    importing = chapter.replace('"import numpy as np', '"from trainability import masks\\n",\n    "import numpy as np')
    importing = importing.replace("template-exercise", "other-exercise").replace("fig-template", "fig-other")
    assert importing.count("from trainability import masks") == 1
    (small_book / "book/package.ipynb").write_text(importing)
    toc = "format: jb-book\nroot: book/index\nchapters:\n"
    pages = ("second", "plain", "package")
    (small_book / "_toc.yml").write_text(toc + "".join(f"  - file: book/{name}\n" for name in pages))
    return small_book


def built_pages(folder, **variables):
    built = make("book", folder=folder, **variables)
    assert built.returncode == 0, built.stdout + built.stderr
    return {path.stem: path.read_text() for path in (folder / "_build/html/book").glob("*.html")}


def test_without_addresses_there_is_no_trace_of_any(book_with_notebooks):
    pages = built_pages(book_with_notebooks)
    for text in pages.values():
        for trace in [trace for traces in TRACES.values() for trace in traces]:
            assert trace not in text
        assert not re.search(r"executablebooks/jupyter-book|your-|placeholder-url|example\.com", text)
    assert not (book_with_notebooks / "_build/html/sitemap.xml").exists()


def test_with_addresses_pages_offer_more(book_with_notebooks):
    pages = built_pages(book_with_notebooks, **PLACES)
    assert '<meta property="og:url" content="https://example.org/the-book/book/plain.html"' in pages["plain"]
    assert '<meta property="og:site_name" content="trainable == False: the book"' in pages["plain"]
    assert re.search(
        r'<meta property="og:image" content="https://example.org/the-book/_images/\S+\.png"', pages["plain"]
    )
    assert '<link rel="canonical" href="https://example.org/the-book/book/plain.html"' in pages["plain"]
    sitemap = (book_with_notebooks / "_build/html/sitemap.xml").read_text()
    assert "<loc>https://example.org/the-book/book/plain.html</loc>" in sitemap and "search.html" not in sitemap

    repository = PLACES["REPOSITORY_URL"]
    assert f'href="{repository}/edit/main/book/second.md"' in pages["second"]
    colab = "https://colab.research.google.com/github/someone/the-book/blob/main/book/{}.ipynb"
    binder = "https://mybinder.org/v2/gh/someone/the-book/main?urlpath=lab/tree/book/{}.ipynb"
    assert colab.format("plain") in pages["plain"] and "mybinder.org" not in pages["plain"]
    assert binder.format("package") in pages["package"] and "colab.research" not in pages["package"]
    assert "colab.research" not in pages["second"] and "mybinder.org" not in pages["second"]


@pytest.mark.parametrize("variable", PLACES)
def test_what_is_no_address_is_refused(small_book, variable):
    failed = make("book", folder=small_book, **{variable: "example"})
    assert failed.returncode != 0
    assert f"{variable}=example is not an address" in failed.stdout + failed.stderr


# ---- the zip ---------------------------------------------------------------------------------------------------------


def test_the_zip_of_the_book_runs_elsewhere(site, tmp_path):
    (archive,) = site.glob("_downloads/*/trainable-false-book.zip")
    zipfile.ZipFile(archive).extractall(tmp_path)
    book = tmp_path / "trainable-false-book"
    unpacked = {path.relative_to(book) for path in book.rglob("*") if path.is_file()}
    assert unpacked == set(sphinx_book_zip.files_of_the_book())  # all of it, and the same: so it builds as it does here
    assert [name for name in unpacked if (book / name).read_bytes() != (ROOT / name).read_bytes()] == []
    for name in ("README.md", "Makefile", "requirements.txt", ".ci/run", "book/01-kwargs-and-partial.ipynb"):
        assert pathlib.Path(name) in unpacked
    assert not any((book / name).exists() for name in (".git", ".venv", "_build"))

    (book / ".venv").symlink_to(ROOT / ".venv")
    notebook = json.loads((book / "templates/chapter.ipynb").read_text(encoding="utf-8"))
    cells = sum(cell["cell_type"] == "code" for cell in notebook["cells"])
    chapter = ["templates/chapter.ipynb", "-n", "0", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *chapter], cwd=book, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0 and re.search(rf"\b{cells} passed", ran.stdout), ran.stdout + ran.stderr
    # and it makes a zip in its turn, without git
    again = "import sphinx_book_zip; sphinx_book_zip.write_zip(None)"
    subprocess.run([sys.executable, "-c", again], cwd=book / "scripts", check=True)
    (second,) = book.glob("_build/trainable-false-book.zip")
    assert zipfile.ZipFile(second).namelist() == zipfile.ZipFile(archive).namelist()


# ---- outside links ---------------------------------------------------------------------------------------------------


class Answers(http.server.BaseHTTPRequestHandler):
    """A server whose answer is the number in the path."""

    def do_GET(self):
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *args):
        """Say nothing for each request."""


def test_links_that_answer_pass_and_dead_ones_fail(small_book):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = small_book / "book/second.md"
    (small_book / "book/references.bib").write_text("@misc{jax, title = {JAX}, author = {A}, year = {2018}}\n")
    whole = page.read_text()
    try:
        for codes, alive in (((200, 401), True), ((404, 410, 500), False)):
            addresses = [f"http://127.0.0.1:{server.server_port}/{code}" for code in codes]
            page.write_text(whole + "".join(f"\n[a link]({address})\n" for address in addresses))
            result = make("links", folder=small_book)
            assert (result.returncode == 0) == alive, result.stdout + result.stderr
            report = (small_book / "_build/links/_build/html/output.txt").read_text()
            assert all((address in report) != alive for address in addresses), report
    finally:
        server.shutdown()
