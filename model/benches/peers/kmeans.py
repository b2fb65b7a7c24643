"""Fits k-means as HuBERT's learn_kmeans does, with another seed each time, and leaves the centres beside the frames.

Usage: kmeans.py FOLDER CLUSTERS FIRST_SEED. Reads FOLDER/frames.npy and writes FOLDER/theirs.npy.
"""

import json
import sys
import time

import numpy
import sklearn
from sklearn.cluster import MiniBatchKMeans

folder, clusters, first_seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
frames = numpy.load(f"{folder}/frames.npy")
print(json.dumps({"versions": {"scikit-learn": sklearn.__version__, "numpy": numpy.__version__}}), flush=True)
for seed, _ in enumerate(sys.stdin, first_seed):
    model = MiniBatchKMeans(
        n_clusters=clusters,
        init="k-means++",
        max_iter=100,
        batch_size=10_000,
        verbose=0,
        compute_labels=False,
        tol=0.0,
        max_no_improvement=100,
        init_size=None,
        n_init=20,
        reassignment_ratio=0.0,
        random_state=seed,
    )
    start, before = time.perf_counter(), time.process_time()
    model.fit(frames)
    seconds, of_all_threads = time.perf_counter() - start, time.process_time() - before
    numpy.save(f"{folder}/theirs.npy", model.cluster_centers_.astype("float32"))
    print(json.dumps({"seconds": seconds, "processor-seconds": of_all_threads, "batches": model.n_steps_}), flush=True)
