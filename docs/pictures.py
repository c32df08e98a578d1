"""Make the pictures of the README.

    python docs/pictures.py --curves RUN    docs/images/curves.svg: a run's pseudo and real curves
    python docs/pictures.py --page RUN      docs/images/report.jpg: a run's whole report

Curves hold no image of a dataset. A page does, so it may come from the demo only, whose images are
rendered. The page needs Chromium.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pseudoval.data.files import write_bytes
from reports import write_report

IMAGES = Path(__file__).parent / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, TALLEST = 1280, 16000
COLUMNS, GAP = 3, 48
SHOWN_WIDTH = 1700
SLACK = 400
"""How far from an even cut a column may end, to end between two parts of the page."""


def make_curves(run: Path) -> Path:
    """``docs/images/curves.svg`` of a RUN."""
    with tempfile.TemporaryDirectory() as folder:
        report = write_report([run], Path(folder) / "report")
        picture = (report / "figures" / "figure6_curves.svg").read_bytes()
    write_bytes(IMAGES / "curves.svg", picture)
    return IMAGES / "curves.svg"


def make_page(run: Path) -> Path:
    """``docs/images/report.jpg``: the whole page of a RUN, cut into columns side by side."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as folder:
        report = write_report([run], Path(folder) / "report")
        shot = Path(folder) / "page.png"
        command = [browser, "--headless", "--disable-gpu", "--hide-scrollbars"]
        command += ["--no-sandbox"] if os.geteuid() == 0 else []
        command += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{TALLEST}"]
        command += ["--blink-settings=preferredColorScheme=1", f"--screenshot={shot}"]
        subprocess.run([*command, (report / "report.html").as_uri()], check=True, timeout=120,
                       capture_output=True)  # fmt: skip
        with Image.open(shot) as image:
            pixels = np.asarray(image.convert("RGB"))
    columns = cut(pixels)
    height = max(len(column) for column in columns)
    sheet = np.empty((height, COLUMNS * WIDTH + (COLUMNS - 1) * GAP, 3), dtype=np.uint8)
    sheet[:] = pixels[0, 0]
    for number, column in enumerate(columns):
        left = number * (WIDTH + GAP)
        sheet[: len(column), left : left + WIDTH] = column
    picture = Image.fromarray(sheet)
    small = picture.resize((SHOWN_WIDTH, round(SHOWN_WIDTH * picture.height / picture.width)))
    small.save(IMAGES / "report.jpg", quality=56, optimize=True)
    return IMAGES / "report.jpg"


def cut(pixels: np.ndarray) -> list[np.ndarray]:
    """A page ``[H, W, 3]`` in ``COLUMNS`` pieces, each ending in the middle of a blank stretch."""
    blank = (pixels == pixels[0, 0]).all(axis=(1, 2))
    end = int(np.flatnonzero(~blank)[-1]) + 1
    cuts = [0]
    for number in range(1, COLUMNS):
        aim = number * end // COLUMNS
        near = np.flatnonzero(blank[aim - SLACK : aim + SLACK]) + aim - SLACK
        runs = np.split(near, np.flatnonzero(np.diff(near) > 1) + 1)
        longest = max(runs, key=len)
        cuts.append(int(longest[len(longest) // 2]) if len(longest) else aim)
    return [pixels[top:bottom] for top, bottom in zip(cuts, [*cuts[1:], end], strict=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", type=Path, metavar="RUN")
    parser.add_argument("--page", type=Path, metavar="RUN")
    arguments = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    for run, make in ((arguments.curves, make_curves), (arguments.page, make_page)):
        if run is not None:
            made = make(run)
            print(f"{made}: {made.stat().st_size // 1000} kB")
