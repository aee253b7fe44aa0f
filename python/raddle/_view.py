"""`raddle view`: a session's report in the browser.

The page works from the file itself, too. It is served because browsers give pages of files few rights, and because the trace beside it can be fetched.

Only this machine is answered (127.0.0.1), only requests that name it so (another site may have its name lead here), and only files that a session has.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import BinaryIO, NoReturn
from urllib.parse import quote, unquote, urlsplit

__all__ = ["view"]

PAGE = "report.html"

FILES = {
    PAGE: "text/html; charset=utf-8",
    "report.json": "application/json",
    "trace.perfetto": "application/octet-stream",
}
"""What is served of a session's directory, and as what."""


class ViewError(Exception):
    """There is nothing to show; the text says why, in one sentence."""


def view(session: str, port: int = 0, *, browser: bool = True) -> int:
    """Serves the report until Ctrl-C; returns the exit code."""
    try:
        page = find(Path(session))
        server = _serve(page, port)
    except ViewError as error:
        sys.stderr.write(f"raddle: {error}\n")
        return 1
    try:
        with server:
            _show(server, page, browser)
    except KeyboardInterrupt:
        # That is how it is meant to end.
        return 0


def _show(server: ThreadingHTTPServer, page: Path, browser: bool) -> NoReturn:
    address = f"http://127.0.0.1:{server.server_port}/{quote(page.name)}"
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    sys.stderr.write("Ctrl-C ends it\n")
    if browser:
        _open(address)
    # Not `serve_forever`, which wakes up twice a second to see whether it shall end.
    while True:
        server.handle_request()


def find(session: Path) -> Path:
    """The report of a session, by the name of its directory or of the report."""
    if session.is_dir():
        page = session / PAGE
        if page.is_file():
            return page
        others = sorted(other.parent.name for other in session.glob(f"*.raddle/{PAGE}"))
        hint = (
            f"hint: raddle view {session / others[0]}"
            if others
            else "hint: raddle run PROGRAM writes one when the program has ended"
        )
        raise ViewError(f"there is no report in {str(session)!r}; {hint}")
    if not session.exists():
        raise ViewError(
            f"there is no {str(session)!r}; hint: name the directory that raddle run has printed, PROGRAM.raddle"
        )
    if session.is_file() and session.suffix == ".html":
        return session
    raise ViewError(f"{str(session)!r} is no report; hint: name the directory that it is in, or the {PAGE} in it")


def _serve(page: Path, port: int) -> ThreadingHTTPServer:
    try:
        server = _Server(("127.0.0.1", port), partial(_Handler, page))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ViewError(
            f"cannot listen on port {port}: {why}; hint: leave --port out to get one that is free"
        ) from error
    return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # Without asking the net what 127.0.0.1 is called, which can take long.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of one session."""

    server_version = "raddle"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def __init__(self, page: Path, *arguments: object) -> None:
        self.page = page
        super().__init__(*arguments)  # type: ignore[arg-type]  # what the server hands over

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        if not self._is_for_us():
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", f"/{quote(self.page.name)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        kind = FILES[PAGE] if path == f"/{self.page.name}" else FILES.get(path[1:])
        file = self._open_file(path[1:]) if kind else None
        if kind is None or file is None:
            return self._refuse(HTTPStatus.NOT_FOUND)
        with file:
            size = os.fstat(file.fileno()).st_size
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(size))
            self.send_header("Cache-Control", "no-cache")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.end_headers()
            # What is written to it meanwhile is not sent: the length has been said.
            while with_body and size > 0 and (chunk := file.read(min(size, 1 << 18))):
                self.wfile.write(chunk)
                size -= len(chunk)
            if with_body and size > 0:
                self.close_connection = True
        return None

    def _open_file(self, name: str) -> BinaryIO | None:
        # A link could lead out of the directory, and a pipe make us wait.
        path = self.page.parent / name
        try:
            if path.is_symlink() or not path.is_file():
                return None
            return path.open("rb")
        except (OSError, ValueError):  # a name with a zero byte is none
            return None

    def _is_for_us(self) -> bool:
        """Whether the browser means us: with another host it has been led here by a name that someone else controls."""
        port = self.connection.getsockname()[1]
        return self.headers.get_all("Host") in ([f"127.0.0.1:{port}"], [f"localhost:{port}"])

    def _refuse(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # what it overrides has it
        """Nothing: who looks at a report does not want a log."""


def _open(address: str) -> None:
    import webbrowser

    try:
        is_open = webbrowser.open(address)
    except webbrowser.Error:
        is_open = False
    if not is_open:
        sys.stderr.write("no browser could be opened: open the address yourself\n")
