"""The study's page, `report.html` and `report.md`, made of the numbers in `results.json` and of nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fcnn.values.files import replacing
from study.figures.catalogue import REPEATED, Study, entries
from study.findings.wording import (
    NOTHING,
    count,
    interval,
    listed,
    name_of,
    percent,
    points_interval,
    ratio,
    rounded,
    seconds,
    tiny,
)
from study.page.blocks import Block, Bullets, Code, Heading, Paragraph, Picture, Table, to_html, to_markdown

Results = Mapping[str, Any]
Figures = Mapping[str, tuple[Path, Path]]
TITLE = "LeNet-5 in NumPy and in PyTorch, compared"
SCALES = {
    "quick": "This is the quick scale: a few epochs on digits that the library draws itself. It shows that everything "
    "runs, not how good anything is.",
    "default": "This is the default scale: one seed on all of MNIST, small sweeps on subsets. `--full` adds CIFAR-10 "
    "and "
    "all seeds.",
}
RUN = {"quick": " --quick", "default": "", "full": " --full"}


def write_report(results: Results, figures: Figures, folder: Path) -> tuple[Path, Path]:
    """Write the page into `folder` as HTML, self-contained, and as Markdown, beside the figures; gives both paths.

    Args:
        results: what `results.json` holds, the summary included.
        figures: PNG and SVG of each figure, as `figures.save_figures` gives them.
    """
    blocks = tuple(page(results, figures))
    paths = folder / "report.html", folder / "report.md"
    for path, text in zip(paths, (to_html(TITLE, blocks), to_markdown(TITLE, blocks, folder)), strict=True):
        with replacing(path) as file:
            file.write(text.encode())
    return paths


def page(results: Results, figures: Figures) -> Iterator[Block]:
    """The page, block by block."""
    summary, meta = results["summary"], results["meta"]
    missing = [*results.get("missing", ()), *([SCALES[meta["scale"]]] if meta["scale"] in SCALES else ())]
    for sentence in missing:
        yield Paragraph(sentence, "notice")
    yield Paragraph(summary["answer"], "lead")

    yield Heading("Results", "results")
    yield _headline(summary)
    yield from _headline_words(summary)

    yield Heading("The report's claims", "claims")
    yield Paragraph(
        "The report that this study reproduces compares LeNet in NumPy with LeNet in PyTorch. Its claims beside what "
        "is "
        "found here; every verdict is worked out from the numbers below."
    )
    columns = ("Claim", "The report says", "We find", "Verdict")
    keys = ("claim", "report_says", "we_find", "verdict")
    yield Table("Claim by claim", columns, tuple(tuple(row[key] for key in keys) for row in summary["claims"]))

    yield Heading("What explains 95.3 against 92.2?", "explanation")
    yield from _explanation(results, figures)

    yield Heading("Training", "training")
    yield from _pictures(results, figures, "accuracy", "loss", "confusion", "mistakes", "batch_size", "reliability")
    yield from _classification(results, summary["main"])
    yield from _tables_of_training(summary)

    yield Heading("Inside the network", "inside")
    yield from _pictures(results, figures, "filters", "filters_over_training", "feature_maps")

    yield Heading("Parts of the method", "method")
    yield from _method(results, figures)

    for dataset in summary["datasets"][1:]:
        yield Heading(name_of(dataset), dataset)
        yield from _pictures(results, figures, *(f"{name}_{dataset}" for name in REPEATED))
        yield from _classification(results, dataset)

    yield Heading("How it was measured", "measured")
    yield from _measured(results)

    yield Heading("Run it again", "again")
    yield Code(f"python scripts/study{RUN.get(meta['scale'], '')}")
    yield Paragraph(
        "Every number on this page is in `results.json`, beside each run's settings and seed. With the same seed, "
        "versions "
        "and processor the accuracies come out the same; times don't."
    )


def _headline(summary: Mapping[str, Any]) -> Table:
    rows = []
    for dataset, head in summary["headline"].items():
        for framework, row in head["frameworks"].items():
            accuracy = row["accuracy"]
            rows.append(
                (
                    f"{name_of(framework)}, {name_of(dataset)}",
                    percent(accuracy["mean"]),
                    interval(accuracy["low"], accuracy["high"]),
                    count(accuracy["n"]),
                    percent(row["macro_f1"]),
                    seconds(row["train_seconds"]),
                    count(row["images_per_second"]),
                    NOTHING if row["peak_memory_mib"] is None else f"{count(row['peak_memory_mib'])} MiB",
                )
            )
    columns = (
        "LeNet-5 in",
        "Test accuracy",
        "95 % interval (%)",
        "Seeds",
        "Macro-F1",
        "Training",
        "Images/s",
    )
    how = listed(
        [
            f"{name_of(name)}: {count(head['train_size'])} training images, {head['epochs']} epochs"
            for name, head in summary["headline"].items()
        ]
    )
    return Table(
        f"{how}; batches of 128, Adam, learning rate 0.001",
        (*columns, "Peak memory"),
        tuple(rows),
        frozenset(range(1, 8)),
    )


def _headline_words(summary: Mapping[str, Any]) -> Iterator[Block]:
    items = []
    for dataset, head in summary["headline"].items():
        if head["difference"]:
            overlap = {True: "; the intervals overlap", False: "; the intervals do not overlap", None: ""}[
                head["overlap"]
            ]
            items.append(
                f"{name_of(dataset)}: fcnn minus PyTorch is {points_interval(head['difference'])} points, paired by "
                f"seed{overlap}."
            )
        if head["speed_ratio"]:
            items.append(f"{name_of(dataset)}: fcnn's images/s are {ratio(head['speed_ratio'])} PyTorch's.")
    if items:
        yield Bullets(tuple(items))
    yield Paragraph(
        "Macro-F1, time, images/s and peak memory (of the whole process, data included) are of one run that had the "
        "machine to itself. Intervals are t-intervals of the mean over seeds; one seed has none."
    )


def _explanation(results: Results, figures: Figures) -> Iterator[Block]:
    summary = results["summary"]
    yield Paragraph(
        "Three things are varied one at a time, all else equal: the framework, the initialisation, the number of "
        "training "
        "images. Both frameworks get the same images in the same batches."
    )
    effects = summary["effects"]
    if not effects:
        yield Paragraph("The sweep that this needs has not been run.", "notice")
    else:
        rows = tuple(
            (
                count(row["train_size"]),
                percent(row["mean"]),
                points_interval(row["framework"]),
                points_interval(row["init"]),
                points_interval(row["both"]),
                NOTHING if row["seed_sd"] is None else f"{100 * row['seed_sd']:.2f}",
            )
            for row in effects
        )
        columns = (
            "Training images",
            "Mean accuracy",
            "Framework: fcnn − PyTorch",
            "Initialisation: He − PyTorch's default",
            "Both",
            "Deviation between seeds",
        )
        yield Table(
            "What one change makes, in points of test accuracy, with 95 % intervals over seeds. The report's gap is "
            "3.1",
            columns,
            rows,
            frozenset(range(6)),
        )
    yield from _pictures(results, figures, "effects", "grid")
    if summary["variance"]:
        shares = summary["variance"]["shares"]
        yield Table(
            f"Shares of the variance of accuracy over all {count(summary['variance']['runs'])} runs of the sweep",
            ("", *(name_of(name).capitalize() for name in shares)),
            (("share", *(percent(value, 1) for value in shares.values())),),
            frozenset(range(1, 6)),
        )
    yield from _reached(summary)
    if summary["grid"]:
        yield _grid(summary["grid"])
    yield from _pictures(results, figures, "parting")
    if summary["parting"]:
        yield Table(
            "From equal weights on equal batches: how far the frameworks part within an epoch",
            ("Precision", "Steps", "Loss gap, 10 steps", "100 steps", "All steps", "Distance of the weights"),
            tuple(
                (
                    dtype,
                    count(row["steps"]),
                    *(tiny(row[k]) for k in ("gap_10", "gap_100", "max_loss_gap", "final_distance")),
                )
                for dtype, row in summary["parting"].items()
            ),
            frozenset(range(1, 6)),
        )


def _grid(grid: Sequence[Mapping[str, Any]]) -> Table:
    """The sweep: a row a training size and framework, a column an initialisation."""
    inits = list(dict.fromkeys(row["init"] for row in grid))
    lines: dict[tuple[str, int, str], dict[str, str]] = {}
    for row in grid:
        limits = f" ({interval(row['low'], row['high'])})" if row["low"] is not None else ""
        text = f"{percent(row['mean'])}{limits}, {row['n']} {'seed' if row['n'] == 1 else 'seeds'}"
        lines.setdefault((row["dataset"], row["train_size"], row["framework"]), {})[row["init"]] = text
    return Table(
        "Test accuracy after the last epoch, with 95 % intervals over seeds, by training size and initialisation",
        ("Data set", "Training images", "Framework", *map(name_of, inits)),
        tuple(
            (name_of(dataset), count(size), name_of(framework), *(found.get(init, NOTHING) for init in inits))
            for (dataset, size, framework), found in lines.items()
        ),
        frozenset({1}),
    )


def _reached(summary: Mapping[str, Any]) -> Iterator[Block]:
    """At how many images each framework reaches the report's two accuracies."""
    if summary["main"] != "mnist" or not summary["reached"]:
        return
    rows = []
    for framework, places in summary["reached"].items():
        for level, place in places.items():
            size = {
                "below": "fewer than were tried",
                "above": "more than were tried",
                "between": f"about {rounded(place['size'])}" if place["size"] else "",
            }[place["where"]]
            others = [f"{name_of(other)}: {percent(value, 1)}" for other, value in place["others"].items()]
            rows.append((name_of(framework), percent(float(level), 1), size, listed(others) if others else NOTHING))
    yield Table(
        f"How many training images give the report's accuracies ({name_of(summary['init'])} weights, interpolated)",
        ("Framework", "Accuracy", "Training images", "The other framework there"),
        tuple(rows),
        frozenset({1, 2, 3}),
    )


def _classification(results: Results, dataset: str | None) -> Iterator[Block]:
    """The classification report of the detailed run of each framework, side by side."""
    reports = {f: cell["result"]["report"] for f, cell in Study(results, {}, _no_images).details(dataset or "").items()}
    if not reports:
        return
    first = next(iter(reports.values()))
    lines = [(name, [report["classes"][name] for report in reports.values()]) for name in first["classes"]]
    lines += [
        (f"{kind} average", [report[key] for report in reports.values()])
        for kind, key in (("macro", "macro"), ("weighted", "weighted"))
    ]
    scores = ("precision", "recall", "f1")
    rows = [
        (name, *(percent(row[score]) for row in found for score in scores), count(found[0]["support"]))
        for name, found in lines
    ]
    blank = tuple(NOTHING for _ in scores[1:])
    # Accuracy is one number: it stands under precision, with nothing beside it.
    accuracy = [value for report in reports.values() for value in (percent(report["accuracy"]), *blank)]
    rows.append(("accuracy", *accuracy, count(first["macro"]["support"])))
    columns = [
        f"{name_of(f).removesuffix(' (NumPy)')} {score}" for f in reports for score in ("precision", "recall", "F1")
    ]
    yield Table(
        f"Classification report, {name_of(dataset or '')} test set, one run each",
        ("Class", *columns, "Images"),
        tuple(rows),
        frozenset(range(1, len(columns) + 2)),
    )


def _tables_of_training(summary: Mapping[str, Any]) -> Iterator[Block]:
    found = summary["batch_sizes"]
    if found:
        yield Table(
            f"Batch sizes, {count(found['train_size'])} training images; times of runs that shared the machine",
            (
                "Framework",
                "Batch size",
                "Validation accuracy",
                "Deviation",
                "95 % interval (%)",
                "Seeds",
                "Seconds an epoch",
            ),
            tuple(
                (
                    name_of(row["framework"]),
                    count(row["batch_size"]),
                    percent(row["mean"]),
                    NOTHING if row["sd"] is None else f"{100 * row['sd']:.2f}",
                    interval(row["low"], row["high"]),
                    count(row["n"]),
                    seconds(row["seconds_per_epoch"]),
                )
                for row in found["rows"]
            ),
            frozenset(range(1, 7)),
        )


def _method(results: Results, figures: Figures) -> Iterator[Block]:
    summary = results["summary"]
    checks = summary["gradient_checks"]
    if checks:
        yield Paragraph(
            "Every derivative in fcnn is written by hand. Each is compared with central differences in float64; the "
            "worst "
            f"relative error of all {count(checks['count'])} checks is {tiny(checks['worst'])} "
            f"({checks['worst_name']})."
        )
        yield Table(
            "Gradient checks: worst relative error",
            ("Layer or loss", "Training mode", "Evaluation mode", "Arrays compared"),
            tuple(
                (row["name"], tiny(row["train"]), tiny(row["eval"]), count(row["comparisons"]))
                for row in checks["rows"]
            ),
            frozenset({1, 2, 3}),
        )
    yield from _pictures(results, figures, "ablations")
    found = summary["ablations"]
    if found:
        yield Table(
            f"Ablations of fcnn's LeNet-5, {count(found['train_size'])} training images; differences paired by seed",
            ("Change", "Learning rate", "Accuracy", "Deviation", "Seeds", "Difference in points (95 % interval)"),
            tuple(
                (
                    row["name"],
                    f"{row['settings']['lr']:g}",
                    percent(row["mean"]),
                    NOTHING if row["sd"] is None else f"{100 * row['sd']:.2f}",
                    count(row["n"]),
                    points_interval(row["difference"]),
                )
                for row in found["rows"]
            ),
            frozenset(range(1, 6)),
        )


def _measured(results: Results) -> Iterator[Block]:
    meta, summary = results["meta"], results["summary"]
    versions, hardware = meta["versions"], meta["hardware"]
    seeds = sorted({cell["config"]["seed"] for cell in results["cells"]})
    told = listed([f"{name} {version}" for name, version in versions.items() if version])
    yield Bullets(
        (
            "LeNet-5 with ReLU and max pooling, layer by layer the same in both frameworks; the same images, the same "
            "splits, the same batches in the same order. Weights are drawn by each framework's own generator from the "
            "same "
            "distribution.",
            "Validation is the test set, evaluated after each epoch. Nothing is chosen by it: not the epoch, not a "
            "setting.",
            "Training loss and accuracy are means over the epoch, while the weights change; so validation can be "
            "better.",
            "Time is that of the training steps alone, without evaluation and loading.",
            f"{count(len(results['cells']))} runs, seeds {listed([str(seed) for seed in seeds])}, "
            f"{seconds(meta['seconds'])} in all, on {meta['date']}, commit `{meta['git_commit'] or 'unknown'}`.",
            f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']:.1f} GiB, "
            f"{hardware['system']}; "
            f"{meta['threads']} threads for the timed runs; {told}.",
        )
    )
    if summary["reliability"]:
        yield Paragraph(
            "Expected calibration error: the mean over images of |accuracy − confidence| of the image's bin, of ten."
        )


def _pictures(results: Results, figures: Figures, *names: str) -> Iterator[Block]:
    """The figures of these names that were drawn, in this order."""
    study = Study(results, {}, _no_images)
    known = {name: (dataset, plot) for name, dataset, plot in entries(study, every=True)}
    for name in names:
        if name in figures and name in known:
            dataset, plot = known[name]
            caption = plot.caption(study, dataset)
            yield Picture(plot.title, caption, f"{plot.title}, {name_of(dataset)}. {caption}", *figures[name])


def _no_images(name: str) -> Any:
    raise LookupError(f"captions need no images, got asked for {name}")
