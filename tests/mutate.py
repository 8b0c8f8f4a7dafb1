"""Do the tests notice a change? Mutation testing of what computes, steps and saves, with cosmic-ray.

    python -m pip install -e ".[proof]"
    python tests/mutate.py ../mutants --workers 2 --record tests/mutation_result.json

Each module is changed in one place at a time (`+` becomes `-`, `<` becomes `<=`, a number one more, …), in a clone of
the last commit, never in the checkout, and its tests are run until the first fails. What no test notices has survived,
and is shown as a difference. The same command goes on after an end in the middle. All modules take some hours.
"""

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
# The quick tests first: most changes are noticed by them.
_OPS = "ops winograd table_ops numerical_edges misuse_network kernels layers"
TESTS = {
    **{path.relative_to(ROOT).as_posix(): _OPS for path in sorted((ROOT / "fcnn/ops").glob("[!_]*.py"))},
    "fcnn/training/optim.py": "optim table_optimizers misuse_training numerical_edges train rewriting",
    "fcnn/training/scaling.py": "optim table_optimizers misuse_training numerical_edges train",
    "fcnn/training/losses.py": "losses_metrics table_losses numerical_edges misuse_training torch_parity",
    "fcnn/training/checkpoint.py": "checkpoint models misuse_training",
}
# One other operator for each, the nearest by sense: of eleven replacements of `*` by something far off all are noticed.
_CONFIGURATION = """
[cosmic-ray]
module-path = {module}
timeout = 120.0
excluded-modules = []
test-command = {command}
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = [
  "core/ReplaceBinaryOperator_(?!Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_FloorDiv|Pow_Mul|LShift_RShift).*",
  "core/ReplaceComparisonOperator_(?!Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Is_IsNot|IsNot_Is).*",
  "core/ReplaceUnaryOperator_(?!Delete).*",
]
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="keeps the clones, and how far it is")
    parser.add_argument("modules", nargs="*", help=f"files, of: {', '.join(TESTS)} (default: all)")
    parser.add_argument("--workers", type=int, default=1, help="how many modules at a time (default: %(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants, drawn by a seed (default: all)")
    parser.add_argument("--record", type=Path, help="write the counts, and every survivor, to a JSON file")
    options = parser.parse_args()
    if unknown := set(options.modules) - TESTS.keys():
        parser.error(f"no tests are known for {', '.join(sorted(unknown))}")
    modules = sorted(options.modules or TESTS, key=lambda module: -(ROOT / module).stat().st_size)
    options.folder.mkdir(parents=True, exist_ok=True)
    clones: SimpleQueue[Path] = SimpleQueue()
    for number in range(options.workers):
        clone = options.folder.resolve() / f"clone{number}"
        if not clone.exists():
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        subprocess.run(["git", "checkout", "-q", "."], cwd=clone, check=True)  # a run that was killed left a mutant
        clones.put(clone)

    def tested(module: str) -> dict[str, object]:
        clone = clones.get()
        try:
            return run(module, clone, options.folder.resolve() / f"{module.replace('/', '.')}.sqlite", options.share)
        finally:
            clones.put(clone)

    with ThreadPoolExecutor(options.workers) as pool:
        found = dict(zip(modules, pool.map(tested, modules), strict=True))
    for module, counts in found.items():
        print(module, {name: value for name, value in counts.items() if name != "survivors"})
    if options.record:
        options.record.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def run(module: str, clone: Path, session: Path, share: float) -> dict[str, object]:
    """Test the mutants of a module that are left, and count."""
    tests = [f"tests/test_{name}.py" for name in TESTS[module].split()]
    command = " ".join([sys.executable, "-m pytest -n 0 -x -q -W ignore::SyntaxWarning", *tests])
    configuration = session.with_suffix(".toml")
    configuration.write_text(_CONFIGURATION.format(module=json.dumps(module), command=json.dumps(command)))
    environment = {**os.environ, "PYTHONPATH": str(clone), "OPENBLAS_NUM_THREADS": "1"}

    def call(program: str, *arguments: object) -> None:
        executable = str(Path(sys.executable).with_name(program))
        subprocess.run([executable, *map(str, arguments)], cwd=clone, env=environment, check=True, capture_output=True)

    if not session.exists():
        call("cosmic-ray", "init", configuration, session)
        call("cr-filter-operators", session, configuration)
        leave_out(session, share)
    call("cosmic-ray", "exec", configuration, session)
    with sqlite3.connect(session) as database:
        results = database.execute("select test_outcome, worker_outcome, diff from work_results").fetchall()
    outcomes = [(outcome, diff) for outcome, worker, diff in results if worker != "SKIPPED"]
    survivors = [diff for outcome, diff in outcomes if outcome == "SURVIVED"]
    for diff in survivors:
        print(diff, flush=True)
    return {"mutants": len(outcomes), "share": share, "survived": len(survivors), "survivors": survivors}


def leave_out(session: Path, share: float) -> None:
    """Mark all but a share of a session's mutants as skipped: the same ones each time."""
    with sqlite3.connect(session) as database:
        places = database.execute(
            "select job_id from mutation_specs where job_id not in (select job_id from work_results) "
            "order by start_pos_row, start_pos_col, operator_name, occurrence"
        ).fetchall()
        left_out = random.Random(0).sample(places, round(len(places) * (1 - share)))
        database.executemany("insert into work_results values ('SKIPPED', '', null, '', ?)", left_out)


if __name__ == "__main__":
    sys.exit(main())
