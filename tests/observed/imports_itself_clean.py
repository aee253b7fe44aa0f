"""A thread needs a module that another one imports just now, and gets it."""

import importlib
import threading
import time


def work():
    return importlib.import_module("imports_itself_clean").__name__


if __name__ == "__main__":
    importlib.import_module("imports_itself_clean").thread.join()
else:
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    time.sleep(0.7)
