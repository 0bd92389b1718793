"""``hydra/launcher=modal`` through the real command line, as far as possible without an account."""

import pytest
from small import SMALL

SWEEP = [override for override in SMALL if not override.startswith("hydra.mode")]
NO_ACCOUNT = {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": "", "MODAL_CONFIG_PATH": "/nothing/modal.toml"}


def test_a_dry_run_says_what_the_runs_take_and_leaves_none(tti):
    done = tti(*SWEEP, "seed=1,2", "hydra/launcher=modal", "hydra.launcher.dry_run=true", **NO_ACCOUNT).ok()
    assert "8 jobs on A100-40GB, 8 at once" in done.output
    assert "at worst $" in done.output
    assert "finished" not in done.output  # there is no table of missing jobs
    assert not list(tti.folder.rglob("seed-*"))


def test_without_an_account_it_says_what_to_do_and_leaves_no_run(tti):
    message = tti(*SWEEP, "hydra/launcher=modal", "variant=baseline,topk", **NO_ACCOUNT).failed()
    assert "Modal knows no account of this machine" in message
    assert "`modal setup`" in message
    assert "not started" not in message
    assert not list(tti.folder.rglob("config.yaml"))


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("gpu=A1000", "which has T4, L4, A10"),
        ("gpuu=A100", "hydra.launcher has: "),
        ("retries=many", "retries=many must be an integer from 0 to 10"),
    ],
)
def test_a_wrong_option_costs_nothing(tti, option, answer):
    message = tti(*SWEEP, "hydra/launcher=modal", f"hydra.launcher.{option}", **NO_ACCOUNT).failed()
    assert answer in message
    assert not list(tti.folder.rglob("config.yaml"))


def test_what_only_making_the_network_shows_costs_nothing(tti):
    dry = ["hydra/launcher=modal", "hydra.launcher.dry_run=true"]
    message = tti(*SWEEP, *dry, "model.n_heads=5", **NO_ACCOUNT).failed()
    assert "d_model=32 is not a multiple of n_heads=5" in message


def test_a_typo_in_a_job_costs_nothing(tti):
    assert "max_stepz" in tti(*SWEEP, "hydra/launcher=modal", "trainer.max_stepz=3", **NO_ACCOUNT).failed()


def test_training_here_does_not_import_modal(tti):
    """Nor is any startup code of the launchers imported: sweeps only need `Leave`."""
    spy = (
        "import sys, lightning\n"
        "fit = lightning.Trainer.fit\n"
        "def spied(*args, **kwargs):\n"
        "    print('MODAL' if 'modal' in sys.modules else 'LIGHT')\n"
        "    return fit(*args, **kwargs)\n"
        "lightning.Trainer.fit = spied\n"
    )
    for more in (["hydra.mode=RUN"], ["variant=topk"]):
        assert "LIGHT" in tti(*SWEEP, *more, "trainer.max_steps=1", patch=spy).ok().output
