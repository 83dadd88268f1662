"""Labeled examples, and how episodes are sampled from them."""
