"""The options of Lightning's Trainer that training accepts; any other is refused before the start.

Lightning has forty. Training here counts optimizer steps, and clips, logs, validates and saves in its own way, so most
of them would stop it early, save something else, or have no effect.
"""

import os
from collections.abc import Mapping
from typing import Any

ENVIRONMENT = "PL_TRAINER_"  # Lightning also reads options from such variables
INSTEAD = (
    "Training is counted in optimizer steps (trainer.max_steps), paused by callbacks.last.max_hours, and takes its "
    "callbacks and loggers from the groups of these names."
)
# tti/schema.yaml has their valid values.
TAKEN = (
    "max_steps", "accelerator", "devices", "strategy", "precision", "accumulate_grad_batches", "gradient_clip_val",
    "val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "log_every_n_steps", "num_sanity_val_steps",
    "use_distributed_sampler", "enable_model_summary", "plugins", "deterministic", "benchmark", "detect_anomaly",
    "profiler",
)  # fmt: skip


def require_taken(options: Mapping[str, Any]) -> None:
    """Check the options given to Lightning's Trainer.

    Raises:
        ValueError: an option is not accepted, or checkpoints would not be written durably.
    """
    for name in options:
        if name not in TAKEN and not name.startswith("_"):
            raise ValueError(f"trainer.{name} is not accepted. {INSTEAD} Accepted options: {', '.join(TAKEN)}")
    for variable in os.environ:
        if variable.startswith(ENVIRONMENT):
            raise ValueError(f"unset the environment variable {variable}, by which Lightning would change the training")
    if not any(str(plugin.get("_target_")).endswith(".DurableCheckpoints") for plugin in options.get("plugins") or ()):
        raise ValueError(
            "trainer.plugins must hold tti.callbacks.checkpoints.DurableCheckpoints, which a kill cannot cut short"
        )
