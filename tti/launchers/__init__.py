"""Training elsewhere: what runs remotely, what is checked before, and how a sweep is followed and fetched."""
