"""A digest of a network's weights."""

import hashlib

from torch import nn


def weights_digest(net: nn.Module) -> str:
    """A digest of all weights in twelve hexadecimal characters, whatever device they are on."""
    state = hashlib.sha256()
    for name, weight in sorted(net.state_dict().items()):
        state.update(name.encode())
        state.update(weight.cpu().contiguous().numpy().tobytes())
    return hashlib.sha256(state.hexdigest().encode()).hexdigest()[:12]
