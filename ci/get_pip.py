"""Installs pip into the environment whose Python runs this, for interpreters that come without ensurepip.

Debian keeps ensurepip in a package of its own, so a machine with nothing but `python3` cannot fill an environment.
The wheel is found on the package index that PIP_INDEX_URL names, must have the hash below, and installs itself. Without that
variable the caller says which package to install instead.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

WHEEL = "pip-26.3-py3-none-any.whl"
SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"


def fetch(url: str) -> bytes:
    """The body at an https address."""
    context = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
    with urllib.request.urlopen(url, timeout=60, context=context) as answer:
        body: bytes = answer.read()
    return body


def main() -> None:
    """Finds the wheel, checks it, lets it install itself."""
    base = os.environ.get("PIP_INDEX_URL")
    if not base:
        raise SystemExit("error: this Python has no ensurepip, and PIP_INDEX_URL names no index to take pip from")
    index = base.rstrip("/") + "/pip/"
    link = re.search(rf'href="([^"]*{re.escape(WHEEL)}[^"]*)"', fetch(index).decode())
    if link is None:
        raise SystemExit(f"error: {index} does not offer {WHEEL}")
    body = fetch(urllib.parse.urljoin(index, link[1]))
    if hashlib.sha256(body).hexdigest() != SHA256:
        raise SystemExit(f"error: {WHEEL} from {index} does not have the expected hash")
    with tempfile.TemporaryDirectory() as directory:
        wheel = Path(directory, WHEEL)
        wheel.write_bytes(body)
        # A wheel is a zip file that Python can import from; its own pip installs it.
        command = [
            sys.executable,
            f"{wheel}/pip",
            "install",
            "--quiet",
            "--no-index",
            "--disable-pip-version-check",
            str(wheel),
        ]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
