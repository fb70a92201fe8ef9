"""Take a picture of every page, light and dark, desktop and phone, into _build/shots, to be looked at."""

import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

ROOT = pathlib.Path(__file__).parents[1]
SITE, SHOTS = ROOT / "_build" / "html" / "book", ROOT / "_build" / "shots"
WIDTHS = {"desktop": 1280, "phone": 390}


def find_chromium():
    """The path of the system's Chromium, or None."""
    return next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)


def main():
    chromium = find_chromium()
    if chromium is None:
        sys.exit("shots: no Chromium on the PATH. Install one (Debian, Ubuntu: apt install chromium) and try again.")
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for name, width in WIDTHS.items():
                viewport = {"width": width, "height": 900}
                page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
                for path in sorted(SITE.glob("*.html")):
                    page.goto(path.as_uri(), wait_until="networkidle")
                    page.screenshot(path=SHOTS / f"{path.stem}-{scheme}-{name}.png", full_page=True)
        browser.close()
    print(f"Pictures of {len(list(SITE.glob('*.html')))} pages are in {SHOTS.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
