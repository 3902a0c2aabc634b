"""The digits that scikit-learn carries: 1,797 grey images of 8x8."""

import numpy as np

from rdd_jax.types import Data

__all__ = ["read"]


def read(name: str) -> dict[str, Data] | None:
    """``digits``; see `rdd_jax.contracts.Reader`."""
    if name != "digits":
        return None
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return {"train": Data(images, bunch.target.astype(np.int32), tuple("0123456789"), mirror=False)}
