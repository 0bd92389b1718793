"""A job has the same configuration where it is launched and where it runs."""

import itertools

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate

from hydra_plugins.tti_modal._launch import compose as compose_job
from tti.configuration import as_on_a_gpu, conf_dir, identity


@pytest.mark.parametrize(
    "given", [["experiment=expt1", "seed=42"], ["experiment=demo", "model.d_model=32"], ["regularizer=l1", "seed=1,2"]]
)
def test_the_job_that_is_launched_is_the_run_that_is_composed_remotely(given):
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", given[:1], return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        parsed = OverridesParser.create().parse_overrides(given)
        sweeper = instantiate(config.hydra.sweeper)
        for overrides in itertools.chain(*sweeper.split_arguments(parsed, None)):
            job = compose_job(config, loader, overrides)
            folder = f"run_dir={job.remote}"
            with as_on_a_gpu():
                there = compose("train", [*overrides, "hydra.mode=RUN", folder], return_hydra_config=False)
                assert identity(there) == identity(job.config)
            assert there.run_dir == job.remote == str(job.folder)
            assert job.config.trainer.precision == "bf16-mixed"  # as on the GPU that it will have
            assert job.config.task.compile is True


def test_an_absolute_folder_lies_below_the_volume(make_jobs, tmp_path):
    (job,) = make_jobs("a", more=(f"runs={tmp_path}",))
    assert job.remote == f"{tmp_path}/demo-small/a/seed-42".lstrip("/")
    assert job.folder == tmp_path / "demo-small/a/seed-42"
