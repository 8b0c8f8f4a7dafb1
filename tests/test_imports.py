"""The house: rooms import only what is below, a name has one import path, `import fcnn` is light, all is documented."""

import ast
import graphlib
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fcnn

ROOT = Path(fcnn.__file__).parents[1]
SCRIPTS = ROOT / "scripts"

# What a room may import: itself, and these. A room is a folder, or a file of scripts.
ROOMS = {
    "fcnn.values": set(),
    "fcnn.ops": {"fcnn.values"},
    "fcnn.network": {"fcnn.ops", "fcnn.values"},
    "fcnn.data": {"fcnn.ops", "fcnn.values"},
    "fcnn.training": {"fcnn.network", "fcnn.data", "fcnn.ops", "fcnn.values"},
    "fcnn.exchange": {"fcnn.training", "fcnn.network", "fcnn.data", "fcnn.ops", "fcnn.values"},
    "fcnn.inspection": {"fcnn.training", "fcnn.network", "fcnn.data", "fcnn.ops", "fcnn.values"},
}
LIBRARY = {"fcnn", *ROOMS}
SCRIPT_ROOMS = {
    "study.experiment": {"machine", "options", "stopping", *LIBRARY},
    "study.findings": {"study.experiment", "options", *LIBRARY},
    "study.figures": {"study.findings", "study.experiment", *LIBRARY},
    "study.page": {"machine", "study.figures", "study.findings", "study.experiment", *LIBRARY},
    "study": {"console", "machine", "options", "stopping"}
    | {"study.page", "study.figures", "study.findings", "study.experiment", *LIBRARY},
    "records": {"console", "machine", "options", "stopping", *LIBRARY},
    "bench": {"records", "console", "machine", "options", "stopping", *LIBRARY},
    "machine": {"fcnn"},
    "options": {"fcnn"},
    "console": {"stopping", *LIBRARY},
    "model_files": {"console", "options", *LIBRARY},
    "stopping": set(),
    "ranks": {"console", *LIBRARY},
    "settings": {"console", "options", *LIBRARY},
    "train": {"settings", "ranks", "options", "console", "stopping", *LIBRARY},
    "tour": {"options", "console", "stopping", *LIBRARY},
    "one_file": {"fcnn"},
    "convert": {"model_files", "options", "console", "stopping", *LIBRARY},
    "explore": {"model_files", "options", "console", "stopping", *LIBRARY},
    "finding": {"machine", "console", *LIBRARY},
    "predict": {"finding", "model_files", "machine", "options", "console", "stopping", *LIBRARY},
}
# Where a name may be taken from although it is written elsewhere: what these list is public.
FACES = {"fcnn", "fcnn.ops", "fcnn.data", "fcnn.network.layers", "fcnn.network.models", "fcnn.training.parallel"}


def modules(folder: Path, below: Path) -> dict[str, Path]:
    """Every module of a folder by its import name, seen from `below`."""
    return {
        ".".join(path.relative_to(below).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(folder.rglob("*.py"))
    }


FILES = modules(ROOT / "fcnn", ROOT)
ALL = FILES | modules(SCRIPTS, SCRIPTS)


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module named in an import, at the top or inside a function, with what was taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path) -> set[str]:
    """The modules of this project that a file imports: for `from fcnn.a import b`, fcnn.a.b if that is one."""
    named = set(imports(ast.parse(path.read_text("utf-8"))))
    return {found for name in named if (found := name if name in ALL else name.rpartition(".")[0]) in ALL}


def room_of(module: str) -> str:
    """The room in which a module is."""
    rooms = [room for room in ROOMS | SCRIPT_ROOMS if module == room or module.startswith(f"{room}.")]
    return max(rooms, key=len, default=module)


def top_level_packages(path: Path) -> tuple[set[str], set[str]]:
    """The packages imported when the module is, and those imported anywhere in it."""
    tree = ast.parse(path.read_text("utf-8"))
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    eager = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) and id(n) not in lazy]
    first = {name.split(".")[0] for node in eager for name in imports(node)}
    return first, {name.split(".")[0] for name in imports(tree)}


def test_every_file_is_in_a_room() -> None:
    assert {room_of(module) for module in ALL} == {"fcnn", *ROOMS, *SCRIPT_ROOMS}


@pytest.mark.parametrize("module", ALL)
def test_imports_point_downwards(module: str) -> None:
    room = room_of(module)
    found = {room_of(name) for name in imported_modules(ALL[module])} - {room}
    allowed = (ROOMS | SCRIPT_ROOMS)[room] if room != "fcnn" else set(ROOMS)
    assert found <= allowed, f"{module} imports from {found - allowed}, which {room} may not"


def test_no_circle_between_files() -> None:
    graph = {module: imported_modules(path) - {module} for module, path in ALL.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(ALL)  # raises CycleError, with the circle


@pytest.mark.parametrize("module", ALL)
def test_a_name_is_imported_from_where_it_is_written(module: str) -> None:
    tree = ast.parse(ALL[module].read_text("utf-8"))
    for node in [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module in ALL]:
        for name in [alias.name for alias in node.names]:
            if f"{node.module}.{name}" in ALL or node.module in FACES:
                continue
            assert name in written(ALL[node.module]), f"{module} takes {name} from {node.module}, which only imports it"


def written(path: Path) -> set[str]:
    """The names that a module defines itself."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    return found


@pytest.mark.parametrize("module", [module for module in FILES if "." in module])
def test_nothing_hides_a_module(module: str) -> None:
    here = importlib.import_module(module)
    package, _, name = module.rpartition(".")
    assert getattr(sys.modules[package], name) is here


def test_no_file_is_long() -> None:
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in ALL.items()}
    assert {module: count for module, count in lines.items() if count > 400} == {}


def test_matplotlib_and_torch_are_kept_out() -> None:
    eager, anywhere = {}, {}
    for module, path in FILES.items():
        eager[module], anywhere[module] = top_level_packages(path)
    plots = "fcnn.inspection.plots"
    assert {module for module, names in eager.items() if "matplotlib" in names} == {plots}
    assert {module for module, names in anywhere.items() if "matplotlib" in names} <= {plots, "fcnn.data.digits"}
    assert not {module for module, names in anywhere.items() if names & {"torch", "mpi4py"}}
    assert plots not in set().union(*(imported_modules(path) for path in FILES.values()))


def test_a_clone_beside_a_script_is_not_taken_for_the_library(tmp_path: Path) -> None:
    (tmp_path / "fcnn").mkdir()  # Python takes a folder for a package where it finds no other
    subprocess.run([sys.executable, "-c", "import fcnn; fcnn.serial"], cwd=tmp_path, check=True)


def test_import_loads_no_heavy_package() -> None:
    code = "import sys, fcnn; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"fcnn", "numpy"} <= set(loaded)
    assert not {"matplotlib", "torch", "PIL", "scipy", "mpi4py", "pandas"} & set(loaded)


def test_all_is_complete() -> None:
    assert len(fcnn.__all__) == len(set(fcnn.__all__))
    assert all(hasattr(fcnn, name) for name in fcnn.__all__)
    public = {name for name, value in vars(fcnn).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public <= set(fcnn.__all__), "imported into fcnn but not in __all__"


@pytest.mark.parametrize("module", FILES)
def test_everything_public_is_documented(module: str) -> None:
    here = importlib.import_module(module)
    assert here.__doc__
    for name, value in vars(here).items():
        ours = getattr(value, "__module__", None) == module and not name.startswith("_")
        if ours and (inspect.isfunction(value) or inspect.isclass(value)):
            assert value.__doc__, f"{module}.{name} has no docstring"
            inner = vars(value).items() if inspect.isclass(value) else ()
            for method, function in inner:
                plain = getattr(function, "fget", function)
                if not method.startswith("_") and inspect.isfunction(plain):
                    assert plain.__doc__, f"{module}.{name}.{method} has no docstring"
