import io
import json

import pytest
from rich.console import Console

from tti.launchers.board import Board


@pytest.fixture
def board(make_jobs):
    jobs = make_jobs("a", "b", "c", "d")
    board = Board(jobs)
    far = {"step": 1200, "max_steps": 5000, "seconds_left": 600, "train/loss": 2.34567, "train/tokens_per_second": 1e5}
    board.running(jobs[1], json.dumps(far).encode())
    board.ended(jobs[2], "done")
    board.ended(jobs[3], "failed", "ValueError: why\nand more")
    board.running(jobs[0], None)  # its call exists, but training has not begun
    return board


def test_every_job_has_a_line_with_how_far_it_is(board):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(board._table())
    lines = [line.split() for line in console.export_text().splitlines() if "seed-42" in line]
    assert lines == [
        ["a/seed-42", "queued"],
        ["b/seed-42", "running", "1,200/5,000", "100,000", "2.3457", "10", "min"],
        ["c/seed-42", "done"],
        ["d/seed-42", "failed"],
    ]
    assert board._table().caption == "1 queued, 1 running, 1 done, 1 failed"


def test_where_there_is_no_terminal_every_change_is_a_line(board, capsys, make_jobs):
    jobs = make_jobs("a")
    other = Board(jobs)
    for _ in range(2):
        other.running(jobs[0], b'{"step": 1, "max_steps": 2, "seconds_left": 1}')
    other.ended(jobs[0], "failed", "why\nmore")
    assert capsys.readouterr().err.splitlines()[-2:] == ["a/seed-42: running", "a/seed-42: failed why"]
