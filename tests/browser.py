"""A page in headless Chromium: what it shows, asks the network for and complains of."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROBE = Path(__file__).with_name("browser_probe.js")
QUIET = (
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)
# A window cannot be narrower than 500 pixels, so the page is looked at in a frame of its width.
FRAME = """<!DOCTYPE html>
<meta name="color-scheme" content="light dark">
<style>iframe {{ border: 0; width: {width}px; height: 900px }}</style>
<pre id="found"></pre>
<script>
addEventListener("message", (event) => {{
  document.getElementById("found").textContent = btoa(unescape(encodeURIComponent(event.data)));
}});
</script>
<iframe src="{page}"></iframe>
"""


def find_browser() -> str:
    """Path of a Chromium, or a skip that says how to get one."""
    for name in NAMES:
        path = shutil.which(name)
        if path:
            return path
    pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")


def look(page: Path, folder: Path, *, width: int, dark: bool) -> dict[str, Any]:
    """Load a copy of a page and say what ``browser_probe.js`` finds on it.

    Args:
        page: an HTML file, with a content security policy that lists its scripts by hash.
        folder: an empty folder to work in.
        width: of the viewport in CSS pixels.
        dark: whether the reader prefers a dark scheme.

    Returns:
        The findings of the probe, and ``console``: every line that the page put there, a refused
        request or a script error among them.
    """
    probe = PROBE.read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(probe.encode()).digest()).decode()
    text = page.read_text(encoding="utf-8")
    # The policy stays as it is but for letting the probe in.
    text, count = re.subn(r"script-src ", f"script-src 'sha256-{allowed}' ", text, count=1)
    assert count == 1, "the page has no policy for scripts"
    folder.mkdir(parents=True)
    (folder / "page.html").write_text(
        text.replace("</body>", f"<script>{probe}</script></body>"), encoding="utf-8"
    )
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width, page="page.html"), encoding="utf-8")
    command = [
        find_browser(),
        *QUIET,
        # Root has no sandbox, and containers often run as root.
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--window-size={max(width, 500)},1000",
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        frame.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="found">([^<]+)</pre>', done.stdout)
    assert found, f"the page did not answer: {done.stdout[-500:]} {done.stderr[-2000:]}"
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(base64.b64decode(found[1])), "console": console}
