"""The overrides of a run that takes a second."""

CORPUS = ["data.corpus.train=300", "data.corpus.validation=40", "data.corpus.test=20"]
SMALL = [
    "experiment=demo", "hydra.mode=RUN", *CORPUS, "model.d_model=32", "data.stories_per_step=8", "trainer.max_steps=20",
    "trainer.val_check_interval=10", "trainer.log_every_n_steps=5", "name=small",
]  # fmt: skip
