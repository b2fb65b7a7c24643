"""What every peer does: say the versions, then work once for each line that comes."""

import importlib.metadata
import json
import sys
import time


def serve(packages, work):
    """`work` returns a dictionary of numbers, which may be empty; its own time is measured here."""
    print(json.dumps({"versions": {name: importlib.metadata.version(name) for name in packages}}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = work()
        print(json.dumps({"seconds": time.perf_counter() - start, **found}), flush=True)
