"""The manipulation tasks of Meta-World."""
