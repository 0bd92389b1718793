"""Sparse autoencoders, one kind per file: trained jointly (``regularizers/online_sae.py``) or post hoc."""
