"""The page's sentences, whole and in one place, with the numbers of those that hold any; None where there are none."""

from machine import described

from study.figures.plot import Study
from study.findings.wording import count, listed, name_of, points_interval, seconds, times_as_fast, tiny
from study.page.blocks import Bullets, Code, Paragraph

TITLE = "LeNet-5 in NumPy and in PyTorch, compared"

SCALES = {
    "quick": """
        This is the quick scale: a few epochs on digits that the library draws itself. It shows that everything runs,
        not how good anything is.
    """,
    "default": """
        This is the default scale: three seeds on all of MNIST and on 10,000 images of CIFAR-10, small sweeps on
        subsets. `--full` trains on all of CIFAR-10, with more seeds and larger sweeps.
    """,
}

ACCURACIES = Paragraph("""
    Intervals are t-intervals of the mean over seeds; one seed has none. Macro-F1 is that of one run, which the figures
    show in detail.
""")

CLAIMS = Paragraph("""
    The report that this study reproduces compares LeNet in NumPy with LeNet in PyTorch. Its claims beside what is found
    here; every verdict is worked out from the numbers below.
""")

EXPLANATION = Paragraph("""
    Three things are varied one at a time, all else equal: the framework, the initialisation, the number of training
    images. Both frameworks get the same images in the same batches.
""")

METHOD = (
    """
    LeNet-5 with ReLU and max pooling, layer by layer the same in both frameworks; the same images, the same splits, the
    same batches in the same order. Weights are drawn by each framework's own generator from the same distribution.
    """,
    "Validation is the test set, evaluated after each epoch. Nothing is chosen by it: not the epoch, not a setting.",
    "Training loss and accuracy are means over the epoch, while the weights change; so validation can be better.",
    "Time is that of the training steps and of making their batches, without evaluation and loading.",
)

AGAIN = Paragraph("""
    Every number on this page is in `results.json`, beside each run's settings and seed. With the same seed, versions
    and processor the accuracies come out the same; times don't.
""")


def explorer(study: Study, dataset: str) -> Paragraph | None:
    """Where the network can be tried."""
    name = study.results["meta"].get("explorer")
    return name and Paragraph(
        f"**[See it think]({name})**: the page beside this one holds the fcnn network of these figures. Draw a digit, "
        "and it computes every layer as you do, forward and back; a click on a number shows how it was made."
    )


def notice(study: Study, dataset: str) -> Paragraph | None:
    """What is missing from this run of the study, and what its scale can show."""
    sentences = [*study.results["missing"], SCALES.get(study.results["meta"]["scale"], "")]
    return Paragraph(" ".join(sentences), "notice") if any(sentences) else None


def answer(study: Study, dataset: str) -> Paragraph:
    """The study's result."""
    return Paragraph(study.summary["answer"], "lead")


def comparison(study: Study, dataset: str) -> Bullets | None:
    """How the frameworks differ in accuracy and in speed, on each data set with both."""
    items = []
    for name, head in study.summary["headline"].items():
        difference, speed = head["difference"], head["speed"]
        if difference:
            overlap = {True: "; the intervals overlap", False: "; the intervals do not overlap", None: ""}
            items.append(f"""
                On {name_of(name)}, fcnn minus PyTorch is {points_interval(difference)} points, paired by
                seed{overlap[head["overlap"]]}.
            """)
        if speed:
            items.append(f"""
                On {name_of(name)}, fcnn trains {times_as_fast(speed["median"])} as PyTorch ({speed["least"]:.2f} to
                {speed["most"]:.2f} over {_counted(speed["n"], "epoch")} each, in turn).
            """)
    return Bullets(items) if items else None


def timing(study: Study, dataset: str) -> Paragraph | None:
    """How the timed epochs were made."""
    sizes = [
        f"{count(head['timed_size'])} images of {name_of(name)}"
        for name, head in study.summary["headline"].items()
        if head["timed_size"]
    ]
    if not sizes:
        return None
    return Paragraph(f"""
        Seconds an epoch are the median over timed epochs, of {listed(sizes)}. In these each framework has a process of
        its own, and in its turn the machine to itself. It trains in whichever of its ways was fastest in a trial: fcnn
        in forked processes or in threads over shards of 64 images, or on whole batches; PyTorch in NCHW or in
        `channels_last`. Both have freed memory kept by the C library, as importing fcnn makes it. Peak memory is that
        of the whole process and of all that it forks, data included. `torch.compile` is compared in `scripts/bench`.
    """)


def gradient_checks(study: Study, dataset: str) -> Paragraph | None:
    """What the gradient checks compare, and the worst of them."""
    found = study.summary["gradient_checks"]
    return found and Paragraph(f"""
        Every derivative in fcnn is written by hand. Each is compared with central differences in float64; the worst
        relative error of all {count(found["count"])} checks is {tiny(found["worst"])} ({found["worst_name"]}).
    """)


def measured(study: Study, dataset: str) -> Bullets:
    """The conditions of all comparisons, the runs, and the machines that they ran on."""
    meta, machines = study.results["meta"], study.summary["machines"]
    seeds = sorted({cell["config"]["seed"] for cell in study.results["cells"] if cell["kind"] == "Training"})
    runs, timed = (sum(row[key] for row in machines) for key in ("cells", "timed"))
    made = f"""
        {count(runs)} runs, seeds {listed([str(seed) for seed in seeds])}, {seconds(meta["seconds"])} in all (without
        those reused) with {_counted(meta["workers"], "worker")}, on {meta["date"]},
        commit `{meta["git_commit"] or "unknown"}`.
    """
    places = []
    for row in machines:
        share = f"All {count(runs)}" if row["cells"] == runs else f"{count(row['cells'])} of {count(runs)}"
        among = f", {'the ' if row['timed'] == timed else ''}{_counted(row['timed'], 'timed run')} among them,"
        places.append(f"{share} runs{among if row['timed'] else ''} on {described(row['machine'])}.")
    return Bullets((*METHOD, made, *places))


def again(study: Study, dataset: str) -> Code:
    """The command that makes this page."""
    name = study.results["meta"]["scale"]
    return Code(f"python scripts/study{'' if name == 'default' else f' --{name}'}")


def _counted(number: int, noun: str) -> str:
    """So many of something, as a sentence says it.

    >>> _counted(1, "worker"), _counted(3, "epoch"), _counted(12, "epoch")
    ('one worker', 'three epochs', '12 epochs')
    """
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return f"{words[number] if number < len(words) else count(number)} {noun}{'' if number == 1 else 's'}"
