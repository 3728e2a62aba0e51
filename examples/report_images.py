"""Screenshots of reports for docs/report.md: opens a page in headless Chromium and presses keys.

    python examples/report_images.py runs/weather-1/report.html weather.png --dark --keys "Enter u"

Needs playwright and an installed Chromium or Chrome. Colours are reduced to 256, which keeps files small.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def picture(page_file: Path, keys: list[str], dark: bool, width: int, height: int) -> bytes:
    """The page as a PNG after the ``keys`` have been pressed."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        size = {"width": width, "height": height}
        page = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
        page.goto(page_file.resolve().as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_timeout(1500)  # the flow runs on
        taken = page.screenshot()
        browser.close()
    return taken


def main() -> None:
    """Read the arguments, take the picture, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--keys", default="", help="separated by spaces, as Playwright names them")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1280x900", help="in pixels")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    taken = picture(given.page, given.keys.split(), given.dark, width, height)
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(
        given.picture, optimize=True
    )


if __name__ == "__main__":
    main()
