"""Sparse autoencoders, one kind a file: trained with a model (``regularizers/online_sae.py``) and on one afterwards."""
