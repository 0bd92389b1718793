"""The tags by which W&B runs can be filtered."""

from omegaconf import OmegaConf

from tti.loggers.wandb_run import tags


def test_tags_are_the_method_and_the_size(compose):
    config = compose("model=tiny", "model/mlp=topk", "regularizer=[l1,hoyer]", "model.d_model=64", "model.n_layers=3")
    plain = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("model", "regularizer")}
    assert tags(plain) == ("l1", "hoyer", "TopKMLP", "3x64")


def test_a_long_name_is_cut_to_what_wandb_takes():
    model = {"mlp": {"_target_": f"mine.{'M' * 99}"}, "n_layers": 1, "d_model": 8}
    assert tags({"model": model, "regularizer": {}}) == ("M" * 64, "1x8")
