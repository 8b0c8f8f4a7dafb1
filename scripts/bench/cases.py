"""What is timed: the cases, their sizes, who takes part, and the floating-point operations of their products."""

import functools
from collections.abc import Sequence

import attrs

from bench.networks import AIRBENCH, LENET, LENET_BN, NETWORKS, PUBLISHED, RESNET, VGG

EAGER = ("PyTorch, NCHW", "PyTorch, channels_last")
COMPILED = ("PyTorch, compiled", "JAX")
PYTORCH = (*EAGER, "PyTorch, compiled")
AS_IT_COMES = tuple(f"{name}, as it comes" for name in EAGER)
EVERYONE = ("fcnn", *PYTORCH, "JAX", "NumPy, im2col")
OURS = ("fcnn", "fcnn, plain", "fcnn, 1 thread")

FORWARD, BACKWARD = "forward", "backward"
WEIGHT, BOTH, ALL = "weight gradient", "both gradients", "forward + both gradients"
INPUT = "input gradient (both − weight)"  # not timed: the difference of the two in the same turn
PLAIN = "plain train_step"  # not timed by itself: the program "fcnn, plain" of the same turns
PEAK = "peak memory"

PARTS = ("", PLAIN, FORWARD, BACKWARD, WEIGHT, INPUT, BOTH, ALL)  # in the order of the report

# Channels, filters, and height and width of the 3x3 convolutions that are timed alone.
WIDE = ((3, 64, 32), (64, 64, 32), (64, 128, 16), (64, 256, 15), (128, 256, 8), (256, 256, 8), (256, 256, 7))


@attrs.frozen(kw_only=True)
class Case:
    """Something that several programs do. Its parts are timed one after the other in each turn."""

    programs: tuple[str, ...]
    parts: tuple[str, ...] = ("",)


@attrs.frozen(kw_only=True)
class Whole(Case):
    """A case of a whole network, by its name in `NETWORKS`."""

    network: str = LENET


@attrs.frozen(kw_only=True)
class Step(Whole):
    """A training step: softmax cross-entropy and Adam, giving the loss as a number."""

    batch: int = 128
    batches: int = 10  # taken in turn


@attrs.frozen(kw_only=True)
class RecordStep(Step):
    """A step of scripts/records/cifar10.py: its loss and its optimizer."""

    network: str = AIRBENCH
    batch: int = 2000
    batches: int = 2


@attrs.frozen(kw_only=True)
class Epoch(Whole):
    """A pass over shuffled uint8 images, or the first `steps` of one: gather, convert, train."""

    images: int = 60_000
    batch: int = 128
    steps: int | None = None


@attrs.frozen(kw_only=True)
class Predict(Whole):
    """Logits for uint8 images, a batch at a time; with batch 1 a call takes one image."""

    images: int = 10_000
    batch: int


@attrs.frozen(kw_only=True)
class Photo(Case):
    """Logits for one image of random numbers, by a network of `PUBLISHED`."""

    network: str
    size: int = 224  # height and width of the image, in pixels, a multiple of 32


@attrs.frozen(kw_only=True)
class Conv(Case):
    """A convolution without bias, and its gradients."""

    channels: int
    filters: int
    kernel: int = 3
    padding: int = 1
    size: int  # height and width of the images, in pixels
    batch: int = 64
    parts: tuple[str, ...] = (FORWARD, WEIGHT, BOTH, ALL)

    @property
    def out_size(self) -> int:
        """Height and width of the output, in pixels."""
        return self.size + 2 * self.padding - self.kernel + 1


@attrs.frozen(kw_only=True)
class Pool(Case):
    """A 2x2 max pool and its gradient."""

    channels: int
    size: int
    batch: int = 64
    parts: tuple[str, ...] = (FORWARD, BACKWARD)


@attrs.frozen(kw_only=True)
class Sgemm(Case):
    """The floor: float32 products of square matrices, on BLAS's threads, or one on each of Python's."""

    programs: tuple[str, ...] = ("sgemm",)
    parts: tuple[str, ...] = ("BLAS threads", "Python threads")
    size: int = 1024


def name_of(case: Case, part: str = "") -> str:
    """What is done, with its sizes; the name of a row in the report."""
    match case:
        case RecordStep():
            name = f"CIFAR-10 record, training step, batch {case.batch}"
        case Step():
            comma = "," if " " in case.network else ""
            name = f"{case.network}{comma} training step, batch {case.batch}"
        case Epoch():
            name = f"{case.network} epoch, {case.images:,} images, batch {case.batch}"
        case Predict(batch=1):
            name = f"{case.network} inference, one image (latency)"
        case Predict():
            name = f"{case.network} inference, {case.images:,} images, batch {case.batch}"
        case Photo():
            name = f"{case.network} inference, one image {case.size}x{case.size} (latency)"
        case Conv():
            taps = f"{case.kernel}x{case.kernel}"
            name = f"conv {case.channels}->{case.filters} {taps} @{case.size}, batch {case.batch}"
        case Pool():
            name = f"max pool 2x2, {case.channels} channels @{case.size}, batch {case.batch}"
        case _:
            name = type(case).__name__.lower()
    return f"{name}, {part}" if part else name


def flops_of(case: Case, part: str = "") -> int | None:
    """Floating-point operations of one call's matrix products, each multiply-add counting 2; None without any.

    Training is forward, weight gradient and input gradient, without the first layer's input gradient.
    """
    macs = NETWORKS[case.network].macs if isinstance(case, Whole) else (0,)
    training = 2 * (3 * sum(macs) - macs[0])
    match case:
        case Step():
            return case.batch * training
        case Epoch():
            return case.images * training
        case Predict():
            return 2 * sum(macs) * (1 if case.batch == 1 else case.images)
        case Photo():
            convolutions, dense = PUBLISHED[case.network].macs
            return 2 * ((case.size // 32) ** 2 * convolutions + dense)
        case Conv():
            products = {BOTH: 2, ALL: 3}.get(part, 1) * case.batch * case.out_size**2
            return 2 * products * case.filters * case.channels * case.kernel**2
    return None


def suite(quick: bool) -> list[Case]:
    """All cases, in the order of the report; `quick` makes them small."""
    scale = 8 if quick else 1
    train, test = (320, 200) if quick else (60_000, 10_000)
    batch, half = 128 // scale, 64 // scale
    layer = ("fcnn", *EAGER, "JAX")
    photo = functools.partial(Photo, programs=("fcnn", "fcnn, 1 thread", *PYTORCH, "onnxruntime"))
    lenet_conv = functools.partial(Conv, programs=(*layer, "NumPy, im2col"), kernel=5, batch=batch)
    return [
        Step(programs=(*OURS, "fcnn, threads", *EVERYONE[1:], *AS_IT_COMES, "autograd"), batch=batch),
        *(Step(programs=(*OURS, *PYTORCH), network=network, batch=batch) for network in (LENET_BN, VGG, RESNET)),
        RecordStep(programs=("fcnn", "fcnn, threads", "fcnn, 1 thread", *PYTORCH), batch=32 if quick else 2000),
        Epoch(programs=EVERYONE, images=train, batch=batch),
        lenet_conv(channels=1, filters=6, size=28, padding=2),
        lenet_conv(channels=6, filters=16, size=14, padding=0),
        *(Conv(programs=layer, channels=c, filters=f, size=size, batch=half) for c, f, size in WIDE),
        Pool(programs=layer, channels=6, size=28, batch=batch),
        Pool(programs=layer, channels=64, size=32, batch=half),
        *(Predict(programs=(*EVERYONE, "onnxruntime"), images=test, batch=size) for size in (1000 // scale, batch, 1)),
        *(photo(network=network, size=64 if quick else 224) for network in PUBLISHED),
    ]


def footprints(quick: bool) -> list[Case]:
    """The cases whose peak memory over all processes is measured: two of the suite."""
    cases = suite(quick)
    step = next(case for case in cases if isinstance(case, Step) and case.network == VGG)
    predict = next(case for case in cases if isinstance(case, Predict))
    return [attrs.evolve(case, programs=(*case.programs, *AS_IT_COMES)) for case in (step, predict)]


def select(cases: Sequence[Case], only: Sequence[str]) -> list[Case]:
    """The cases, and their parts, that have one of the texts `only` in their name; all without any."""
    chosen = [
        attrs.evolve(case, parts=tuple(part for part in case.parts if matches(name_of(case, part), only)))
        for case in cases
    ]
    return [case for case in chosen if case.parts]


def matches(name: str, only: Sequence[str]) -> bool:
    """Whether one of the texts is part of the name, in small or capital letters; always without any."""
    return not only or any(text.lower() in name.lower() for text in only)
