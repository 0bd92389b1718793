import json
import math

from hydra.utils import instantiate

from tti.loggers.metrics_file import MetricsFile


def lines(folder):
    return (folder / "metrics.jsonl").read_text().splitlines()


def test_one_line_a_call_as_json(tmp_path):
    logger = MetricsFile(str(tmp_path))
    logger.log_metrics({"train/loss": 2.5}, step=1)
    logger.log_metrics({"val/loss": 1.5, "val/tokens": 7}, step=2)
    assert [json.loads(line) for line in lines(tmp_path)] == [
        {"step": 1, "train/loss": 2.5},
        {"step": 2, "val/loss": 1.5, "val/tokens": 7},
    ]


def test_a_resumed_run_appends(tmp_path):
    MetricsFile(str(tmp_path)).log_metrics({"loss": 1.0}, step=1)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    MetricsFile(str(tmp_path)).log_metrics({"loss": 2.0}, step=1)
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(before)
    assert len(lines(tmp_path)) == 2


def test_a_line_cut_short_is_ended_and_harms_no_other(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
    MetricsFile(str(tmp_path)).log_metrics({"loss": 2.0}, step=2)
    first, cut, last = lines(tmp_path)
    assert json.loads(first) == {"step": 1, "loss": 3.0}
    assert cut == '{"step": 2, "lo'
    assert json.loads(last) == {"step": 2, "loss": 2.0}


def test_numbers_keep_all_their_digits_and_not_a_number_survives(tmp_path):
    value = 1 / 3
    MetricsFile(str(tmp_path)).log_metrics({"third": value, "nan": float("nan")}, step=1)
    read = json.loads(lines(tmp_path)[0])
    assert read["third"] == value
    assert math.isnan(read["nan"])


def test_nothing_is_written_before_the_first_metric(tmp_path):
    MetricsFile(str(tmp_path)).log_hyperparams({"lr": 1.0})
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_yaml_makes_one_in_the_run_folder(compose, tmp_path):
    config = compose("model=tiny", f"run_dir={tmp_path}", "logger=local")
    logger = instantiate(config.logger.metrics_file)
    assert isinstance(logger, MetricsFile)
    assert logger.path == tmp_path / "metrics.jsonl"
