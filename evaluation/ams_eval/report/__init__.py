"""The HTML report of the demo: one file that needs nothing else."""
