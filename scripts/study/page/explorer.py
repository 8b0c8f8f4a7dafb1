"""The page beside the report on which the study's own network can be tried (`fcnn.explore`)."""

from pathlib import Path

import fcnn
from fcnn.values.files import replacing
from study.figures.plot import Study
from study.findings.wording import name_of

NAME = "explorer.html"


def write_explorer(study: Study, folder: Path) -> str | None:
    """Write it into `folder`, of the library's detailed run on the main data set; its name, None without such a run."""
    if not study.summary["datasets"]:
        return None
    main = study.summary["main"]
    cell, arrays = study.details(main).get("fcnn"), study.arrays_of(main).get("fcnn", {})
    values = {
        part: fcnn.tree.unflatten(
            {name.removeprefix(f"{part}/"): arrays[name] for name in arrays if name.startswith(f"{part}/")}
        )
        for part in ("params", "state")
    }
    if cell is None or not values["params"]:
        return None
    data, config = study.images(main), cell["config"]
    network = fcnn.lenet5(
        data.train.in_shape, len(data.classes), batch_norm=config["batch_norm"], dropout=config["dropout"]
    )
    model = fcnn.Model(network, values["params"], values["state"], in_shape=data.train.in_shape, classes=data.classes)
    title = f"LeNet-5 on {name_of(main)}, to see it think"
    with replacing(folder / NAME) as file:
        file.write(fcnn.explore(model, data.test, title=title).encode())
    return NAME
