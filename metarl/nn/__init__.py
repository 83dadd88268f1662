"""Networks as pure functions of named parameters."""
