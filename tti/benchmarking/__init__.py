"""What ``tti.benchmark`` measures: one table a file, and the plain loops that training is compared with."""
