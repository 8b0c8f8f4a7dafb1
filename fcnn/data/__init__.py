"""Data: load image sets, make batches of them, augment those; and pictures of one's own.

`load(name)` gives a `Dataset` of two `Split`s, also of `folder(root)`, pictures of one's own, and of `load_npz(path)`,
arrays; `batches(split, batch_size, key)` gives `Batch`es, each a pure function of its arguments. `pictures` makes any
picture into an image such as a network was trained on; `figures` finds the several on one sheet.
"""

from fcnn.data import figures, pictures
from fcnn.data.augmentation import alternating_flip, compose, random_affine, random_flip, random_shift
from fcnn.data.batching import as_batch, batches, steps_per_epoch
from fcnn.data.digits import digits as make_digits
from fcnn.data.files import load_npz
from fcnn.data.folders import PictureFolder, folder
from fcnn.data.loading import DATASETS, is_own, load
from fcnn.data.preprocessing import Preprocessing
from fcnn.data.progress import bars
from fcnn.data.statistics import channel_statistics
from fcnn.data.types import Batch, BatchTransform, DataError, Dataset, DataWarning, Split

__all__ = [
    "DATASETS",
    "Batch",
    "BatchTransform",
    "DataError",
    "DataWarning",
    "Dataset",
    "PictureFolder",
    "Preprocessing",
    "Split",
    "alternating_flip",
    "as_batch",
    "bars",
    "batches",
    "channel_statistics",
    "compose",
    "figures",
    "folder",
    "is_own",
    "load",
    "load_npz",
    "make_digits",
    "pictures",
    "random_affine",
    "random_flip",
    "random_shift",
    "steps_per_epoch",
]
