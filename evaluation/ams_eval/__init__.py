"""Demonstration, replay and scores."""
