"""Imports within the library point downwards only; `import fcnn` is light; everything public is documented."""

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fcnn

# From the ground up: a module may import those before it, and no other.
ORDER = [
    "fcnn.arrays",
    "fcnn.keys",
    "fcnn.tree",
    "fcnn.ops.layout",
    "fcnn.ops.window",
    "fcnn.ops.im2col",
    "fcnn.ops.lowered",
    "fcnn.ops.winograd",
    "fcnn.ops.conv",
    "fcnn.ops.pool",
    "fcnn.ops.dense",
    "fcnn.ops.norm",
    "fcnn.ops.activation",
    "fcnn.ops.dropout",
    "fcnn.ops",
    "fcnn.initializers",
    "fcnn.layer",
    "fcnn.layers",
    "fcnn.combinators",
    "fcnn.losses",
    "fcnn.metrics",
    "fcnn.schedules",
    "fcnn.optim",
    "fcnn.data.types",
    "fcnn.data.readers",
    "fcnn.data.sources",
    "fcnn.data.fetch",
    "fcnn.data.digits",
    "fcnn.data.loading",
    "fcnn.data.batches",
    "fcnn.data.augment",
    "fcnn.data",
    "fcnn.train",
    "fcnn.processes",
    "fcnn.parallel",
    "fcnn.checkpoint",
    "fcnn.gradcheck",
    "fcnn.models",
    "fcnn.plots",
    "fcnn",
]

ROOT = Path(fcnn.__file__).parent
FILES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module named in an import, at the top or inside a function, with what was taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path: Path) -> set[str]:
    """The library's modules that a file imports: for `from fcnn.a import b`, fcnn.a.b if that is one, else fcnn.a."""
    named = {name for name in imports(ast.parse(path.read_text("utf-8"))) if name.split(".")[0] == "fcnn"}
    return {name if name in FILES else name.rpartition(".")[0] for name in named}


def top_level_packages(path: Path) -> tuple[set[str], set[str]]:
    """The packages imported when the module is, and those imported anywhere in it."""
    tree = ast.parse(path.read_text("utf-8"))
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    eager = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) and id(n) not in lazy]
    first = {name.split(".")[0] for node in eager for name in imports(node)}
    return first, {name.split(".")[0] for name in imports(tree)}


def test_order_lists_every_module_once() -> None:
    assert sorted(ORDER) == sorted(FILES)


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_downwards(module: str) -> None:
    below = set(ORDER[: ORDER.index(module)])
    found = imported_modules(FILES[module])
    assert found <= below, f"{module} imports {found - below}, which stand above it"


def test_matplotlib_and_torch_are_kept_out() -> None:
    eager, anywhere = {}, {}
    for module, path in FILES.items():
        eager[module], anywhere[module] = top_level_packages(path)
    assert {module for module, names in eager.items() if "matplotlib" in names} == {"fcnn.plots"}
    assert {module for module, names in anywhere.items() if "matplotlib" in names} <= {"fcnn.plots", "fcnn.data.digits"}
    assert not {module for module, names in anywhere.items() if names & {"torch", "mpi4py"}}
    assert "fcnn.plots" not in set().union(*(imported_modules(path) for path in FILES.values()))


def test_import_loads_no_heavy_package() -> None:
    code = "import sys, fcnn; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"fcnn", "numpy"} <= set(loaded)
    assert not {"matplotlib", "torch", "PIL", "scipy", "mpi4py", "pandas"} & set(loaded)


def test_all_is_complete_and_sorted() -> None:
    assert list(fcnn.__all__) == sorted(set(fcnn.__all__))
    assert all(hasattr(fcnn, name) for name in fcnn.__all__)
    public = {name for name, value in vars(fcnn).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public <= set(fcnn.__all__), "imported into fcnn but not in __all__"


@pytest.mark.parametrize("module", ORDER)
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
