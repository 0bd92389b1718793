"""Corpora, the packed token cache, and the data module that streams it."""
