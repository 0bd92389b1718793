"""A worker of a sweep ends with the sweep."""

import os
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]
SWEEP = """
import multiprocessing, sys, time
from pathlib import Path
from filelock import FileLock
from tti.command import end_with_parent

def work(folder):
    lock = FileLock(Path(folder, "lock"))
    lock.acquire()
    end_with_parent()
    Path(folder, "begun").touch()
    time.sleep(600)

if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work, args=sys.argv[1:]).start()
"""


def test_a_job_of_a_killed_sweep_lets_its_folder_go(tmp_path):
    script = tmp_path / "sweep.py"
    script.write_text(SWEEP)
    sweep = subprocess.Popen([sys.executable, script, tmp_path], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        while not (tmp_path / "begun").exists():
            assert sweep.poll() is None
            time.sleep(0.05)
    finally:
        sweep.kill()
        sweep.wait()
    FileLock(tmp_path / "lock").acquire(timeout=60).lock.release()
