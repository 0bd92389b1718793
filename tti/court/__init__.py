"""The metric court: metrics stand trial on planted layers, whose truth is known (``python -m tti.court``)."""
