"""The agent that runs the model beside the camera."""
