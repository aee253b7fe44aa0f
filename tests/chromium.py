"""A browser without a window, told what to do through a pipe (the Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess

NAMES = ["chromium", "chromium-browser", "google-chrome", "chrome"]
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"
).split()


def find():
    """The browser's program, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page; what it asked of the net and what went wrong in it are kept."""

    def __init__(self, program, profile):
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # The browser reads from 3 and writes to 4; plain sh takes no descriptor of two digits.
        command = [
            "bash",
            "-c",
            f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}',
            "bash",
            program,
            *QUIET,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.out, self.into = os.fdopen(ours_out, "wb", buffering=0), os.fdopen(ours_in, "rb")
        self.number = self.loads = 0
        self.rest = b""
        self.wrong, self.requests, self.downloaded = [], [], None
        self.session = None
        try:
            self.attach()
        except BaseException:
            self.close()
            raise

    def attach(self):
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Sends a command; returns its result. What happens meanwhile is noted."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        self.out.write(json.dumps(command).encode() + b"\0")
        while True:
            message = self.read()
            if message.get("id") == self.number:
                assert "error" not in message, (method, message)
                return message["result"]
            self.note(message)

    def read(self):
        while b"\0" not in self.rest:
            chunk = os.read(self.into.fileno(), 1 << 16)
            assert chunk, "the browser has gone"
            self.rest += chunk
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def note(self, message):
        method, said = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loads += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif method == "Browser.downloadProgress" and said["state"] != "inProgress":
            self.downloaded = said["state"]
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning")
        ):
            self.wrong.append(json.dumps(said))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.wrong.append(said["entry"]["text"])

    def open(self, address, size=(1400, 1000), media=()):
        """Opens a page, and waits until it says that it is ready."""
        self.visit(address, size, media)
        return self.run(
            """new Promise((done) => {
              const page = document.documentElement.dataset;
              const look = () => (page.ready ? done(page.ready) : requestAnimationFrame(look));
              look();
            })"""
        )

    def visit(self, address, size=(1400, 1000), media=()):
        """Opens any page, and waits until it is loaded."""
        self.wrong, self.requests = [], []
        self.ask("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in media])
        # From another page, so that a change behind # alone loads it anew.
        for url in ("about:blank", address):
            before = self.loads
            self.ask("Page.navigate", url=url)
            while self.loads == before:
                self.note(self.read())

    def until(self, condition):
        """Waits until it is true."""
        self.run(
            f"""new Promise((done) => {{
              const look = () => ({condition} ? done() : setTimeout(look, 20));
              look();
            }})"""
        )

    def run(self, script):
        """What the script's value is, when it is there."""
        result = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def drawn(self):
        """The timeline's account of what it has drawn, once nothing moves any more."""
        return self.run(
            """new Promise((done) => {
              const timeline = document.getElementById("timeline");
              let [last, same] = ["", 0];
              const look = () => {
                const now = JSON.stringify(timeline.dataset);
                same = now === last ? same + 1 : 0;
                last = now;
                if (same > 3 && timeline.dataset.drawn) done({ ...timeline.dataset });
                else requestAnimationFrame(look);
              };
              look();
            })"""
        )

    def press(self, key, code=None):
        text = key if len(key) == 1 else ""
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, code=code or key, text=text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, code=code or key)

    def mouse(self, kind, x, y, **more):
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def screenshot(self):
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def close(self):
        # Its process ends when the pipe does.
        self.out.close()
        self.into.close()
        self.process.wait(timeout=20)
