"""A Sphinx extension: what a page can offer only when it is known where the site and its repository live.

BOOK_URL         the address of the built site: canonical links, social cards, a sitemap
REPOSITORY_URL   the address of the repository: edit and repository buttons, Colab, Binder

Both are environment variables, and without them none of these appears, and no placeholder either.
"""

import os
import urllib.parse

from sphinx.errors import ConfigError
from sphinx_package import imports_the_package


def address(variable):
    """The value of an environment variable that must be an address; None if it is not set."""
    value = os.environ.get(variable, "").strip()
    if not value:
        return None
    parts = urllib.parse.urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{variable}={value} is not an address. Give one such as https://example.org/book/, or none.")
    return value.rstrip("/")


def configure(app, config):
    book, repository = address("BOOK_URL"), address("REPOSITORY_URL")
    if book:
        config.html_baseurl = f"{book}/"
        config.ogp_site_url = f"{book}/"
        config.ogp_site_name = config.html_title
        config.ogp_social_cards = {"font": "DejaVu Sans"}  # comes with matplotlib
        config.sitemap_url_scheme = "{link}"
        config.sitemap_excludes = ["search.html", "genindex.html"]
    if repository:
        config.html_theme_options.update(
            repository_url=repository,
            repository_branch="main",
            path_to_docs="",
            use_repository_button=True,
            use_edit_page_button=True,
            launch_buttons={
                "notebook_interface": "jupyterlab",
                "colab_url": "https://colab.research.google.com",
                "binderhub_url": "https://mybinder.org",
            },
        )


def choose_launch_button(app, pagename, templatename, context, doctree):
    """Colab for a notebook that needs nothing but what Colab has; Binder for one that imports the book's package."""
    path = app.srcdir / f"{pagename}.ipynb"
    if not path.exists():
        return
    other = "colab" if imports_the_package(path) else "binder"
    for group in context.get("header_buttons", []):
        if isinstance(group.get("buttons"), list):
            group["buttons"] = [button for button in group["buttons"] if other not in str(button.get("text")).lower()]


def setup(app):
    if address("BOOK_URL"):
        app.setup_extension("sphinxext.opengraph")
        app.setup_extension("sphinx_sitemap")
    app.connect("config-inited", configure, priority=100)
    app.connect("html-page-context", choose_launch_button, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
