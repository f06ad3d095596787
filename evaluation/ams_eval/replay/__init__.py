"""Recordings through both sides of the product, in one process and under a virtual clock."""
