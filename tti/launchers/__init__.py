"""Remote training: checks before launch, the remote side, and how a sweep is followed and fetched."""
