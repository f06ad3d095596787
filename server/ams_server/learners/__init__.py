"""Ways to keep a student tuned to its device: what is trained on, when, and how many frames that needs."""
