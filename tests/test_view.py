"""`raddle view` serves the report of a session to this machine, and nothing else to anybody."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

PATIENCE = 40
RADDLE = [sys.executable, "-m", "raddle", "view"]


@pytest.fixture
def session(tmp_path):
    """A session's directory, with a file beside the session's own, and one outside."""
    directory = tmp_path / "crawler.raddle"
    directory.mkdir()
    (directory / "report.html").write_text("<!doctype html><title>it is me</title>")
    (directory / "trace.perfetto").write_bytes(bytes(range(256)) * 4096)
    (directory / "ring-1").write_text("not for the browser")
    (tmp_path / "secret").write_text("secret")
    return directory


class Viewer:
    def __init__(self, process):
        self.process = process
        self.address = urlsplit(process.stdout.readline().strip())

    def ask(self, path, method="GET", host=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name in [f"127.0.0.1:{self.address.port}"] if host is None else host:
                connection.putheader("Host", name)
            connection.endheaders()
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()


@pytest.fixture
def serve():
    """Starts `raddle view`; ends it with Ctrl-C, and looks how it ended."""
    running = []

    def serve(*words):
        command = [*RADDLE, *map(str, words), "--no-browser"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        running.append(process)
        return Viewer(process)

    yield serve
    for process in running:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
        assert "Traceback" not in said


def test_it_serves_the_report_and_what_belongs_to_it(serve, session):
    viewer = serve(session)
    assert viewer.address.hostname == "127.0.0.1"
    response, body = viewer.ask(viewer.address.path)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body == (session / "report.html").read_bytes()
    response, body = viewer.ask("/trace.perfetto")
    assert (response.status, body) == (200, (session / "trace.perfetto").read_bytes())
    response, body = viewer.ask("/report.html", method="HEAD")
    assert (response.status, body, int(response.headers["Content-Length"])) == (
        200,
        b"",
        (session / "report.html").stat().st_size,
    )
    response, _ = viewer.ask("/")
    assert (response.status, response.headers["Location"]) == (302, "/report.html")


@pytest.mark.parametrize(
    "path",
    [
        "/ring-1",
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "//secret",
        "/.",
        "/report.html/",
        "/report.json",
        "/report.html%00",
        "/\\secret",
    ],
)
def test_nothing_else_is_served(serve, session, path):
    response, body = serve(session).ask(path)
    assert (response.status, body) == (404, b"")


def test_a_link_that_leads_out_is_not_followed(serve, session):
    (session / "report.json").symlink_to(session.parent / "secret")
    (session / "trace.perfetto").unlink()
    os.mkfifo(session / "trace.perfetto")
    viewer = serve(session)
    assert [viewer.ask(f"/{name}")[0].status for name in ("report.json", "trace.perfetto")] == [404, 404]


def test_a_name_that_somebody_else_controls_does_not_lead_here(serve, session):
    viewer = serve(session)
    port = viewer.address.port
    for host in (["evil.example"], [f"evil.example:{port}"], [], ["127.0.0.1"], [f"127.0.0.1:{port}", "evil.example"]):
        assert viewer.ask("/report.html", host=host)[0].status == 421
    assert viewer.ask("/report.html", host=[f"localhost:{port}"])[0].status == 200


def test_it_changes_nothing_and_says_so(serve, session):
    assert serve(session).ask("/report.html", method="POST")[0].status == 501


def test_the_report_itself_can_be_named(serve, session):
    page = session / "another name.html"
    page.write_text("moved")
    viewer = serve(page)
    assert viewer.ask(viewer.address.path)[1] == b"moved"


def test_a_port_can_be_asked_for_and_a_taken_one_is_told(serve, session):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*RADDLE, session, "--port", str(port), "--no-browser"], capture_output=True, text=True, timeout=PATIENCE
        )
        assert ended.returncode == 1
        assert (
            ended.stderr
            == f"raddle: cannot listen on port {port}: Address already in use; hint: leave --port out to get one that is free\n"
        )
    assert serve(session, "--port", port).address.port == port


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (
            None,
            "nothing.raddle",
            "there is no 'nothing.raddle'; hint: name the directory that raddle run has printed, PROGRAM.raddle",
        ),
        (
            "directory",
            "empty",
            "there is no report in 'empty'; hint: raddle run PROGRAM writes one when the program has ended",
        ),
        ("outer", "outer", "there is no report in 'outer'; hint: raddle view outer/a.raddle"),
        ("file", "a.json", "'a.json' is no report; hint: name the directory that it is in, or the report.html in it"),
        (
            "fifo",
            "pipe.html",
            "'pipe.html' is no report; hint: name the directory that it is in, or the report.html in it",
        ),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_sentence(tmp_path, make, name, said):
    path = tmp_path / name
    if make == "directory":
        path.mkdir()
    elif make == "outer":
        (path / "a.raddle").mkdir(parents=True)
        (path / "a.raddle" / "report.html").write_text("")
    elif make == "file":
        path.write_text("{}")
    elif make == "fifo":
        os.mkfifo(path)
    ended = subprocess.run([*RADDLE, name], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"raddle: {said}\n")


def test_what_is_no_port_is_told():
    ended = subprocess.run([*RADDLE, ".", "--port", "65536"], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 2
    assert "'65536' is not a port: a number up to 65535, or 0 for any that is free" in ended.stderr
