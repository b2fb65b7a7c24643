"""MLflow's tracking store in SQLite, through its client in one process that stays: `tracking.py FOLDER RUNS WORK`.

RUNS runs of 20 metrics, 30 parameters and 5 tags are there before the first turn. They are made through the client and kept in FOLDER, so that
the next work on as many finds them.

WORK is `log` (1,000 single metrics), `run` (one more run of 55 scalars), `first` (the newest 1,000 runs), `top` (the best 100 by a metric) or
`export` (all runs as a data frame, written as CSV).
"""

import json
import logging
import os
import random
import sys
import time
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"

import mlflow  # noqa: E402
from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

folder, count, work = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
logging.disable(logging.WARNING)
database = folder / f"mlflow-{count}.db"
folder.mkdir(parents=True, exist_ok=True)
mlflow.set_tracking_uri(f"sqlite:///{database}")
client = MlflowClient()
random.seed(1)


def one_run(experiment):
    run = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    client.log_batch(
        run,
        [Metric(f"metric-{n}", random.random(), now, n) for n in range(20)],
        [Param(f"param-{n}", str(n)) for n in range(30)],
        [RunTag(f"tag-{n}", str(n)) for n in range(5)],
    )
    client.set_terminated(run)
    return run


found = client.get_experiment_by_name("bench")
experiment = found.experiment_id if found else client.create_experiment("bench", artifact_location=str(folder / "artifacts"))
planted = len(client.search_runs([experiment], max_results=50000))
for _ in range(count - planted):
    one_run(experiment)
extra = experiment
if work in ("log", "run"):
    other = client.get_experiment_by_name("more")
    extra = other.experiment_id if other else client.create_experiment("more", artifact_location=str(folder / "artifacts"))
print(json.dumps({"versions": {"mlflow": mlflow.__version__}}), flush=True)

for _ in sys.stdin:
    extras = {}
    if work == "log":
        run = client.create_run(extra).info.run_id
        start = time.perf_counter()
        for step in range(1000):
            client.log_metric(run, "loss", 1.0 / (step + 1), step=step)
        seconds = time.perf_counter() - start
        client.set_terminated(run)
    elif work == "run":
        start = time.perf_counter()
        one_run(extra)
        seconds = time.perf_counter() - start
    elif work == "first":
        start = time.perf_counter()
        runs = client.search_runs([experiment], max_results=1000)
        seconds = time.perf_counter() - start
        assert len(runs) == min(1000, count)
    elif work == "top":
        start = time.perf_counter()
        runs = client.search_runs([experiment], order_by=["metrics.`metric-7` ASC"], max_results=100)
        seconds = time.perf_counter() - start
        assert len(runs) == min(100, count)
    elif work == "export":
        start = time.perf_counter()
        frame = mlflow.search_runs([experiment], max_results=100000)
        frame.to_csv(folder / "export.csv")
        seconds = time.perf_counter() - start
        assert len(frame) >= count
    if count:
        extras["bytes-per-run"] = database.stat().st_size / count
    print(json.dumps({"seconds": seconds, **extras}), flush=True)
