"""The command's errors. Sampling is in tests/models, that a trained run continues a story in tests/end_to_end."""

import subprocess
import sys

from tti.configuration import quoted


def test_values_are_taken_as_they_stand():
    assert quoted(["prompt=One, 'two'", "top_k=3"], ["prompt"]) == [r"prompt='One, \'two\''", "top_k=3"]


def test_a_folder_without_a_run_is_one_clear_line(tmp_path):
    command = [sys.executable, "-m", "tti.generate", f"run={tmp_path}", "prompt=Hi, there"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {tmp_path} holds no run (no config.yaml). Runs nearby: none"
