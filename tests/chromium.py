"""A real browser for the tests: Chromium without a window, which shows what a page has become."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

import pytest

DUMP_TIMEOUT_S = 120.0
VIRTUAL_MS = 15_000
"""Time on the page's own clock, which stands still while a request is under way, until the page is dumped."""


def page_in_browser(url: str, *names: str) -> str:
    """Return the HTML that the page at *url* has after its scripts have run; *names* resolve to 127.0.0.1."""
    binary = os.environ.get("LORRY_TEST_CHROMIUM") or shutil.which("chromium")
    if binary is None:
        pytest.fail("no chromium: `apt-get install chromium`, or set LORRY_TEST_CHROMIUM to its path", pytrace=False)
    with tempfile.TemporaryDirectory() as profile:
        command = [
            binary,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-proxy-server",
            "--disable-dev-shm-usage",
        ]
        command += [f"--user-data-dir={profile}", f"--virtual-time-budget={VIRTUAL_MS}"]
        command += ["--host-resolver-rules=" + ", ".join(f"MAP {name} 127.0.0.1" for name in names)]
        shown = subprocess.run(
            [*command, "--dump-dom", url], capture_output=True, text=True, timeout=DUMP_TIMEOUT_S, check=True
        )
    return shown.stdout
