"""An invalid value of any option of any command gives one line that names the option, before anything starts."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig, ListConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from tti import schema
from tti.configuration import conf_dir
from tti.schema import RefusedError, allow, check

CONF = Path(conf_dir())
NEEDED = {"run": "runs/a", "runs": "runs", "to": "there", "site": "blocks.0.mlp.post"}  # options without a default
BAD = (0, -1, math.nan, math.inf, "word", 1.5, None)
NO_TEXT = (42, True, [], [["a"]], {"a": 1}, None, "")
# Groups without numeric options, and those that tti.sae, tti.evaluate and tti.court cover completely.
ELSEWHERE = ("hydra", "experiment", "evaluation", "trial")
WITHIN = {"regularizer/autoencoder": ["regularizer=online_sae"], "model/mlp/router": ["model/mlp=moe"]}
OPTIONAL = [f"+trainer.{each}=false" for each in ("deterministic", "benchmark", "detect_anomaly", "profiler")]
NEGATIVE = {"weighting.baseline.of"}  # a loss as a number


def composed(command: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        config = hydra_compose(command, list(overrides))
    for key, value in NEEDED.items():
        if OmegaConf.is_missing(config, key):
            config[key] = value
    return config


@pytest.fixture(scope="module")
def configurations() -> list[DictConfig]:
    """Every command with its defaults, and every option of every group in a command that has the group."""
    return [*_configurations()]


def _configurations() -> Iterator[DictConfig]:
    for command in sorted(path.stem for path in CONF.glob("*.yaml")):
        yield composed(command, *(["data=grammar"] if command == "evaluate" else []))
    for path in sorted(CONF.glob("*/**/*.yaml")):
        group, option = path.parent.relative_to(CONF).as_posix(), path.stem
        if group == "logger":
            yield composed("train", f"logger={option}")
        elif group == "hydra/launcher":
            yield OmegaConf.create({"hydra": {"launcher": OmegaConf.load(path)}})
        elif group.startswith(ELSEWHERE) or (group, option) == ("data", "stream"):
            continue  # without numeric options, or covered by tti.sae and tti.evaluate
        else:
            yield composed("train", *WITHIN.get(group, []), f"{group}={option}")


def numeric(knob: schema.Knob) -> bool:
    """Whether an option takes numbers, by its default or, if that is null, by its rule."""
    try:
        value = knob.parent[knob.key]
    except OmegaConfBaseException:
        return bool(knob.rule and re.search("integer|number", knob.rule))
    items = list(value) if isinstance(value, ListConfig) else [value]
    return any(isinstance(item, int | float) and not isinstance(item, bool) for item in items) or (
        value is None and bool(knob.rule and re.search("integer|number", knob.rule))
    )


@pytest.fixture(scope="module")
def knobs(configurations) -> dict[tuple[str, str | None], tuple[DictConfig, schema.Knob]]:
    """All numeric options of all configurations, each once, with a configuration that has it."""
    found: dict[tuple[str, str | None], tuple[DictConfig, schema.Knob]] = {}
    for config in configurations:
        check(config)
        for knob in schema._knobs(config):
            if numeric(knob):
                found.setdefault((".".join(knob.path), knob.rule), (config, knob))
    return found


def test_every_numeric_knob_has_a_rule(knobs):
    assert len(knobs) > 200
    assert [name for name, rule in knobs if rule is None] == []


def answer(config: DictConfig, knob: schema.Knob, value: object) -> str:
    """The message for a value of an option; empty if it is valid."""
    before = knob.parent._get_node(knob.key)._value()
    try:
        with read_write(config):
            knob.parent[knob.key] = value
        knob.settle()
    except ValueError as error:
        return str(error)
    finally:
        with read_write(config):
            knob.parent[knob.key] = before
    return ""


def test_every_bad_value_of_every_knob_is_refused_in_a_line_that_names_it(knobs):
    for (name, rule), (config, knob) in knobs.items():
        for value in BAD:
            message = answer(config, knob, value)
            if message:
                assert re.fullmatch(rf"{re.escape(name)}=\S+ must be {re.escape(rule)}", message), message
            else:
                assert value is not None or "null" in rule, (name, value)
                assert value != "word" or "text" in rule or "path" in rule, (name, value)
                assert value != 1.5 or "number" in rule, (name, value)
                assert value != -1 or name in NEGATIVE or "-1" in rule, (name, value)
                assert value is None or value == "word" or math.isfinite(value), (name, value)


def test_every_text_has_a_rule_and_so_has_what_holds_knobs(configurations):
    """Only developers set the options below the names listed here."""
    nodes = {".".join(knob.path): knob for config in configurations for knob in _all(config)}
    assert len(nodes) > 500
    without = [name for name, knob in nodes.items() if knob.rule is None and not isinstance(_value(knob), bool)]
    deep = ("tables.", "evaluation.", "hydra", "weighting.baseline.like", "regularizer.own")
    assert [name for name in without if not name.startswith(deep)] == []


def test_every_text_and_path_that_is_none_is_refused_in_a_line_that_names_it(configurations):
    texts = {
        (".".join(knob.path), knob.rule): (config, knob)
        for config in configurations
        for knob in schema._knobs(config)
        if knob.rule and isinstance(_value(knob), str | None | DictConfig)
    }
    assert len(texts) > 200
    for (name, rule), (config, knob) in texts.items():
        for value in NO_TEXT:
            message = answer(config, knob, value)
            if message:
                assert message.startswith(f"{name}="), message
                assert f" must be {rule}" in message, message
                assert message.count("\n") == 0
            else:
                assert value is not True or "switch" in rule, name
                assert value != [["a"]], name
                assert value is not None or "null" in rule, name
                assert value != "" or '""' in rule, name
                assert value != [] or "[]" in rule, name
                assert not isinstance(value, dict) or "mapping" in rule, name
                assert value != 42 or re.search("text|number|integer", rule), name


def _value(knob: schema.Knob) -> object:
    try:
        return knob.parent[knob.key]
    except OmegaConfBaseException:
        return ""  # the error comes from a later stage


def _all(node: object, path: tuple[str, ...] = (), owner: str = "") -> Iterator[schema.Knob]:
    """Every node of a configuration, including mappings; a list is one node."""
    for key, value in node.items_ex(resolve=False) if isinstance(node, DictConfig) else ():
        here = (*path, str(key))
        if not str(key).startswith("_"):
            yield schema.Knob(here, node, key, schema._rule(here, owner))
            target = value.get("_target_", "") if isinstance(value, DictConfig) and not value._is_none() else ""
            yield from _all(value, here, str(target))


def test_what_is_derived_is_not_blamed_for_what_is_given(knobs):
    config = composed("train", "model=tiny", "data=grammar")
    config.model.context = 0
    with pytest.raises(ValueError, match=r"^model\.context=0 must be an integer from 1, or null$|^model\.context=0"):
        check(config)


def test_every_rule_fits_a_knob(configurations):
    """A line that matches no option is a typo or outdated."""
    names = {
        name
        for config in [
            *configurations,
            composed("train", "model/mlp=topk", "regularizer=[l1,online_sae]", *OPTIONAL),
            composed("train", "model/mlp=moe", "model/mlp@model.mlp.expert=topk"),
        ]
        for name in _names(config)
    }
    optional = {rule for rule in _raw_rules() if rule.startswith("hydra.launcher.")}
    unused = [rule for rule in _raw_rules() if not any(schema._pattern(rule).fullmatch(name) for name in names)]
    assert set(unused) <= optional


def _names(config: object, path: tuple[str, ...] = (), owner: str = "") -> Iterator[str]:
    for key, value in config.items_ex(resolve=False) if isinstance(config, DictConfig) else ():
        here = (*path, str(key))
        yield "\0".join(here) + "\0"
        if owner:
            yield "\0".join((*path[:-1], owner, str(key))) + "\0"
        target = value.get("_target_", "") if isinstance(value, DictConfig) and not value._is_none() else ""
        yield from _names(value, here, str(target).rpartition(".")[2])


def _raw_rules() -> list[str]:
    return [str(name) for name in OmegaConf.load(Path(schema.__file__).with_suffix(".yaml"))]


# -- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "allowed", "refused"),
    [
        ("an integer from 1", [1, 10**9], [0, -1, True, None, [1], {}]),
        ("a number above 0, to 1", [1e-9, 1, 1.0], [0, 1.001, math.inf]),
        ("a number from 0, below 1", [0, 0.999], [1, -1e-9]),
        ("a number", [-3, 0.5], [math.nan, -math.inf, "x", ""]),
        ("an integer from 1, or null", [None, 2], [0, "null"]),
        ("0 or a number from 0.001", [0, 0.0, 5], [1e-300, False]),
        ("an integer from 1, or -1", [-1, 1], [-2, 0]),
        ("an integer from 1, a list of integers from 0, or auto", ["auto", 2], ["all", 0]),
        ("32-true, bf16-mixed, 32 or bf16", ["32-true", 32, "bf16"], ["16-mixed", "", 16]),
        ("a switch", [True, False], [0, 1, "true", None]),
        ("a text", ["a", "5", "with , and or"], [None, [], {}, "", True]),
        ('"" or a text', ["a", ""], [None, []]),
        ("false (others share out themselves)", [False], [True, None, 0, "false"]),
        ("a path or null", ["a/b", None], ["", 5]),
        ("a mapping (as data=grammar has, or data=tinystories)", [OmegaConf.create({})], ["a", None, 3]),
    ],
)
def test_what_rules_allow(rule, allowed, refused):
    for value in allowed:
        assert allow(value, rule) == value
    for value in refused:
        with pytest.raises(RefusedError):
            allow(OmegaConf.create(value) if isinstance(value, list | dict) else value, rule)


@pytest.mark.parametrize(
    ("rule", "value", "becomes"),
    [
        ("a list of integers from 1", 5, [5]),
        ("a list of texts", "trained", ["trained"]),
        ("a list of numbers from 0", ListConfig(["0.5", 1]), [0.5, 1]),
        ("an integer from 0", "42", 42),
        ("a text", 2024, "2024"),
        ("a text or a list of texts", ListConfig(["a", 1]), ["a", "1"]),
        ("an integer from 1", 1e4, 10000),
        ("a number above 0, to 1, or an integer from 1", 1.0, 1.0),
    ],
)
def test_values_are_put_as_the_rule_has_them(rule, value, becomes):
    settled = allow(value, rule)
    assert settled == becomes
    assert isinstance(settled, type(becomes))


def test_lists_hold_what_their_rule_allows():
    for bad in ([], [0], [1, "x"], [1.5], [None]):
        with pytest.raises(RefusedError):
            allow(ListConfig(bad), "a list of integers from 1")
    assert allow(ListConfig([]), "a list of texts or []") == []


def test_a_device_is_one_that_is_there():
    assert allow("cpu", "a device") == "cpu"
    with pytest.raises(ValueError, match=r"^device=cuda:99 must be a device of this machine, which has cpu"):
        check(OmegaConf.create({"device": "cuda:99"}))


# -- configurations ---------------------------------------------------------------------------------------------------


def test_a_single_value_stands_for_a_list_of_one():
    config = composed("evaluate", "subjects=trained", "parts=performance", "evaluation.probes.ks=3")
    check(config)
    assert (config.subjects, config.parts, config.evaluation.probes.ks) == (["trained"], ["performance"], [3])


def test_the_home_is_known_in_every_path(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    for command, keys in {
        "train": ["runs", "run_dir"], "evaluate": ["run", "hf", "to"], "generate": ["run"], "sae": ["run", "to"],
        "export": ["run", "to"], "neuronpedia": ["run", "to"], "report": ["runs", "to"], "benchmark": ["to"],
        "court": ["folder", "to"], "meta": ["runs", "to"],
    }.items():  # fmt: skip
        config = composed(command, *(f"{key}='~/x'" for key in keys))
        check(config)
        assert {key: config[key] for key in keys} == dict.fromkeys(keys, "/home/someone/x")
    config = composed("report", "runs=['~/a','~/b']", "rating.files=['~/c']")
    check(config)
    assert (config.runs, config.rating.files) == (["/home/someone/a", "/home/someone/b"], ["/home/someone/c"])
    config = composed("train", "runs='~/x'", "variant=v", "name=n")
    assert config.run_dir == "/home/someone/x/default-n/v/seed-42"


def test_what_is_missing_is_named():
    with initialize_config_dir(str(CONF), version_base=None):
        config = hydra_compose("sae", ["run=x"])
    with pytest.raises(ValueError, match=r"^site is missing: it must be a text or a list of texts$"):
        check(config)
    with pytest.raises(ValueError, match=r"^data\.corpus is missing: .*data=grammar and data=tinystories have one"):
        check(composed("train", "data=stream"))


def test_a_corpus_may_be_given_to_a_bare_stream():
    corpus = "{_target_: tti.data.corpora.GrammarCorpus, train: 5, validation: 5, test: 5, seed: 0, cache_dir: x}"
    check(composed("train", "data=stream", f"data.corpus={corpus}"))


OWN = "+regularizer.own={_target_: own.Own, sites: blocks.*.mlp_out, weight: 1, warmup: 0, power: -2, shape: [1, -1]}"


def test_a_regularizer_of_ones_own_needs_no_rules():
    config = composed("train", OWN)
    check(config)
    config.regularizer.own.power = math.nan
    with pytest.raises(ValueError, match=r"^regularizer\.own\.power=\.nan must be a finite number$"):
        check(config)
    config = composed("train", OWN)
    config.regularizer.own.shape[1] = math.inf
    with pytest.raises(ValueError, match=r"^regularizer\.own\.shape\.1=\.inf must be a finite number$"):
        check(config)
