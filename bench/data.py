"""The rows that are timed, each made anew where it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array


@lru_cache(maxsize=1)
def mnist_uint8() -> NDArray[np.uint8]:
    """The 70,000 images, training images first, (70000, 784) uint8."""
    from gpukmeans import load_mnist

    return load_mnist(return_X_y=True)[0]


@lru_cache(maxsize=1)
def mnist() -> NDArray[np.float32]:
    """Pixels / 255 in float32."""
    return mnist_uint8().astype(np.float32) / np.float32(255)


def digits() -> NDArray[np.float64]:
    """scikit-learn's 1,797 digits of 8 x 8, float64."""
    from sklearn.datasets import load_digits

    return np.ascontiguousarray(load_digits().data)


def pixels(name: str) -> NDArray[np.uint8]:
    """The colours of scikit-learn's china.jpg or flower.jpg, (273280, 3) uint8."""
    from sklearn.datasets import load_sample_image

    return np.ascontiguousarray(load_sample_image(name).reshape(-1, 3))


def china() -> NDArray[np.float32]:
    """Those of china.jpg / 255, float32."""
    return pixels("china.jpg").astype(np.float32) / np.float32(255)


def noise(n_samples: int, n_features: int) -> NDArray[np.float32]:
    """White noise: standard normal, float32."""
    return np.random.default_rng(0).standard_normal((n_samples, n_features), dtype=np.float32)


def blobs(n_samples: int, n_features: int, n_blobs: int) -> NDArray[np.float32]:
    """scikit-learn's make_blobs with ``random_state=0``, float32."""
    from sklearn.datasets import make_blobs

    X, _ = make_blobs(n_samples, n_features, centers=n_blobs, random_state=0)
    return X.astype(np.float32)


def texts(n_samples: int, n_features: int, n_words: int, n_topics: int) -> csr_array:
    """Rows like TF-IDF of texts, CSR of float64 and norm one: words by Zipf's law, a third of them the topic's own."""
    rng = np.random.default_rng(0)
    shape = (n_samples, n_words)

    def drawn(n_ranks: int) -> NDArray[np.int64]:
        chances = 1.0 / np.arange(1, n_ranks + 1)
        return np.searchsorted(np.cumsum(chances / chances.sum()), rng.random(shape)).clip(0, n_ranks - 1)

    own = np.stack([rng.permutation(n_features)[: n_features // 60] for _ in range(n_topics)])
    topic = rng.integers(0, n_topics, n_samples)
    words = np.where(rng.random(shape) < 1 / 3, own[topic[:, None], drawn(own.shape[1])], drawn(n_features))
    places = np.repeat(np.arange(n_samples), n_words), words.ravel()
    X = coo_array((np.ones(words.size), places), shape=(n_samples, n_features)).tocsr()
    rarity = 1.0 + np.log((1 + n_samples) / (1 + np.bincount(X.indices, minlength=n_features)))
    X.data = (1.0 + np.log(X.data)) * rarity[X.indices]
    owner = np.repeat(np.arange(n_samples), np.diff(X.indptr))
    X.data /= np.sqrt(np.bincount(owner, X.data**2, n_samples))[owner]
    return csr_array((X.data, X.indices.astype(np.int32), X.indptr.astype(np.int32)), shape=X.shape)


def round_to_bfloat16(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Finite float32 rounded to the nearest bfloat16 (ties to even), kept in float32."""
    bits = X.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def noise_as(n: int, d: int, dtype: str) -> Callable[[], NDArray]:
    def make() -> NDArray:
        X = noise(n, d)
        if dtype == "bfloat16":
            return round_to_bfloat16(X)
        return X.astype(dtype, copy=False)

    return make
