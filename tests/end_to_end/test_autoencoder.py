"""Autoencoders of sentences through the command line: every arm resumes exactly, and wrong input is a line."""

import re

import pytest
import torch
from commands import rows, summary

from tests.tiers import nightly_but
from tti.data.sentences import FACTORS, RANK
from tti.runs import Run

SMALL = [
    "model=autoencoder", "data=sentences", "task=autoencoder", "model.d_model=16", "model.latent=12",
    "data.corpus.train=300", "data.corpus.validation=40", "data.corpus.test=20", "data.stories_per_step=8",
    "trainer.max_steps=20", "trainer.val_check_interval=10", "trainer.log_every_n_steps=5", "task.grad_ratio_every=5",
    "callbacks.last.every_n_train_steps=2", "optimizer.lr=1e-2",
]  # fmt: skip
LABELS = f"data.labels=[{','.join((*FACTORS, RANK))}]"
ARMS = {
    "plain": ["model.noise=false"],
    "vae": ["regularizer=kl", "regularizer.kl.target=5"],
    "factor_vae": ["regularizer=[kl,total_correlation]"],
    "supervised": ["regularizer=[kl,supervision]", "regularizer.supervision.labelled=0.5", LABELS],
}


@pytest.fixture(scope="module")
def tti(commands_in, tmp_path_factory):
    return commands_in(tmp_path_factory.mktemp("autoencoders"))


@pytest.fixture(scope="module")
def trained(tti):
    tti(*SMALL, *ARMS["plain"], "trainer.max_steps=1", "run_dir=trained").ok()
    return tti.folder / "trained"


@pytest.mark.parametrize("arm", nightly_but(["factor_vae"], ARMS))
def test_a_resumed_run_ends_as_the_straight_one_did(tti, arm):
    straight, resumed = f"{arm}/straight", f"{arm}/resumed"
    tti(*SMALL, *ARMS[arm], f"run_dir={straight}").ok()
    tti(*SMALL, *ARMS[arm], f"run_dir={resumed}", "callbacks.last.max_hours=1e-9").failed()
    tti(*SMALL, *ARMS[arm], f"run_dir={resumed}").ok()
    folders = [tti.folder / straight, tti.folder / resumed]
    one, other = (rows(folder) for folder in folders)
    assert one[-1] == other[-1]
    states = [torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in folders]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_what_is_logged(tti):
    tti(*SMALL, *ARMS["factor_vae"], "run_dir=logged").ok()
    entries, metrics = rows(tti.folder / "logged"), summary(tti.folder / "logged")["metrics"]
    assert {"train/kl/nats", "train/kl/used", "train/total_correlation/discriminator"} <= entries[0].keys()
    assert entries[-1]["train/ce"] < entries[0]["train/ce"]
    assert metrics["val/kl"] > 0
    assert 0 <= metrics["val/active_units"] <= 12
    assert Run(tti.folder / "logged").model().sites["latent.mean"].width == 12


@pytest.mark.parametrize(("overrides", "message"), [
    (["regularizer=kl", "regularizer.kl.weight=-1"], r"regularizer\.kl\.weight=-1 must be a number from 0"),
    (["model.latent=0"], r"model\.latent=0 must be an integer from 1"),
    (["data.labels=[colour]"], r"has no array 'colour'; it has .*agent"),
    (["regularizer=supervision"], r"regularizer=supervision needs the label tense, .*rank of each token"),
    (["regularizer=supervision", "model.latent=9"], r"latent\.mean has 9 latents for 10 supervised factors"),
    (["model.context=12"], r"the longest sentence has \d+ tokens, .*set model\.context=\d+ or more"),
    (["model.noise=false", "regularizer=kl"], r"no site of this model matches 'latent\.log_variance'"),
])  # fmt: skip
def test_what_cannot_be_trained_is_said_in_a_line(tti, overrides, message):
    output = tti(*SMALL, *overrides, "run_dir=wrong").failed()
    assert re.search(message, output)


OTHER_SENTENCES = "import tti.data.sentences as s; s.ORDERS['plain'] = s.ORDERS['time_first']"
OTHER_WORDS = "import tti.data.sentences as s; s.FEELINGS['glad'] = ('jolly', 'cheerful')"


@pytest.mark.parametrize("patch", [OTHER_SENTENCES, OTHER_WORDS])
def test_a_run_on_other_sentences_than_those_of_today_is_not_evaluated(tti, trained, patch):
    output = tti(f"run={trained}", "parts=[disentanglement]", module="tti.evaluate", patch=patch).failed()
    assert "was trained on another text than this version of the built-in corpus (edition 1) generates" in output
    assert "train it again, or evaluate it with the version that trained it" in output
    assert not (trained / "evaluation").exists()


def test_the_task_needs_a_network_with_a_latent(tti):
    others = [each for each in SMALL if not each.startswith("model")]
    output = tti(*others, "model=tiny", "run_dir=wrong").failed()
    assert "task=autoencoder trains a network with a latent: model=autoencoder" in output
