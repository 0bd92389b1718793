"""A run folder from somebody else is only read as data."""

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tti.runs import Run
from tti.trust import allowed, named, packages

EARLIER = Path(__file__).parent / "earlier/baseline"
# Functions that would run, read, write or remove what the folder's author chooses, also through allowed modules.
REFUSED = [
    "os.system", "subprocess.run", "builtins.exec", "builtins.eval", "pandas.read_pickle", "joblib.load",
    "pickle.loads", "torch.load", "torch.hub.load", "torch.save", "numpy.load", "pathlib.Path", "pathlib.Path.unlink",
    "pathlib.Path.write_text", "shutil.rmtree", "webbrowser.get", "transformers.AutoModel.from_pretrained",
    "hydra.utils.instantiate", "hydra.utils.get_object", "tti.trust.named", "tti.runs.shutil.rmtree",
    "tti.durable.write_atomically", "tti.huggingface.folder.open_model", "tti.launchers.remote.call", "tti.train.train",
    "tti.data.cache._ArrayFile", "tti.data.corpora.Path.unlink", "tti.data.corpora.hashlib.new",
    "tti.models.gpt.torch.load",    "torch.nn.functional.torch.load", "torch.nn.functional.importlib.import_module",
    "torch.nn.Module.__subclasses__",
    "tti.models.gpt.GPT.__init__", "torch.nn.functional.gelu", "torchvision", "tti.modelsx.Evil", "",
]  # fmt: skip


@pytest.mark.parametrize("target", REFUSED)
def test_a_loaded_configuration_may_not_call(target):
    for config in ({"_target_": target}, {"deep": [{"in": {"_target_": target}}]}):
        with pytest.raises(ValueError, match=r"a run folder may not|cannot find"):
            allowed(OmegaConf.create(config))


@pytest.mark.parametrize("path", [each for each in REFUSED if each not in ("torch.nn.functional.gelu",)])
def test_nor_look_up(path):
    with pytest.raises(ValueError, match=r"a run folder may not|cannot find"):
        allowed(OmegaConf.create({"_target_": "hydra.utils.get_method", "path": path}))


def test_nor_give_a_look_up_what_is_looked_up_otherwise():
    node = {"_target_": "hydra.utils.get_method", "path": "torch.nn.functional.gelu", "_args_": ["os.system"]}
    with pytest.raises(ValueError, match=r"hydra\.utils\.get_method a path, and nothing else"):
        allowed(OmegaConf.create(node))


@pytest.mark.each_option("model/mlp")
def test_every_mlp_of_ours_may_be_named(compose, option):
    allowed(compose("model=tiny", f"model/mlp={option}").model)


@pytest.mark.each_option("regularizer")
def test_every_regularizer_of_ours_may_be_named(compose, option):
    allowed(compose("model=tiny", f"regularizer={option}").regularizer)


@pytest.mark.parametrize("option", ["grammar", "tinystories"])
def test_every_corpus_of_ours_may_be_named(compose, option):
    config = compose("model=tiny", f"data={option}")
    allowed(OmegaConf.create(OmegaConf.to_container(config.data, resolve=True)))


def test_a_package_is_trusted_by_name():
    own = OmegaConf.create({"_target_": "collections.Counter"})
    with pytest.raises(ValueError, match="want to run that code: trust=collections"):
        allowed(own)
    assert allowed(own, ("collections",)) is own
    assert packages("collections") == packages(["collections"]) == ("collections",)
    assert packages(None) == packages([]) == ()


def test_trust_in_a_package_is_none_in_what_it_imports():
    with pytest.raises(ValueError, match=r"which is (os|posix)'s own"):
        named("shutil.os.remove", ("shutil",))


def test_a_trusted_package_that_is_not_here_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"cannot find nowhere\.Share: is nowhere installed, or its folder on PYTHON"):
        named("nowhere.Share", ("nowhere",))


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    shutil.copytree(EARLIER, folder)
    return folder


def change(folder: Path, key: str, value: object) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    OmegaConf.update(config, key, value, force_add=True)
    OmegaConf.save(config, folder / "config.yaml")


@pytest.mark.parametrize("key", ["model.mlp", "data.corpus", "regularizer.l1"])
def test_a_given_run_is_built_of_parts_only(given, key):
    precious = given / "precious"
    precious.touch()
    change(given, key, {"_target_": "pathlib.Path.unlink", "self": str(precious)})
    run = Run(given)
    with pytest.raises(ValueError, match=r"a run folder may not name pathlib\.Path\.unlink"):
        run.model() if key == "model.mlp" else run.data(OmegaConf.create({})) if key == "data.corpus" else (
            run.regularizers({"blocks.0.mlp.post": 16})
        )
    assert precious.exists()


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "x${oc.env:HOME}", "${oc.decode:x}"])
def test_a_given_configuration_is_not_resolved(given, value):
    text = (given / "config.yaml").read_text()
    (given / "config.yaml").write_text(text.replace("experiment: default", f"experiment: {value}"))
    with pytest.raises(ValueError, match=r"config\.yaml has an interpolation, experiment: .*oc\."):
        _ = Run(given).config


def test_given_overrides_are_not_resolved(given):
    (given / "overrides.yaml").write_text("- name=${oc.env:HOME}\n")
    assert Run(given).overrides == ["name=${oc.env:HOME}"]


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "\x00"])
def test_a_damaged_configuration_is_named(given, text):
    (given / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: it is not"):
        _ = Run(given).config
