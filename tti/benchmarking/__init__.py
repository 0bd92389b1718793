"""The measurements of ``tti.benchmark``, one module per table, and the plain loops that training is compared with."""
