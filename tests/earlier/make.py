"""Make the run folders in this directory: run `python tests/earlier/make.py` in a checkout that has the commit.

They are written by commit b8c1b31, the last before options could be added without making earlier runs "another
configuration", but on stories of today's grammar: with the stories of another grammar they could not be continued or
evaluated, which another test covers. `baseline` has finished; `unfinished` was interrupted at step 12 of 20.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent.resolve()
CHECKOUT = HERE.parents[1]
COMMIT = "b8c1b31"
GRAMMAR = ("grammar", "lexicon", "features", "likelihood", "templates")  # modules of tti.data that generate the stories
OVERRIDES = [
    "model=tiny", "model.d_model=4", "model.n_layers=1", "model.n_heads=2", "model.context=32", "model.dropout=0.1",
    "data=grammar", "data.corpus.train=300", "data.corpus.validation=40", "data.corpus.test=20",
    "data.stories_per_step=8", "data.validation_tokens=1024", "trainer.max_steps=20", "trainer.val_check_interval=2",
    "trainer.log_every_n_steps=20", "callbacks.last.every_n_train_steps=2", "regularizer=l1", "threads=1",
]  # fmt: skip
INTERRUPTED = "+callbacks.signalled={_target_: additions.Signalled, number: 2, step: 11}"
KEPT = ("config.yaml", "overrides.yaml", "environment.jsonl", "tokenizer.json", "metrics.jsonl", "summary.json",
        ".start.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt")  # fmt: skip


def main() -> None:
    """Train both runs with the code of that commit, and copy the files of their run folders."""
    with tempfile.TemporaryDirectory() as work:
        code = Path(work, "code")
        subprocess.run(["git", "worktree", "add", "--detach", str(code), COMMIT], cwd=CHECKOUT, check=True)
        try:
            for module in GRAMMAR:
                shutil.copy(CHECKOUT / f"tti/data/{module}.py", code / f"tti/data/{module}.py")
            for name, more in (("baseline", ()), ("unfinished", (INTERRUPTED,))):
                _train(code, Path(work), [*OVERRIDES, f"run_dir={name}", *more])
                _copy(Path(work, name), HERE / name)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(code)], cwd=CHECKOUT, check=True)


def _train(code: Path, work: Path, overrides: list[str]) -> None:
    path = os.pathsep.join([str(code), str(code / "tests/end_to_end/additions")])
    environment = {**os.environ, "PYTHONPATH": path, "TTI_CACHE": "cache", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "tti.train", *overrides], cwd=work, env=environment, check=False)


def _copy(made: Path, kept: Path) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    for name in KEPT:
        if (made / name).exists():
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made / name, kept / name)


if __name__ == "__main__":
    main()
