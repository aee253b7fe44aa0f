"""What `raddle run` says about times, beside what a program has measured itself."""

from __future__ import annotations

import json

from test_findings import observe


def test_waits_for_the_gil_are_as_long_as_the_program_found_them(tmp_path):
    run, document = observe("measures_itself", tmp_path)
    measured = json.loads(run.stdout)
    [process] = document["session"]["processes"]
    threads = {thread["name"]: thread for thread in process["threads"]}
    for name, (life, ran, queued) in measured.items():
        waited = life - ran - queued
        spans = threads[name]["spans"]
        told = sum(span["until"] - span["from"] for span in spans if span["state"] == "gil")
        assert waited > life / 4, "they take turns"
        # Who has got the GIL and no processor yet still waits for the one, or already for the other: both are right.
        assert 0.95 * waited <= told <= 1.05 * (waited + queued), (name, waited, told, queued)
