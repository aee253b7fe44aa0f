"""CPython's tests of `multiprocessing`, made for the start method `forkserver`."""

from __future__ import annotations

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "forkserver")
