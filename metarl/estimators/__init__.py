"""Meta-gradient estimators, and the exact laboratory that measures their bias and variance."""
