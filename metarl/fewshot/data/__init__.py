"""Examples with labels, and how episodes are drawn from them."""
