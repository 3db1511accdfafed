"""Tests of the lab's own parts that need neither root nor a network."""
