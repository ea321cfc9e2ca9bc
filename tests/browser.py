"""Pages in a browser without a screen, for the tests that look at one."""

import pathlib
import re
import shutil
import subprocess

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATIENCE = 120


def shown(page, folder, script="", width=1200):
    """The elements of a page, as text, when it has been shown and a script has run.

    Args:
        page: the path of the file.
        folder: an empty one to work in.
        script: JavaScript, run when the page is drawn; may leave what it finds in
            `document.documentElement.dataset`.
        width: of the window in pixels, 500 at least.
    """
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    text = pathlib.Path(page).read_text()
    if script:
        script = f"addEventListener('load', () => {{ {script} }});"
        text = text.replace("</head>", f"<script>{script}</script></head>")
    copy = folder / "shown.html"
    copy.write_text(text)
    found = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={width},900",
            "--virtual-time-budget=2000",
            "--dump-dom",
            copy.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def left(elements, name):
    """What a script left in the root's dataset under a name of one word, or None."""
    match = re.search(rf'<html[^>]*\sdata-{name}="([^"]*)"', elements)
    return match and match.group(1)
