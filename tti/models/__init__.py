"""Networks in pure PyTorch, each short enough to read on one page."""
