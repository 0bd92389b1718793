"""An MLP of a user's own, in a file of its own."""

from tti.models.mlp import DenseMLP


class Forgetful(DenseMLP):
    """Keeps what it needs where no checkpoint and no export sees it."""

    scale = 1.0

    def hidden(self, pre):
        return super().hidden(pre) * self.scale
