"""A few hundred of the damaged files that tests/fuzz.py makes by the thousand."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz.py")


def fuzz(*arguments):
    return subprocess.run([sys.executable, FUZZ, *map(str, arguments)], capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(sys.platform == "win32", reason="it forks, to survive crashes")
def test_damaged_files_come_out_right_or_with_a_sentence_and_a_stopped_run_goes_on(tmp_path):
    state, record = tmp_path / "state.json", tmp_path / "record.json"
    arguments = ["--inputs", 800, "--seed", 1, "--state", state, "--failures", tmp_path / "f", "--record", record]
    begun = subprocess.Popen([sys.executable, FUZZ, *map(str, arguments)])
    while not state.exists():
        time.sleep(0.01)
    begun.kill()
    begun.wait()
    kept = json.loads(state.read_text())
    assert 0 < kept["next"] <= 800
    done = fuzz(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(record.read_text())
    assert result["inputs"] == 800
    for kind, counts in result["kinds"].items():
        assert counts["right"] + counts["sentence"] == 100, kind
        assert counts["right"] > 5, kind
        assert counts["sentence"] > 5, kind
