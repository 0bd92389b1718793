import errno
from pathlib import Path

import pytest
import torch

from tti.callbacks.checkpoints import DurableCheckpoints


def test_a_checkpoint_is_written_with_the_folders_above_it(tmp_path: Path):
    path = tmp_path / "a/b/last.ckpt"
    DurableCheckpoints().save_checkpoint({"x": torch.arange(3)}, path)
    assert torch.load(path, weights_only=True)["x"].tolist() == [0, 1, 2]
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_failed_write_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "last.ckpt"
    DurableCheckpoints().save_checkpoint({"x": 1}, path)

    def full(checkpoint: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        DurableCheckpoints().save_checkpoint({"x": 2}, path)
    assert torch.load(path, weights_only=True) == {"x": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
