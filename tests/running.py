"""Scripts in the tests' own process."""

import importlib.util
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"


def load_script(name):
    """The module scripts/<name>.py, loaded with its folder on the path, as Python does for a script."""
    spec = importlib.util.spec_from_file_location(f"{name}_script", SCRIPTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec.loader.exec_module(script)
    finally:
        sys.path.remove(str(SCRIPTS))
    return script


def runner(script, capsys):
    """A function that runs the script with such arguments: (exit code, standard output, standard error)."""

    def main(*arguments):
        try:
            code = script.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's way
            code = stop.code
        return code, *capsys.readouterr()

    return main
