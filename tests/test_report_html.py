"""The page of a report in a real browser: what it draws, what keys and pointer do, and that it asks nothing of the net."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import chromium

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.skipif(chromium.find() is None, reason=f"no browser: none of {', '.join(chromium.NAMES)} is installed"),
    pytest.mark.skipif(
        shutil.which("cargo") is None, reason="no cargo: the reports are written by an example of raddle-trace"
    ),
    # The example may have to be built.
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Writes the report of a story, once; its address."""
    written = {}

    def report(story, where=""):
        if story not in written:
            directory = tmp_path_factory.mktemp(story)
            command = [
                "cargo",
                "run",
                "--locked",
                "--quiet",
                "-p",
                "raddle-trace",
                "--example",
                "write",
                "--",
                directory,
                story,
            ]
            subprocess.run(command, cwd=ROOT, check=True)
            written[story] = directory / "report.html"
        return written[story].as_uri() + where

    return report


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    browser = chromium.Browser(chromium.find(), tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(running):
    """A browser; afterwards nothing has gone wrong in the page, and it has asked for nothing but itself."""
    yield running
    assert running.run("document.documentElement.dataset.errors ?? ''") == ""
    assert running.wrong == []
    assert [url for url in running.requests if not url.startswith(("data:", "file:", "about:"))] == []
    assert len([url for url in running.requests if url.startswith("file:")]) == 1


def text(browser, selector):
    return browser.run(f"document.querySelector({selector!r})?.textContent ?? null")


def test_the_whole_session_is_drawn(browser, report):
    assert browser.open(report("crawler")) == "yes"
    page = browser.run("({ ...document.documentElement.dataset })")
    assert (page["processes"], page["threads"], page["findings"]) == ("3", "14", "3")
    drawn = browser.drawn()
    # Every thread's lane and every process' head; more spans than pixels, and no more rectangles than pixels.
    assert int(drawn["lanes"]) == 17
    assert int(page["spans"]) > int(drawn["drawn"]) > 500
    assert text(browser, ".verdict").startswith("crawler.py was ended by SIGINT after 12.4 s")
    assert "with ledger:" in text(browser, ".finding.error .excerpt")
    # A page of a file may have been sent on alone.
    assert "Perfetto" not in text(browser, "#notes")
    assert browser.run("[...document.querySelectorAll('section')].map((part) => part.id)") == [
        "summary", "findings", "timeline", "threads", "locks", "advice", "notes",
    ]  # fmt: skip


def test_a_finding_leads_to_its_moment(browser, report):
    browser.open(report("crawler"))
    whole = browser.drawn()
    browser.run("document.querySelector('.finding.error .show').click()")
    there = browser.drawn()
    assert int(whole["from"]) < int(there["from"]) < 9_400_000_000 < int(there["until"]) < int(whole["until"])
    assert browser.run("[...document.querySelectorAll('.lane.about .label')].map((lane) => lane.textContent)") == [
        "worker-0",
        "worker-1",
    ]
    assert "Lock 'index'" in text(browser, ".detail")
    assert "held byworker-1" in text(browser, ".detail")


def test_an_address_says_where_to_begin(browser, report):
    browser.open(report("crawler", "#from=3&until=3.25&theme=dark&filter=worker-1"))
    drawn = browser.drawn()
    assert (drawn["from"], drawn["until"], drawn["lanes"]) == ("3000000000", "3250000000", "2")
    assert browser.run("document.documentElement.dataset.theme") == "dark"


def test_keys_move_zoom_and_choose(browser, report):
    browser.open(report("crawler"))
    whole = browser.drawn()
    browser.run("document.querySelector('.lanes').focus()")
    browser.press("w")
    near = browser.drawn()
    assert int(near["until"]) - int(near["from"]) < int(whole["until"]) - int(whole["from"])
    browser.press("d")
    assert int(browser.drawn()["from"]) > int(near["from"])
    browser.press("0")
    assert browser.drawn()["until"] == whole["until"]
    browser.press("ArrowDown")
    browser.press("ArrowDown")
    assert text(browser, ".lane.selected .label") == "worker-0"
    before = text(browser, ".detail")
    browser.press("]")
    assert text(browser, ".detail") != before
    browser.press("Enter")
    assert int(browser.drawn()["until"]) < int(whole["until"])
    browser.press("n")
    assert text(browser, ".finding.here .id") == "error[deadlock]"
    browser.press("Escape")
    assert browser.run("document.querySelector('.lane.selected')") is None
    browser.press("/")
    assert browser.run("document.activeElement.type") == "search"


def test_the_pointer_shows_zooms_and_drags(browser, report):
    browser.open(report("crawler"), size=(1400, 2000))
    browser.run("document.querySelector('.lanes').scrollIntoView({ block: 'center' })")
    whole = browser.drawn()
    box = browser.run(
        "(({ x, y, width, height }) => ({ x, y, width, height }))(document.querySelector('.lanes canvas').getBoundingClientRect())"
    )
    # Near the end of the first worker's lane, the third from above: a head, the main thread, the worker.
    x, y = box["x"] + box["width"] * 0.95, box["y"] + 26 + 28 + 14
    browser.mouse("mouseMoved", x, y)
    assert "blocked on a lock · 3.00 s" in text(browser, ".tip")
    browser.click(x, y)
    assert "Lock 'index'" in text(browser, ".detail.filled")
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-240, modifiers=2)
    near = browser.drawn()
    assert int(near["until"]) - int(near["from"]) < int(whole["until"]) * 0.6
    browser.mouse("mousePressed", x, y, button="left", clickCount=1)
    browser.mouse("mouseMoved", x - 10, y, button="left", buttons=1)
    browser.mouse("mouseMoved", x + 200 - box["width"] / 2, y, button="left", buttons=1)
    browser.mouse("mouseReleased", x - 200, y, button="left", clickCount=1)
    assert browser.drawn()["from"] != near["from"]
    # A process is folded away.
    browser.run("document.querySelector('.lane.process button').click()")
    assert int(browser.drawn()["lanes"]) == int(whole["lanes"]) - 6


def test_the_page_that_is_served_has_the_trace_beside_it(running, report, tmp_path):
    directory = Path(report("crawler").removeprefix("file://")).parent
    command = [sys.executable, "-m", "raddle", "view", directory, "--no-browser"]
    viewer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert running.open(viewer.stdout.readline().strip()) == "yes"
        assert running.wrong == []
        assert len(running.requests) == 1
        assert "The same for Perfetto: trace.perfetto, which ui.perfetto.dev opens." in text(running, "#notes")
        running.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path), eventsEnabled=True)
        running.run("document.querySelector('#notes a').click()")
        while running.downloaded is None:
            running.note(running.read())
        assert (tmp_path / "trace.perfetto").read_bytes() == (directory / "trace.perfetto").read_bytes()
    finally:
        viewer.send_signal(signal.SIGINT)
        viewer.communicate(timeout=40)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system_and_can_be_switched(browser, report, scheme):
    browser.open(report("clean"), media=[("prefers-color-scheme", scheme)])
    assert browser.run("document.documentElement.dataset.theme") == scheme
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.run("document.getElementById('theme').click()")
    assert browser.run("document.documentElement.dataset.theme") == {"light": "dark", "dark": "light"}[scheme]
    assert browser.run("getComputedStyle(document.body).backgroundColor") != ground


def test_there_is_a_picture(browser, report, tmp_path):
    browser.open(report("crawler"), size=(1400, 2400))
    browser.drawn()
    picture = browser.screenshot()
    # Where it can be looked at, if asked for.
    (Path(os.environ.get("RADDLE_PICTURES", tmp_path)) / "report.png").write_bytes(picture)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 100_000


def test_names_are_text_and_never_become_the_page(browser, report):
    assert browser.open(report("hostile")) == "yes"
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.title").endswith("· Raddle")
    assert "onerror=" in text(browser, ".gutter")
    # What would turn the order of letters round is written as an escape.
    assert "\\u{202e}" in text(browser, ".command")
    assert browser.run("document.body.innerText.includes('\\u202e')") is False


def test_a_page_that_was_cut_off_says_so(running, report, tmp_path):
    page = Path(report("crawler").removeprefix("file://")).read_text()
    before, mark, after = page.partition('<script id="rows" type="text/plain">')
    data, end, after = after.partition("</script>")
    broken = tmp_path / "broken.html"
    broken.write_text(before + mark + data[: len(data) // 2 // 4 * 4] + end + after)
    assert running.open(broken.as_uri()) == "failed"
    assert "This report cannot be shown" in text(running, "#problem")
