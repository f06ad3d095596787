"""A procedural street with exact labels, seen by a moving camera: the demo's data, drawn from a seed."""
