"""A program of the peers, started anew each turn: `program.py VERSIONED PROGRAM ARGUMENT…`.

VERSIONED is the package whose version is told. With the arguments `repro` of `dvc`, a project of one stage that is up to date is made first.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

package, *command = sys.argv[1:]
folder = Path(tempfile.mkdtemp())
program = str(Path(sys.executable).parent / command[0])
environment = {**os.environ, "DVC_NO_ANALYTICS": "true", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def run(*arguments):
    subprocess.run([program, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if command[:2] == ["dvc", "repro"]:
    run("init", "--no-scm", "--quiet")
    (folder / "input.txt").write_text("input\n")
    (folder / "dvc.yaml").write_text("stages:\n  copy:\n    cmd: cp input.txt output.txt\n    deps: [input.txt]\n    outs: [output.txt]\n")
    run("repro", "--quiet")
print(json.dumps({"versions": {package: importlib.metadata.version(package)}}), flush=True)

for _ in sys.stdin:
    start = time.perf_counter()
    run(*command[1:])
    seconds = time.perf_counter() - start
    # Resident memory that `time` saw, where there is one: its own is less than that of a Python.
    measured = {"seconds": seconds}
    if Path("/usr/bin/time").exists():
        told = subprocess.run(["/usr/bin/time", "-f", "%M", program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True)
        measured["peak-mib"] = int(told.stderr.split()[-1]) / 1024
    print(json.dumps(measured), flush=True)
