"""The options of Lightning's Trainer that training accepts; any other is refused before the start.

Lightning has forty. Training here counts optimiser steps, and clips, logs, validates and saves in its own way, so most
of them would stop it early, save something else, or have no effect.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

ENVIRONMENT = "PL_TRAINER_"  # Lightning also reads options from such variables
INSTEAD = (
    "Training is counted in optimiser steps (trainer.max_steps), paused by callbacks.last.max_hours, and takes its "
    "callbacks and loggers from the groups of these names."
)


def _anything(value: Any) -> bool:
    return True


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _some(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _plain(strategy: Any) -> bool:
    return not isinstance(strategy, str) or strategy.startswith(("auto", "ddp", "single_device"))


def _durable(plugins: Any) -> bool:
    return any(str(plugin.get("_target_")).endswith(".DurableCheckpoints") for plugin in plugins or ())


TAKEN: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "_target_": (_anything, ""),
    "max_steps": (_counts, "the number of optimiser steps, 1 or more"),
    "accelerator": (_anything, ""),
    "devices": (_anything, ""),
    "strategy": (_plain, "auto or a kind of ddp: checkpoints are one file"),
    "precision": (_anything, ""),
    "accumulate_grad_batches": (_counts, "a number of micro-batches, 1 or more"),
    "gradient_clip_val": (_anything, ""),
    "val_check_interval": (_counts, "a number of micro-batches, 1 or more, not a fraction of an epoch"),
    "check_val_every_n_epoch": (lambda value: value is None, "null: validations are counted in steps"),
    "limit_val_batches": (_some, "above 0: checkpoints, budgets and the summary go by the validation loss"),
    "log_every_n_steps": (_counts, "a number of optimiser steps, 1 or more"),
    "num_sanity_val_steps": (lambda value: value == 0, "0: a validation before the first step would be logged as one"),
    "use_distributed_sampler": (lambda value: value is False, "false: the data module shares stories out itself"),
    "enable_model_summary": (_anything, ""),
    "plugins": (_durable, "a list with tti.callbacks.checkpoints.DurableCheckpoints, which a kill cannot cut short"),
    "deterministic": (_anything, ""),
    "benchmark": (_anything, ""),
    "detect_anomaly": (_anything, ""),
    "profiler": (_anything, ""),
}


def require_taken(options: Mapping[str, Any]) -> None:
    """Check the options given to Lightning's Trainer.

    Raises:
        ValueError: an option is not accepted, or its value is not.
    """
    for name in options:
        if name not in TAKEN:
            raise ValueError(f"trainer.{name} is not accepted. {INSTEAD} Accepted options: {', '.join(_known())}")
    for variable in os.environ:
        if variable.startswith(ENVIRONMENT):
            raise ValueError(f"unset the environment variable {variable}, by which Lightning would change the training")
    for name, (good, wanted) in TAKEN.items():
        if name in options and not good(options[name]):
            raise ValueError(f"trainer.{name}={options[name]}: it must be {wanted}")


def _known() -> list[str]:
    return [name for name in TAKEN if not name.startswith("_")]
