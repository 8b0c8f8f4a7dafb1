"""Data: load image sets, make batches of them, augment those; and pictures of one's own.

`load(name)` gives a `Dataset` of two `Split`s; `batches(split, batch_size, key)` gives `Batch`es, each a pure function
of its arguments. `pictures` makes any picture into an image such as a network was trained on; `figures`
finds the several on one sheet.
"""

from fcnn.data import figures, pictures
from fcnn.data.augmentation import compose, random_affine, random_flip, random_shift
from fcnn.data.batching import as_batch, batches, steps_per_epoch
from fcnn.data.digits import digits as make_digits
from fcnn.data.loading import DATASETS, load
from fcnn.data.types import Batch, BatchTransform, DataError, Dataset, Split

__all__ = [
    "DATASETS",
    "Batch",
    "BatchTransform",
    "DataError",
    "Dataset",
    "Split",
    "as_batch",
    "batches",
    "compose",
    "figures",
    "load",
    "make_digits",
    "pictures",
    "random_affine",
    "random_flip",
    "random_shift",
    "steps_per_epoch",
]
