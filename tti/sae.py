"""``python -m tti.sae run=FOLDER site=blocks.2.mlp_out k=[16,32]``: train sparse autoencoders on a finished run."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from tti.command import command
from tti.huggingface.names import place
from tti.models.taps import choose
from tti.runs import Run
from tti.trust import packages

if TYPE_CHECKING:
    from tti.autoencoders.base import SparseAutoencoder
    from tti.evaluation.splicing import Quality
    from tti.interventions.splice import Splice
    from tti.models.network import Network

# torch and everything built on it are imported on use: `--help` need not wait seconds for them.
CONSOLE = Console(stderr=True, highlight=False, soft_wrap=True)


def load(folder: str | Path, net: "Network", trust: Sequence[str] = ()) -> "Splice":
    """A saved autoencoder as a tap: ``net(tokens, stories, load(folder, net))`` continues with its reconstruction.

    ``.autoencoder`` encodes and decodes; ``.site`` is its site. For a kind of your own, ``trust`` its package.

    Raises:
        ValueError: there is no autoencoder, it is damaged, or it was trained on other weights than ``net``'s.
    """
    from tti.autoencoders import saelens
    from tti.interventions.splice import Splice
    from tti.models.identity import weights_digest

    folder = Path(folder)
    settings = saelens.about(folder)["settings"]
    if settings["weights"] != (weights := weights_digest(net)):
        raise ValueError(
            f"{folder} was trained on another model, with weights {settings['weights']} instead of {weights}. "
            "Is it the run's other checkpoint?"
        )
    return Splice(settings["site"], saelens.load(folder, trust).to(net.device))


@dataclass(frozen=True)
class Job:
    """One autoencoder of the command: its folder, the settings that identify it, and the untrained autoencoder."""

    folder: Path
    name: str
    seed: int
    settings: dict[str, Any]
    autoencoder: "SparseAutoencoder"

    def is_there(self, overwrite: bool) -> bool:
        """Whether it has been trained already.

        Raises:
            ValueError: its folder holds another one; the message says how they differ.
        """
        from tti.autoencoders import saelens

        if overwrite or not self.folder.exists():
            return False
        there = saelens.about(self.folder)["settings"]
        keys = sorted(key for key in there | self.settings if there.get(key) != self.settings.get(key))
        if keys:
            lines = [f"  {key}: {there.get(key)} there, {self.settings.get(key)} wanted" for key in keys]
            other = "an autoencoder of another model" if "weights" in keys else "another autoencoder"
            raise ValueError(
                "\n".join([f"{self.folder} holds {other}:", *lines])
                + "\nGive these another place (to=FOLDER), or set overwrite=true to train again in its place."
            )
        return True

    @property
    def quality(self) -> "Quality":
        """Figures of the saved autoencoder."""
        from tti.autoencoders import saelens
        from tti.evaluation.splicing import Quality

        figures = saelens.about(self.folder)["quality"]
        return Quality(**{name: math.nan if value is None else value for name, value in figures.items()})


class Autoencoders:
    """The autoencoders of one command.

    Raises:
        ValueError: the run has not finished or its data have changed; a site or kind is unknown; or an autoencoder's
            arguments are invalid (such as keeping more latents than there are).
    """

    def __init__(self, config: DictConfig) -> None:
        from tti.autoencoders.kinds import sweep
        from tti.evaluation.stories import StorySet

        self.config = config
        self.run = Run(Path(config.run), packages(config.trust))
        _ = self.run.summary  # raises if it has not finished
        self.net = self.run.model(config.checkpoint).to(config.device)
        self.fit = instantiate(config.fit)
        self.sites = choose(config.site if isinstance(config.site, str) else list(config.site), self.net.sites)
        self.makes = sweep(config.kind, config)
        for site in self.sites:
            for _ in self._made(site):  # raises on invalid arguments, before the data are opened
                pass
        self.stories = StorySet(self.run.data(config.data), config.split, config.tokens_per_chunk)
        self.stories.require(self.run.tokenizer, None, self.run.folder)
        self.training = self.stories.training()
        if self.training.split == self.stories.split:
            raise ValueError("split=train: autoencoders train on it, so it cannot say how good they are")
        self.folder = Path(config.to or self.run.folder / "sae")

    def jobs(self, site: str) -> list[Job]:
        """The autoencoders of a site."""
        return [
            Job(self.folder / site / f"{name}_seed-{seed}", name, seed, self._settings(site, made), made)
            for name, seed, made in self._made(site)
        ]

    def _made(self, site: str) -> Iterator[tuple[str, int, "SparseAutoencoder"]]:
        width, config = self.net.sites[site].width, self.config
        sizes = {"d_in": width, "d_sae": round(config.expansion * width), "dead_after": config.dead_after}
        for name, make in self.makes.items():
            for seed in config.seeds:
                yield name, seed, make(**sizes, seed=seed)

    def _settings(self, site: str, made: "SparseAutoencoder") -> dict[str, Any]:
        from tti.models.identity import weights_digest

        data = {
            each.split: each.packed.manifest["arrays"]["tokens"]["sha256"] for each in (self.training, self.stories)
        }
        kept = ("checkpoint", "tokens", "measured_tokens", "split")
        return {
            "site": site,
            "weights": weights_digest(self.net),
            "data": data,
            **{key: self.config[key] for key in kept},
            **{f"fit.{key}": value for key, value in self.config.fit.items()},
            **made.arguments,
        }

    def train(self) -> list[Job]:
        """Train and save what is missing, one site at a time; returns all autoencoders, in the order of sites.

        Raises:
            ValueError: a folder holds another autoencoder (found before training), or there are too few tokens.
        """
        everything = {site: self.jobs(site) for site in self.sites}
        missing = {
            site: [job for job in jobs if not job.is_there(self.config.overwrite)] for site, jobs in everything.items()
        }
        for site, jobs in missing.items():
            if jobs:
                self._train(site, jobs)
        return [job for jobs in everything.values() for job in jobs]

    def _train(self, site: str, jobs: list[Job]) -> None:
        from tti.evaluation.splicing import quality, recorded, references

        with CONSOLE.status(f"{site}: recording activations") as status:
            acts = recorded(self.net, self.training.subset(self.config.tokens), [site])[site]
            title = f"{site}: training {', '.join(job.folder.name for job in jobs)}"
            self.fit([job.autoencoder for job in jobs], acts, lambda text: status.update(f"{title}: {text}"))
            del acts
            stories = self.stories.subset(self.config.measured_tokens)
            status.update(f"{site}: measuring")
            reference = references(self.net, stories, [site])[site]
            for job in jobs:
                found = quality(self.net, stories, site, job.autoencoder, reference)
                self._save(job, found)
        CONSOLE.print(f"{site}: {len(jobs)} trained")

    def _save(self, job: Job, found: "Quality") -> None:
        from tti.autoencoders import saelens

        figures = {name: value if math.isfinite(value) else None for name, value in asdict(found).items()}
        saelens.save(
            job.autoencoder,
            job.folder,
            place(job.settings["site"]).hook,
            {"settings": job.settings, "quality": figures},
            model_name=self.run.folder.resolve().parent.name,
            context_size=self.stories.max_length,
        )


def table(jobs: list[Job]) -> Table:
    """The figures of all autoencoders."""
    rows = Table("site", "autoencoder", "seed", "L0", "variance explained", "loss recovered", "loss increase", "dead")
    for job in jobs:
        found = job.quality
        rows.add_row(
            str(job.settings["site"]),
            job.name,
            str(job.seed),
            f"{found.l0:.1f}",
            f"{found.variance_explained:.3f}",
            f"{found.loss_recovered:.3f}",
            f"{found.loss_increase:.4f}",
            f"{found.dead:.1%}",
        )
    return rows


@command("sae", free=("run", "to"))
def main(config: DictConfig) -> None:
    """Entry point of the command."""
    import torch

    torch.set_num_threads(config.threads or torch.get_num_threads())
    autoencoders = Autoencoders(config)
    jobs = autoencoders.train()
    Console(width=120 if not sys.stdout.isatty() else None).print(table(jobs))
    print(f"in {autoencoders.folder}")


if __name__ == "__main__":
    main()
