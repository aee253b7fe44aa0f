"""A module starts a thread that needs the module, and waits for its end before it is done itself."""

import importlib
import threading


def work():
    return importlib.import_module("imports_itself").__name__


if __name__ == "__main__":
    importlib.import_module("imports_itself")
else:
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
