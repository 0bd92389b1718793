"""The composition of sweeps, without starting a job."""

import itertools
import json
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from hydra_plugins.tti_variants._outcome import report
from tti.configuration import alternatives, conf_dir, identity, spell, spell_variant


def jobs(experiment: str, *arguments: str) -> list[list[str]]:
    """The overrides of every job of `-m experiment=… arguments`."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    sweeper = instantiate(config.hydra.sweeper)  # not through the class, since Hydra imports its plugins a second time
    params = config.hydra.sweeper.get("params") or {}
    given = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create().parse_overrides([*given, f"experiment={experiment}", *arguments])
    return list(itertools.chain(*sweeper.split_arguments(parsed, None)))


def composed(job: list[str]) -> DictConfig:
    """A job's configuration, as its process sees it."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", job, return_hydra_config=True)
    with open_dict(config):
        del config["hydra"]
    return config


@pytest.fixture(scope="module")
def expt1() -> list[DictConfig]:
    return [composed(job) for job in jobs("expt1")]


def test_experiment_1_has_21_jobs_in_folders_of_their_own(expt1):
    assert len(expt1) == 21
    assert len({config.run_dir for config in expt1}) == 21
    assert {config.seed for config in expt1} == {42, 43, 44}


def test_the_arms_of_experiment_1_train_what_their_names_say(expt1):
    weights = {"1e-3": 1e-3, "1e-2": 1e-2, "1e-1": 1e-1}
    expected = {f"{name}_{w}": {name: v} for name in ("orthogonality", "anti_polysemantic") for w, v in weights.items()}
    found = {config.variant: {name: r.weight for name, r in config.regularizer.items()} for config in expt1}
    assert found == {"baseline": {}, **expected}
    assert {config.run_dir for config in expt1} == {
        f"runs/expt1/{variant}/seed-{seed}" for variant in found for seed in (42, 43, 44)
    }


def test_the_arms_of_experiment_1_differ_in_nothing_else(expt1):
    def rest(config: DictConfig) -> dict[str, object]:
        return {k: v for k, v in identity(config).items() if "regularizer" not in k and "seed" not in k}

    assert all(rest(config) == rest(expt1[0]) for config in expt1)


def test_a_sweep_is_narrowed_by_variant_and_seed():
    assert len(jobs("expt1", "seed=42")) == 7
    assert len(jobs("expt1", "variant=baseline,orthogonality_1e-2")) == 6
    (job,) = jobs("expt1", "variant=baseline", "seed=42")
    assert composed(job).run_dir == "runs/expt1/baseline/seed-42"


def test_an_unknown_variant_is_named_with_those_there_are():
    with pytest.raises(
        ConfigCompositionException, match=r"no variant basline in this experiment; it has baseline, orthogonality_1e-3"
    ):
        jobs("expt1", "variant=basline")


def test_variants_are_chosen_by_a_pattern():
    chosen = [job[-2] for job in jobs("expt1", "variant=glob(orthogonality*)", "seed=1")]
    assert len(chosen) > 1
    assert all(variant.startswith("variant=orthogonality") for variant in chosen)
    with pytest.raises(ConfigCompositionException, match=r"variant=glob\(l9\*\) matches nothing"):
        jobs("expt1", "variant=glob(l9*)")


def test_a_range_is_no_list_of_values():
    with pytest.raises(ConfigCompositionException, match="write the values, as in optimizer"):
        jobs("expt1", "optimizer.lr=interval(0,1)")


def test_overrides_apply_to_all_jobs_and_name_their_folders(expt1):
    configs = [composed(job) for job in jobs("expt1", "model=mini", "trainer.max_steps=7")]
    assert len(configs) == 21
    assert {(config.model.d_model, config.trainer.max_steps) for config in configs} == {(128, 7)}
    folders = {config.run_dir for config in configs}
    assert len(folders) == 21
    assert not folders & {config.run_dir for config in expt1}
    assert {Path(folder).parts[1] for folder in folders} == {"expt1-mini+trainer.max_steps-7"}


def test_the_command_lines_choice_beats_the_experiments():
    (config,) = [composed(job) for job in jobs("demo", "model=mini", "data=tinystories", "variant=baseline")]
    assert config.model.d_model == 128
    assert config.data.corpus._target_.endswith("TextCorpus")
    assert config.optimizer.lr == 12e-3  # the experiment's, unless set


def test_values_swept_on_the_command_line_get_folders_of_their_own():
    configs = [composed(job) for job in jobs("demo", "optimizer.lr=1e-3,3e-3", "seed=1,2")]
    assert len({config.run_dir for config in configs}) == len(configs) == 4 * 2 * 2


def test_a_name_of_ones_own_stands_for_all_overrides():
    configs = [composed(job) for job in jobs("demo", "model=mini", "name=small")]
    assert {Path(config.run_dir).parts[1] for config in configs} == {"demo-small"}


def test_what_has_no_effect_is_not_spelled():
    assert spell(["seed=1", "trainer.strategy=ddp", "logger=wandb", "overwrite=true"]) == ""


def test_overrides_are_spelled_readably():
    overrides = ["model=mini", "trainer.max_steps=100", "regularizer=[l1,orthogonality]"]
    assert spell(overrides) == "mini+trainer.max_steps-100+l1+orthogonality"
    assert spell_variant(overrides, named=False) == spell(overrides)
    assert spell_variant(overrides, named=True) == "l1+orthogonality"
    assert spell_variant(["model=mini"], named=True) == "baseline"


def test_long_names_are_cut_and_stay_apart():
    one, other = (spell([f"data.corpus.train={'x' * 300}{end}"]) for end in "ab")
    assert one != other
    assert len(one) < 140


def test_names_need_no_quotes():
    assert set(spell(["+regularizer.x={_target_: a.B, w: 1}", "optimizer.betas=[0.9,0.95]"])) <= set(
        "abcdefghijklmnopqrstuvwxyzB_.+-0123456789"
    )


@pytest.mark.parametrize(
    ("override", "there"),
    [("trainer.max_stepz=3", "max_steps"), ("model.mlp.keeep=1", "d_ff"), ("optimiser.lr=1", "optimizer")],
)
def test_a_misspelled_key_is_answered_with_those_there_are(override, there):
    with initialize_config_dir(conf_dir(), version_base="1.3"), pytest.raises(Exception) as raised:  # noqa: PT011
        compose("train", [override])
    assert there in alternatives(raised.value)


def test_other_errors_have_no_alternatives():
    assert alternatives(None) == alternatives(ValueError("x")) == ""


def test_experiment_5_has_24_jobs_whose_networks_and_terms_are_what_their_names_say():
    configs = [composed(job) for job in jobs("expt5")]
    assert len({config.run_dir for config in configs}) == len(configs) == 24
    wide = {config.variant for config in configs if "overcomplete" in config.model.mlp._target_}
    assert wide == {"overcomplete", "overcomplete_l1_3e-3", "overcomplete_l1_3e-2", "overcomplete_topk"}
    found = {config.variant: dict(config.regularizer) for config in configs}
    assert not found["baseline"]
    assert not found["overcomplete"]
    assert not found["online_sae_off"]["online_sae"].gradient_into_model
    assert found["online_sae_1e-1"]["online_sae"].gradient_into_model
    assert found["online_sae_1e-1"]["online_sae"].weight == 0.1
    assert found["overcomplete_l1_3e-2"]["decoder_l1"].weight == 3e-2


def test_the_kind_of_an_online_autoencoder_is_chosen_in_one_word():
    given = ["regularizer=[online_sae,l1]", "regularizer/autoencoder=standard", "variant=v"]
    config = composed(given)
    assert config.regularizer.online_sae.autoencoder.sparsity_weight > 0
    assert "l1" in config.regularizer
    with pytest.raises(ConfigCompositionException, match="autoencoder/gated"):
        composed(["regularizer=online_sae", "regularizer/autoencoder=gated"])


@pytest.mark.parametrize(
    "given",
    [
        ["data=tinystories", "data.corpus.train=a/stories.txt,b/stories.txt"],
        ["data=tinystories", "data.corpus.tokenizer=a/tok,b/tok", "data.corpus.train=a/x.txt,b/x.txt"],
        ["+model.extra='a b','a-b','a/b'"],
        ["+model.extra='x:y','x*y'", "seed=1,2"],
        ["name=mine", "optimizer.lr=1e-3,3e-3"],
        ["name=mine", "model=tiny,mini", "seed=1,2"],
        ["name=mine", "data=tinystories", "data.corpus.train=a/stories.txt,b/stories.txt"],
        ["threads=1,2"],
    ],
)
def test_jobs_that_differ_have_folders_of_their_own(given):
    several = jobs("demo", "variant=baseline,topk", *given)
    configs = [composed(job) for job in several]
    assert len({config.run_dir for config in configs}) == len(several) > 2
    assert several == jobs("demo", "variant=baseline,topk", *given)  # and the same ones again


def test_a_sweep_that_can_be_spelled_apart_has_no_digests():
    configs = [composed(job) for job in jobs("demo", "variant=baseline", "optimizer.lr=1e-3,3e-3")]
    assert {Path(config.run_dir).parts[2] for config in configs} == {"baseline"}


@pytest.mark.parametrize("given", ["variant=../../x", "name=../x", "name=a/b", "variant=..", "name=" + "x" * 300])
def test_names_do_not_lead_out_of_the_folder_of_runs(given):
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", ["model=tiny", "data=grammar", "variant=v", given])
    with pytest.raises(Exception, match="cannot name a folder: experiment, name and variant are names"):
        _ = config.run_dir


@pytest.mark.parametrize(("columns", "terminal"), [("80", "1"), ("80", "")])
def test_the_table_shows_names_and_figures_however_narrow(tmp_path, monkeypatch, capsys, columns, terminal):
    names = [f"winner_share+tiny+grammar_small+data.stories_per_step-8+{letter * 30}" for letter in "ab"]
    for name in names:
        (tmp_path / name / "seed-42").mkdir(parents=True)
        summary = {"metrics": {"val/loss": 2.5}, "steps": 2000, "tokens_per_second": 9000.0}
        (tmp_path / name / "seed-42/summary.json").write_text(json.dumps(summary))
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", terminal)
    report([str(tmp_path / name / "seed-42") for name in names], None)
    said = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().err)
    assert said.count("2.5000") == said.count("9,000") == 2
    for name in names:
        assert f"{name}/seed-42" in "".join(line.split("finished")[0].strip() for line in said.splitlines())
