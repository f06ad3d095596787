"""Cross products of settings over recordings and seeds, run by worker processes."""
