import pytest

from tti.launchers.estimate import estimate


@pytest.fixture
def plan(make_jobs, options):
    """Four jobs of 100 steps x 32 stories x 225 tokens = 720,000 tokens: 1/5 h each at 1000 tokens per second."""
    jobs = make_jobs("a", "b", "c", "d")
    given = {
        "tokens_per_second": 1000, "tokens_per_story": 225, "gpu": "L4", "prices": {"L4": 1.0}, "cpu": 2,
        "price_per_core": 0.25, "memory_gib": 5, "price_per_gib": 0.1, "max_containers": 3, "retries": 2,
        "timeout_hours": 6,
    }  # fmt: skip
    return lambda **others: estimate(jobs, options(**(given | others)))


def test_known_answers(plan):
    four = plan()
    assert (four.jobs, four.at_once, four.price) == (4, 3, 2.0)  # 1 + 2 x 0.25 + 5 x 0.1
    assert four.job_hours == pytest.approx([0.2] * 4)
    assert four.cost == pytest.approx(4 * 0.2 * 2)
    assert four.hours == pytest.approx(0.4)  # three at once, then the fourth
    assert four.worst_hours == 4 * 3 * 6
    assert four.worst_cost == 4 * 3 * 6 * 2


def test_several_gpus_a_job_are_faster_and_dearer(plan):
    two = plan(gpu="L4:2")
    assert two.job_hours == pytest.approx([0.1] * 4)
    assert two.price == 3.0


def test_it_says_what_it_assumes(plan):
    text = str(plan())
    assert "4 jobs on L4, 3 at once" in text
    assert "about 0.4 h and $1.60" in text
    assert "if a GPU trains 1,000 tokens/s (hydra.launcher.tokens_per_second)" in text
    assert "at worst $144" in text
