"""The site in a real browser: every page, light and dark, desktop and phone.

`audit` lists what is wrong with a page. The end of this file serves pages with planted faults, and expects each one
to be found. Without a Chromium on the PATH these tests are skipped, with REQUIRE_BROWSER=1 that is an error.
"""

import functools
import gzip
import http.server
import json
import os
import pathlib
import threading
import urllib.parse

import axe_playwright_python
import notebooks
import pytest
import yaml
from playwright.sync_api import sync_playwright
from shots import WIDTHS, find_chromium

ROOT = pathlib.Path(__file__).parents[1]
HOW_TO_GET_ONE = "no Chromium on the PATH (Debian, Ubuntu: apt install chromium; macOS: brew install chromium)"
# Its own network activity is quiet: the browser asks for nothing but the page.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
AXE = pathlib.Path(axe_playwright_python.__file__).with_name("axe.min.js")
PAGES = [
    page["file"]
    for part in [{"chapters": [{"file": "book/index"}]}, *yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]]
    for page in part["chapters"]
]


@pytest.fixture(scope="module")
def browser():
    path = find_chromium()
    if path is None:
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip)(HOW_TO_GET_ONE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing for each request."""


def serve(folder):
    """Serve a folder on localhost in a thread; the server, whose `address` is its origin."""
    handler = functools.partial(QuietHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    return server


@pytest.fixture(scope="module")
def origin(site):
    server = serve(site)
    yield server.address
    server.shutdown()


def new_page(browser, scheme="light", width="desktop"):
    viewport = {"width": WIDTHS[width], "height": 900}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    context.set_default_timeout(10_000)
    return context.new_page()


# ---- what is looked for on every page --------------------------------------------------------------------------------

# Presses of Tab are recorded in the page itself: which element had the focus, and whether that could be seen.
RECORD_FOCUS = """() => {
  const top = document.createElement('span');  // the first Tab starts from the top of the page
  top.tabIndex = -1;
  document.body.prepend(top);
  top.focus();
  top.remove();
  const look = e => { const s = getComputedStyle(e); return [s.outlineStyle, s.outlineWidth, s.boxShadow,
    s.backgroundColor, s.textDecorationLine, s.textDecorationThickness, s.borderColor].join(); };
  const visible = e => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0
    && !e.closest('[inert]') && !e.closest('dialog:not([open])');
  window.visible = visible;
  const wanted = [...document.querySelectorAll('a[href], button, input, summary, select, [tabindex="0"]')]
    .filter(e => visible(e) && e.tabIndex >= 0 && !e.disabled);
  window.unfocused = new Map(wanted.map(e => [e, look(e)]));
  window.invisible = new Set();
  document.addEventListener('focusin', event => {
    const e = event.target;
    if (window.unfocused.has(e)) {
      if (window.unfocused.get(e) === look(e)) window.invisible.add(e);
      window.unfocused.delete(e);
    }
  });
  return wanted.length;
}"""
DESCRIBE = "e => e.outerHTML.slice(0, 120)"


def keyboard_faults(page):
    """Elements that Tab does not reach, or whose focus cannot be seen."""
    wanted = page.evaluate(RECORD_FOCUS)
    for pressed in range(3 * wanted + 50):  # more than wanted: wide blocks of code take the focus too, to be scrolled
        page.keyboard.press("Tab")
        if pressed % 10 == 0 and page.evaluate("[...unfocused.keys()].filter(visible).length") == 0:
            break
    for fault, found in (
        ("Tab does not reach", "[...unfocused.keys()].filter(visible)"),
        ("focus cannot be seen on", "[...invisible]"),
    ):
        yield from (f"{fault} {element}" for element in page.evaluate(f"{found}.map({DESCRIBE})"))


def axe_faults(page):
    """What axe-core finds, as rule and first element."""
    page.evaluate("document.activeElement.blur()")
    page.wait_for_function("!document.querySelector('.tooltip')")  # of the button that had the focus
    page.evaluate(AXE.read_text(encoding="utf-8"))
    # preload would fetch style sheets a second time, by addresses of axe's own making
    run = "axe.run({preload: false, resultTypes: ['violations']}).then(result => result.violations)"
    for violation in page.evaluate(run):
        yield f"axe: {violation['id']} at {violation['nodes'][0]['target']}"


def layout_faults(page):
    """Horizontal scroll, maths that did not render, figures that did not load."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        yield f"scrolls sideways by {wide} px"
    raw, drawn = page.locator(".math").count(), page.locator(".math mjx-container svg").count()
    if drawn < raw:
        yield f"{raw - drawn} formulas of {raw} are not drawn"
    for source in page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"):
        yield f"image not loaded: {source}"


def open_and_listen(page, address):
    """Open an address; a list that fills with what goes wrong on the network and in the console."""
    faults = []
    origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(address))

    def on_request(request):
        if not request.url.startswith((origin, "data:", "blob:")):
            faults.append(f"request to another origin: {request.url}")

    def on_console(message):
        if message.type in ("error", "warning"):
            faults.append(f"console: {message.text}")

    page.on("request", on_request)
    page.on("requestfailed", lambda request: faults.append(f"request failed: {request.url}"))
    page.on("response", lambda answer: None if answer.ok else faults.append(f"{answer.status}: {answer.url}"))
    page.on("console", on_console)
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    page.goto(address, wait_until="load")
    if page.locator(".math").count():
        page.wait_for_function("window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("MathJax.startup.promise.then(() => null)")
    return faults


def audit(page, address):
    """Everything that is wrong with a page, at both widths."""
    faults = open_and_listen(page, address)
    found = []
    for name, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("Promise.all(document.getAnimations().map(animation => animation.finished)).then(() => null)")
        found += [f"{name}: {fault}" for fault in layout_faults(page)]
        found += [f"{name}: {fault}" for fault in keyboard_faults(page)]
    page.set_viewport_size({"width": WIDTHS["desktop"], "height": 900})
    found += faults  # before axe, which makes requests of its own
    return found + list(axe_faults(page))


class EveryPage:
    """Two classes, so that the two test processes share the work."""

    @pytest.mark.parametrize("name", PAGES)
    def test_page(self, browser, origin, name):
        page = new_page(browser, self.scheme)
        assert audit(page, f"{origin}/{name}.html") == []
        assert page.evaluate("document.documentElement.dataset.theme") == self.scheme
        page.context.close()


class TestLight(EveryPage):
    scheme = "light"


class TestDark(EveryPage):
    scheme = "dark"


# ---- what a reader does ----------------------------------------------------------------------------------------------


def test_next_and_previous_lead_through_the_book(browser, origin):
    page = new_page(browser)
    page.goto(f"{origin}/index.html")
    page.wait_for_url("**/book/index.html")
    for direction, pages in (("right-next", PAGES), ("left-prev", PAGES[::-1])):
        for name in pages[1:]:
            page.locator(f"a.{direction}").click()
            page.wait_for_url(f"**/{name}.html")
        assert page.locator(f"a.{direction}").count() == 0
    page.context.close()


CHAPTERS = [name for name in PAGES if (ROOT / f"{name}.ipynb").exists()]


def test_search_finds_each_chapter_by_its_title(browser, origin):
    page = new_page(browser)
    for name in CHAPTERS:
        page.goto(f"{origin}/{name}.html")
        title = page.locator("h1").first.inner_text().rstrip("#").strip()
        page.goto(f"{origin}/book/index.html")
        page.keyboard.press("Control+K")
        page.locator("#pst-search-dialog input[type=search]").fill(title)
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?*")
        page.locator(f"#search-results a[href*='{pathlib.PurePath(name).name}.html']").first.wait_for()
    page.goto(f"{origin}/search.html?q=wordthatisnotinthebook")
    page.get_by_text("did not match any documents").wait_for()
    page.context.close()


@pytest.mark.parametrize("name", [name for name in CHAPTERS if "00-" not in name])
def test_solutions_unfold(browser, origin, name):
    page = new_page(browser)
    page.goto(f"{origin}/{name}.html")
    solutions = page.locator("div.solution.dropdown")
    assert solutions.count() >= 1
    for number in range(solutions.count()):
        solution = solutions.nth(number)
        code = solution.locator("div.highlight").first
        assert not code.is_visible()
        solution.locator("button.toggle-button").click()
        code.wait_for(state="visible")
    for number in range(page.locator("details.hide").count()):
        details = page.locator("details.hide").nth(number)
        assert not details.locator("div.highlight").first.is_visible()
        details.locator("summary").click()
        details.locator("div.highlight").first.wait_for(state="visible")
    page.context.close()


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_notebook_downloads_and_is_the_notebook(browser, origin, name):
    page = new_page(browser)
    page.goto(f"{origin}/{name}.html")
    address = page.locator("a.btn-download-source-button").first.get_attribute("href")
    response = page.request.get(urllib.parse.urljoin(page.url, address))
    assert response.ok and response.json() == json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))
    page.context.close()


def test_a_page_opened_from_disk_reads_well(browser, site):
    page = new_page(browser)
    faults = open_and_listen(page, (site / "book" / "01-kwargs-and-partial.html").as_uri())
    assert page.locator(".math").count() > 0
    assert list(layout_faults(page)) == []
    assert [fault for fault in faults if "another origin" in fault or "script error" in fault] == []
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_first_load_is_light(browser, origin, site, name):
    page = new_page(browser)
    answers = []
    page.on("response", lambda response: answers.append(response.url))
    page.goto(f"{origin}/{name}.html", wait_until="networkidle")
    has_maths = page.locator(".math").count() > 0
    page.context.close()
    assert compressed(answers, origin, site) < (1_200_000 if has_maths else 800_000)


def compressed(addresses, origin, site):
    """Bytes of all these files of the site, as a server that compresses would send them."""
    files = {site / urllib.parse.urlsplit(address).path.lstrip("/") for address in addresses if origin in address}
    return sum(len(gzip.compress(file.read_bytes())) for file in files if file.is_file())


# ---- each check can fail ---------------------------------------------------------------------------------------------

GOOD = """<!doctype html><html lang="en"><head><title>A page</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width"></head>
<body><main><h1>A page</h1><p>Text and <a href="#top">a link</a></p>{}</main></body></html>"""
PLANTED = {
    "request to another origin": "<script src='http://localhost:9/a.js'></script>",
    "request failed": "<img alt='x' src='http://127.0.0.1:9/a.png'>",
    "404": "<script src='missing.js'></script>",
    "console": "<script>console.error('no')</script>",
    "script error": "<script>throw new Error('no')</script>",
    "desktop: scrolls sideways": "<div style='width: 2000px'>wide</div>",
    "phone: scrolls sideways": "<div style='width: 600px'>wide on a phone</div>",
    "formulas of 1 are not drawn": "<script>MathJax = {startup: {promise: Promise.resolve()}}</script>"
    "<span class='math'>x</span>",
    "image not loaded": "<img alt='x' src='missing.png'>",
    "axe: color-contrast": "<p style='color: #ccc; background: #fff'>pale</p>",
    "axe: image-alt": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>",
    "Tab does not reach": "<button onfocus='this.disabled = true'>a</button><p hidden></p>"
    "<button id='b'>b</button><script>document.addEventListener('keydown', e => e.preventDefault())</script>",
    "focus cannot be seen": "<style>a:focus { outline: none }</style>",
}


def test_a_good_page_has_no_fault(browser, tmp_path):
    (tmp_path / "page.html").write_text(GOOD.format(""))
    server = serve(tmp_path)
    assert audit(new_page(browser), f"{server.address}/page.html") == []
    server.shutdown()


@pytest.mark.parametrize("message", PLANTED)
def test_planted_fault_is_found(browser, tmp_path, message):
    (tmp_path / "page.html").write_text(GOOD.format(PLANTED[message]))
    server = serve(tmp_path)
    faults = audit(new_page(browser), f"{server.address}/page.html")
    server.shutdown()
    assert any(message in fault for fault in faults), faults


def test_a_heavy_load_is_counted(tmp_path):
    (tmp_path / "a.bin").write_bytes(os.urandom(1_300_000))
    assert compressed(["http://h/a.bin", "http://h/a.bin"], "http://h", tmp_path) > 1_200_000


def test_every_chapter_is_among_the_pages():
    book = {f"book/{path.stem}" for path in notebooks.all_notebooks() if path.parent.name == "book"}
    assert book == set(CHAPTERS)
