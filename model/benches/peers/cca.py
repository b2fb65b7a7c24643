"""PWCCA of layers with labels by NumPy: `cca.py STATES LABELS LAYERS DIMENSION WAY`.

STATES holds LAYERS matrices of little-endian f32, LABELS one label a line. The procedure is the public layer-wise toolkit's: ten folds even in
each label; three trials, each with a fold to choose on and one to be scored on; six fits a trial with regularisations from its grid; the
chosen ones scored on the other fold, and fitted and scored once more with shuffled labels.

WAY is `lean` or `toolkit`. `lean` decomposes each covariance once a trial and takes all regularisations from its eigenvalues, and one reduced
SVD a fit. `toolkit` does what the toolkit's code does for every fit: covariances, pseudo-inverses, their eigenvalues, full SVD.
"""

import sys

import numpy as np
from turns import serve

layers, dimension, lean = int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "lean"
labels = np.loadtxt(sys.argv[2], dtype=np.int64)
states = np.fromfile(sys.argv[1], dtype="<f4").reshape(layers, len(labels), dimension)
one_hot = np.eye(labels.max() + 1)[labels]
GRID = [(x, y) for x in (1e-10, 1e-11, 1e-9) for y in (1e-10, 1e-11, 1e-9)]
FITS = 6


class Lean:
    def __init__(self, x, y):
        x, y = x - x.mean(0), y - y.mean(0)
        xx, yy, xy = (left.T @ right / (len(x) - 1) for left, right in ((x, x), (y, y), (x, y)))
        scale_x, scale_y = np.abs(xx).max(), np.abs(yy).max()
        self.xx, self.yy, self.xy = xx / scale_x, yy / scale_y, xy / np.sqrt(scale_x * scale_y)
        self.decomposed = {}

    def whitener(self, name, epsilon):
        covariance = getattr(self, name)
        keep = np.diag(covariance) >= epsilon
        kept, found = self.decomposed.get(name, (None, None))
        if kept is None or (kept != keep).any():
            found = np.linalg.eigh(covariance[np.ix_(keep, keep)])
            self.decomposed[name] = keep, found
        values, vectors = found
        values = np.maximum(values + epsilon, 0)
        roots = np.zeros_like(values)
        large = values > values.max() * 1e-15
        roots[large] = values[large] ** -0.5
        return roots[:, None] * vectors.T, keep

    def fit(self, epsilon_x, epsilon_y):
        (root_x, keep_x), (root_y, keep_y) = self.whitener("xx", epsilon_x), self.whitener("yy", epsilon_y)
        u, _, vh = np.linalg.svd(root_x @ self.xy[np.ix_(keep_x, keep_y)] @ root_y.T, full_matrices=False)
        return signed(u.T @ root_x, vh @ root_y, keep_x, keep_y)


class Toolkit:
    def __init__(self, x, y):
        self.x, self.y = x, y

    @staticmethod
    def inverse_square_root(covariance):
        values, vectors = np.linalg.eigh(np.linalg.pinv(covariance))
        return vectors @ np.diag(np.sqrt(np.maximum(values, 0))) @ vectors.T

    def fit(self, epsilon_x, epsilon_y):
        width = self.x.shape[1]
        both = np.cov(self.x.T, self.y.T)
        xx, xy, yy = both[:width, :width], both[:width, width:], both[width:, width:]
        scale_x, scale_y = np.abs(xx).max(), np.abs(yy).max()
        xx, yy, xy = xx / scale_x, yy / scale_y, xy / np.sqrt(scale_x * scale_y)
        keep_x, keep_y = np.diag(xx) >= epsilon_x, np.diag(yy) >= epsilon_y
        xx = xx[np.ix_(keep_x, keep_x)] + epsilon_x * np.eye(keep_x.sum())
        yy = yy[np.ix_(keep_y, keep_y)] + epsilon_y * np.eye(keep_y.sum())
        root_x, root_y = self.inverse_square_root(xx), self.inverse_square_root(yy)
        u, _, vh = np.linalg.svd(root_x @ xy[np.ix_(keep_x, keep_y)] @ root_y, full_matrices=True)
        count = min(len(xx), len(yy))
        return signed((u.T @ root_x)[:count], (vh @ root_y)[:count], keep_x, keep_y)


def signed(along_x, along_y, keep_x, keep_y):
    """The weights depend on the sign of each direction, which the decomposition leaves open."""
    weighted = along_x if keep_x.sum() < keep_y.sum() else along_y
    size = np.abs(weighted)
    first = np.argmax(size >= size.max(1, keepdims=True) / 2, axis=1)
    signs = np.sign(weighted[np.arange(len(weighted)), first])[:, None]
    return along_x * signs, along_y * signs, keep_x, keep_y


def score(x, y, fitted):
    along_x, along_y, keep_x, keep_y = fitted
    x, y = x[:, keep_x], y[:, keep_y]
    mean_x, mean_y = x.mean(0), y.mean(0)
    p, q = (x - mean_x) @ along_x.T, (y - mean_y) @ along_y.T
    power_p, power_q = np.einsum("nd,nd->d", p, p), np.einsum("nd,nd->d", q, q)
    alive = (power_p > 1e-9 * power_p.max()) & (power_q > 1e-9 * power_q.max())
    correlations = np.einsum("nd,nd->d", p, q)[alive] / np.sqrt(power_p * power_q)[alive]
    view, mean, along = (x, mean_x, p) if x.shape[1] < y.shape[1] else (y, mean_y, q)
    basis, _ = np.linalg.qr((along + mean[: along.shape[1]])[:, alive])
    weights = np.abs(basis.T @ view).sum(1)
    return (weights / weights.sum() * correlations).sum()


def trial(x, y, train, dev, test, grid, fits):
    moments = (Lean if lean else Toolkit)(x[train], y[train])
    dev_x, dev_y = x[dev], y[dev]
    best = None
    for epsilons in grid[:fits]:
        fitted = moments.fit(*epsilons)
        on_dev = score(dev_x, dev_y, fitted)
        if best is None or on_dev > best[0]:
            best = on_dev, epsilons, fitted
    return score(x[test], y[test], best[2]), best[1]


def measure(x, y, random):
    fold = np.empty(len(labels), np.int64)
    for label in range(labels.max() + 1):
        members = random.permutation(np.flatnonzero(labels == label))
        fold[members] = (random.integers(10) + np.arange(len(members))) % 10
    pairs = random.permutation(10)[:6].reshape(3, 2)
    shuffled = y[random.permutation(len(y))]
    scores, null = [], []
    for dev, test in pairs:
        parts = [np.flatnonzero(which) for which in ((fold != dev) & (fold != test), fold == dev, fold == test)]
        grid = [GRID[place] for place in random.permutation(len(GRID))]
        found, chosen = trial(x, y, *parts, grid, FITS)
        scores.append(found)
        null.append(trial(x, shuffled, *parts, [chosen], 1)[0])
    return np.mean(scores), np.mean(null)


def work():
    found = [measure(layer.astype(np.float64), one_hot, np.random.default_rng(3)) for layer in states]
    return {f"layer-{place:02}": score for place, (score, _) in enumerate(found)} | {"null": np.mean([null for _, null in found])}


serve(["numpy"], work)
