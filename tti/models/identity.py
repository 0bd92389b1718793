"""What tells the weights of one network from another's."""

import hashlib

from torch import nn


def weights_digest(net: nn.Module) -> str:
    """Twelve characters that stand for all weights, wherever they lie."""
    state = hashlib.sha256()
    for name, weight in sorted(net.state_dict().items()):
        state.update(name.encode())
        state.update(weight.cpu().contiguous().numpy().tobytes())
    return hashlib.sha256(state.hexdigest().encode()).hexdigest()[:12]
