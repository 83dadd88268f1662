"""Checks that task families keep their contract."""
