import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the test imports `golden` by its name


def pytest_addoption(parser):
    parser.addoption("--rewrite-golden", action="store_true", help="write golden.json anew")
