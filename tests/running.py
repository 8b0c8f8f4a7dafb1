"""Scripts in the tests' own process."""

import json
from pathlib import Path

import fcnn

SCRIPTS = Path(__file__).parents[1] / "scripts"


def runner(script, capsys):
    """A function that runs the script with such arguments: (exit code, standard output, standard error)."""

    def main(*arguments):
        try:
            code = script.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's way
            code = stop.code
        return code, *capsys.readouterr()

    return main


def few_digits(count):
    """The embedded digits with so many test images, which are quickly evaluated."""
    digits = fcnn.data.load("digits")
    return fcnn.Dataset(digits.train, digits.test.take(count), digits.name, digits.classes)


def json_objects(run):
    """A function that gives what the script of such a `run` prints with --json, where it complains of nothing."""

    def objects(*arguments):
        code, out, err = run(*arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return objects
