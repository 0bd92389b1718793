"""How large the coefficient of a regularizer is, one way a file: fixed, by gradient ratio, by budget."""
