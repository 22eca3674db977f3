"""Guests: domains that the tests boot, and decisions that need none."""
