"""The networks: pure PyTorch, each readable on one page."""
