"""The tuning of a sweep in its report."""

TABLE = """variant,knob,value,val_loss,steps,chosen,run
baseline,optimizer.lr,0.001,2.5,100,,a
baseline,optimizer.lr,0.002,2.25,100,yes,b
baseline,optimizer.lr,0.004,inf,100,,c
l1_1e-3,optimizer.lr,0.002,2.0,100,yes,d
"""


def test_the_curve_over_the_grid_stands_beside_the_value_of_the_runs(written_run, reported, tmp_path):
    for seed in (1, 2):
        run = written_run("baseline", seed, optimizer={"lr": 0.002})
        written_run("l1", seed, optimizer={"lr": 0.002})
    (run.parent.parent / "tuning.csv").write_text(TABLE)
    reported()
    text = (tmp_path / "report.md").read_text()
    assert "0.001: 2.5000 · 0.002: 2.2500 · 0.004: diverged | 100 | 0.002 |" in text
    assert "| `l1_1e-3` | `optimizer.lr` | 0.002 | 2.0000 | 0.002: 2.0000 | 100 | - |" in text
    assert "no `tuning.csv`" not in text


def test_without_tuning_the_report_says_so(written_run, reported, tmp_path):
    run = written_run("baseline", 1)
    (run.parent.parent / "tuning.csv").write_text("not,the,table\n1,2,3\n")
    reported()
    text = (tmp_path / "report.md").read_text()
    assert "there is no `tuning.csv` in the folder of the runs" in text
    assert "## Tuning" not in text
