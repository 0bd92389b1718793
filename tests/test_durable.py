import errno
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from tti.durable import acquire, read_checkpoint, replacing, replacing_folder, write_atomically


def dead() -> int:
    """The id of a process that has ended."""
    process = multiprocessing.get_context("fork").Process(target=lambda: None)
    process.start()
    process.join()
    return process.pid or 0


def test_what_a_killed_process_left_is_removed_and_what_another_is_writing_is_not(tmp_path):
    machine = os.uname().nodename
    left, old, others = (tmp_path / f".{who}a.json.partial" for who in (f"{machine}-{dead()}.", "", f"{machine}-1."))
    for path in (left, old, others):
        path.write_text("half")
    write_atomically(tmp_path / "a.json", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", others.name}


def test_two_writers_of_one_file_do_not_meet(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    with replacing(path) as first:
        first.write(b"first")
        monkeypatch.setattr(os, "getpid", lambda: os.getppid())
        write_atomically(path, "second")
        assert path.read_text() == "second"
        monkeypatch.undo()
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_folder_do_not_meet(tmp_path, monkeypatch):
    path = tmp_path / "out"
    path.mkdir()
    (path / "old").touch()
    with replacing_folder(path) as first:
        (first / "first").touch()
        monkeypatch.setattr(os, "getpid", lambda: os.getppid())
        with replacing_folder(path) as second:
            (second / "second").touch()
        monkeypatch.undo()
        assert [each.name for each in path.iterdir()] == ["second"]
    assert [each.name for each in path.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_with_the_way_out(tmp_path, monkeypatch, number):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(ValueError, match=r"its file system keeps no locks.*nolock.*runs=FOLDER"):
        acquire(FileLock(tmp_path / ".lock"), timeout=0)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    torch.save({"global_step": 3, "weights": torch.arange(4096.0)}, path)
    return path


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7])
def test_a_changed_byte_is_found(checkpoint, place):
    content = bytearray(checkpoint.read_bytes())
    content[int(len(content) * place)] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
        read_checkpoint(checkpoint)


def test_what_is_no_checkpoint_is_said_to_be_none(checkpoint):
    assert read_checkpoint(checkpoint)["weights"].sum() == 4096 * 4095 / 2
    torch.save({"something": 1}, checkpoint)
    with pytest.raises(ValueError, match="is not a checkpoint of training"):
        read_checkpoint(checkpoint)
    torch.save({"global_step": Path("x")}, checkpoint)  # an object that only an unsafe load would create
    with pytest.raises(ValueError, match="is not a checkpoint of training"):
        read_checkpoint(checkpoint)
    checkpoint.write_text("text")
    with pytest.raises(ValueError, match="it was cut short, or is not a checkpoint"):
        read_checkpoint(checkpoint)
