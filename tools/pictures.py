"""Draws the pictures of README.md and docs/ with the present package: ``make pictures``.

    python tools/pictures.py                         all whose data the checkout holds
    python tools/pictures.py doctor report-adding    these
    python tools/pictures.py --data FOLDER           all; FOLDER holds two more files, see FROM_DATA

Screenshots need playwright and an installed Chromium or Chrome. All pictures take about ten minutes on two
idle cores. Two pictures are made elsewhere: ``undertow classics`` draws docs/images/classics.png with its
table, and docs/images/tile.svg is drawn by hand.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LARGEST = 300_000  # bytes of a picture
COMPUTED = "undertow.at.from.kind === 'loss' || undertow.flows.every((flow) => flow.done || flow.why)"


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", nargs="*", help=", ".join(PICTURES | FROM_DATA))
    parser.add_argument("--data", type=Path, help="folder with the files that the checkout does not hold")
    given = parser.parse_args()
    known = PICTURES | (FROM_DATA if given.data else {})
    for name in given.picture or known:
        if name not in known:
            parser.error(f"expected {', '.join(known)}, got {name}")
        print(name, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            known[name](*([given.data.resolve()] if name in FROM_DATA else []))
            os.chdir(ROOT)
    for path in IMAGES.glob("*.png"):
        if path.stat().st_size > LARGEST:
            sys.exit(f"{path} has {path.stat().st_size:,} bytes; expected at most {LARGEST:,}")


def plots() -> None:
    """The gallery of docs/plots.md."""
    run(ROOT / "examples" / "plots_gallery.py", IMAGES)


def gradient_flow() -> None:
    """The figures of docs/gradient-flow.md, and the numbers of its tables."""
    run(ROOT / "examples" / "gradient_flow.py", IMAGES)


def adding() -> None:
    """The demo's picture, in README.md."""
    undertow("demo")
    shutil.copy("demo/adding.png", IMAGES)


def report_adding() -> None:
    """The demo's report, with a longer lag."""
    undertow("demo --lag 500 --steps 3000")
    screenshot("demo/report.html", "report-adding.png", height=1480)


def doctor() -> None:
    """The doctor's page on a network that cannot learn its task."""
    undertow("train two-sequence --init torch --quiet")
    undertow("doctor runs/two-sequence-1")
    screenshot("runs/two-sequence-1/doctor.html", "doctor.png", width=960, height=1315)


def evaluation() -> None:
    """What ``undertow evaluate --picture`` draws of the panel and of the labels per step of the guides."""
    examples = ROOT / "examples" / "data"
    undertow(
        f"train {examples}/sales.csv --target sold --group store --group item --known promo --known holiday "
        f"--horizon 14 --embed-group --quiet --folder sales"
    )
    undertow(f"evaluate sales --picture {IMAGES}/evaluation-forecast.png --overwrite")
    undertow(
        f"train {examples}/activity.csv --sequence person --time seconds --label state --quiet "
        f"--folder activity"
    )
    undertow(f"evaluate activity --picture {IMAGES}/evaluation-labels.png --overwrite")
    for path in IMAGES.glob("evaluation-*.png"):
        Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def report_text(data: Path) -> None:
    """A report on language models."""
    train = f"train {data}/tinyshakespeare.txt --num-layers 1 --hidden-size 128 --epochs 2 --quiet"
    undertow(f"{train} --folder text")
    undertow(f"{train} --folder text-rnn --cell rnn --lr 1e-3")
    undertow("inspect text --compare text-rnn")
    screenshot("text/report.html", "report-text.png", height=1060)


def report_weather(data: Path) -> None:
    """A report on forecasts, in the dark: how one unit depends on the days before."""
    train = f"train {data}/seattle-weather.csv --target temp_max --quiet"
    undertow(f"{train} --folder weather")
    undertow(f"{train} --folder weather-rnn --cell rnn")
    undertow("inspect weather --compare weather-rnn")
    keys = ["ArrowLeft"] * 5 + ["u"]
    screenshot("weather/report.html", "report-weather.png", keys=keys, dark=True, height=960)


def forecast_interval(data: Path) -> None:
    """Forecasts of one day ahead with their intervals."""
    import polars as pl
    from matplotlib.dates import ConciseDateFormatter
    from matplotlib.figure import Figure

    from undertow.palette import BLUE, INK

    undertow(f"train {data}/seattle-weather.csv --target temp_max --quiet --folder weather")
    undertow(f"predict weather {data}/seattle-weather.csv --output predictions.parquet")
    table = pl.read_parquet("predictions.parquet").drop_nulls("truth").tail(120)
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    days = table["date"].to_numpy()
    axes.fill_between(days, table["lower"], table["upper"], color=BLUE, alpha=0.2, lw=0, label="90% interval")
    axes.plot(days, table["prediction"], color=BLUE, lw=2, label="forecast")
    axes.plot(days, table["truth"], "o", color=INK, ms=2.5, label="truth")
    axes.set(ylabel="temp_max, °C")
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderpad=0)
    figure.savefig(IMAGES / "forecast-interval.png", dpi=130)


PICTURES = {
    "plots": plots,
    "gradient-flow": gradient_flow,
    "adding": adding,
    "doctor": doctor,
    "report-adding": report_adding,
    "evaluation": evaluation,
}
# tinyshakespeare.txt and seattle-weather.csv
FROM_DATA = {
    "report-text": report_text,
    "report-weather": report_weather,
    "forecast-interval": forecast_interval,
}


def undertow(arguments: str) -> None:
    """Run a command of undertow, in the folder in which the picture is made."""
    run("-m", "undertow", *arguments.split())


def run(*arguments: str | Path) -> None:
    """Run Python; what it prints is shown."""
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


def screenshot(
    page: str, name: str, *, keys: list[str] | None = None, dark: bool = False, width: int = 1280, height: int
) -> None:
    """Photograph a page after some keys were pressed, in 256 colours, which keeps the file small."""
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        size = {"width": width, "height": height}
        opened = browser.new_page(viewport=size, color_scheme="dark" if dark else "light")
        opened.goto(Path(page).resolve().as_uri())
        if "report" in page:
            opened.wait_for_selector("html[data-ready]", state="attached")
        for key in keys or []:
            opened.keyboard.press(key)
        if "report" in page:  # the gradient is computed in pieces
            opened.wait_for_function(COMPUTED, timeout=120_000)
        opened.wait_for_timeout(1000)
        taken = opened.screenshot()
        browser.close()
    found = Image.open(io.BytesIO(taken)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    found.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main()
