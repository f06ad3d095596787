"""Teachers: large models, or labels on disk, that say what the frames show."""
