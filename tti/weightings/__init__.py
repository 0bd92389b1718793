"""Ways to set the coefficient of a regularizer, one per file: fixed, by gradient ratio, by a loss budget."""
