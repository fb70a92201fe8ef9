"""The built pages, read as files: links, anchors, alt text, and nothing from another host."""

import copy
import json
import pathlib
import re
import urllib.parse

import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = pathlib.Path(__file__).parents[1]
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}


def pages(site):
    """{path: parsed page} of every page of the book."""
    paths = sorted(site.glob("book/*.html"))
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in paths}


@pytest.fixture(scope="module")
def book(site):
    return pages(site)


def broken_links(book):
    """Links to pages, files or anchors of the site that are not there."""
    anchors = {path.resolve(): {tag["id"] for tag in page.find_all(id=True)} for path, page in book.items()}
    for path, page in book.items():
        for link in page.find_all("a", href=True):
            target = urllib.parse.urlsplit(link["href"])
            if target.scheme or target.netloc:
                continue
            file = (path.parent / urllib.parse.unquote(target.path)).resolve() if target.path else path.resolve()
            if not file.exists():
                yield f"{path.name}: {link['href']}"
            elif target.fragment and file in anchors and target.fragment not in anchors[file] | {"", "top"}:
                yield f"{path.name}: no anchor {link['href']}"


def images_without_alt(book):
    for path, page in book.items():
        for image in page.find_all("img"):
            alt = image.get("alt", "")
            if not alt.strip() or alt.endswith((".png", ".svg", ".jpg")):
                yield f"{path.name}: {image['src']}"


def from_elsewhere(book):
    """What a page would load from another host when it is opened."""
    for path, page in book.items():
        for tag, attribute in LOADED.items():
            for element in page.find_all(tag, {attribute: re.compile(r"^(https?:)?//")}):
                if element.get("rel") not in (["canonical"],):
                    yield f"{path.name}: {element[attribute]}"
        for script in page.find_all("script", src=False):
            if re.search(r"https?://", script.text):
                yield f"{path.name}: a script that names another host"


def breaks_in_the_chain(book):
    """Pages whose next or previous link does not lead to their neighbour in the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    names = [pathlib.PurePath(file).name for file in (toc["root"], *parts)]
    pages = {path.stem: page for path, page in book.items()}
    for before, name, after in zip([None, *names], names, [*names[1:], None], strict=False):
        for direction, wanted in (("left-prev", before), ("right-next", after)):
            link = pages[name].select_one(f"a.{direction}")
            leads_to = link and pathlib.PurePath(link["href"]).stem
            if leads_to != wanted:
                yield f"{name}: {direction} leads to {leads_to}, not to {wanted}"


def other_menus(book):
    """Pages whose menu of all pages is not that of the first page."""
    menus = {
        path.name: [
            ((path.parent / link["href"].partition("#")[0]).resolve() if link["href"] != "#" else path, link.get_text())
            for link in page.select(".bd-sidebar-primary nav a[href]")
        ]
        for path, page in book.items()
    }
    first = next(iter(menus.values()))
    yield from (name for name, menu in menus.items() if len(menu) < len(book) - 1 or menu != first)


def notebooks_not_offered(book):
    """Chapters whose download button does not lead to the chapter's notebook, as it is."""
    for notebook in ROOT.glob("book/*.ipynb"):
        path, page = next((path, page) for path, page in book.items() if path.stem == notebook.stem)
        link = page.select_one("a.btn-download-source-button")
        file = path.parent / urllib.parse.unquote(link["href"]) if link else None
        if not file or not file.is_file() or json.loads(file.read_bytes()) != json.loads(notebook.read_bytes()):
            yield notebook.name


CHECKS = [breaks_in_the_chain, other_menus, notebooks_not_offered, broken_links, images_without_alt, from_elsewhere]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_site(book, check):
    assert len(book) >= 8, "there are probably pages that were not built"
    assert list(check(book)) == []


@pytest.mark.parametrize(
    ("check", "planted"),
    [
        (broken_links, '<a href="nowhere.html">x</a>'),
        (broken_links, '<a href="#nowhere">x</a>'),
        (broken_links, '<a href="glossary.html#nowhere">x</a>'),
        (images_without_alt, '<img src="a.png" alt="../_images/a.png">'),
        (images_without_alt, '<img src="a.png">'),
        (from_elsewhere, '<script src="https://host/a.js"></script>'),
        (from_elsewhere, '<link rel="stylesheet" href="//host/a.css">'),
        (from_elsewhere, "<script>var x = 'https://host/thebe.js'</script>"),
    ],
)
def test_planted_fault_is_found(book, check, planted):
    path, page = next(iter(book.items()))
    page = copy.copy(page)
    page.body.append(BeautifulSoup(planted, "html.parser"))
    assert len(list(check({**book, path: page}))) == 1


@pytest.mark.parametrize(
    ("check", "selector", "href"),
    [
        (breaks_in_the_chain, "a.right-next", "glossary.html"),
        (breaks_in_the_chain, "a.left-prev", None),
        (notebooks_not_offered, "a.btn-download-source-button", "../_sources/book/01-kwargs-and-partial.ipynb"),
        (notebooks_not_offered, "a.btn-download-source-button", "nowhere.ipynb"),
        (other_menus, ".bd-sidebar-primary nav a", "nowhere.html"),
        (other_menus, ".bd-sidebar-primary nav a", None),
    ],
)
def test_wrong_link_is_found(book, check, selector, href):
    path = next(path for path in book if path.stem == "02-the-caveat")
    page = copy.copy(book[path])
    link = page.select_one(selector)
    if href is None:
        link.decompose()
    else:
        link["href"] = href
    assert len(list(check({**book, path: page}))) == 1


def test_versions_on_the_front_page_come_from_the_lock(book, site):
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    text = book[site / "book" / "index.html"].get_text()
    for name in ("jax", "flax", "optax", "numpy", "matplotlib"):
        assert f"{name} {re.search(rf'^{name}==([^ ]+)', lock, re.MULTILINE)[1]}" in text


def test_maths_comes_with_the_site(site):
    page = (site / "book" / "01-kwargs-and-partial.html").read_text(encoding="utf-8")
    source = re.search(r'src="([^"]*mathjax/tex-svg\.js)[^"]*"', page)[1]
    assert (site / "book" / source).resolve().stat().st_size > 1_000_000
