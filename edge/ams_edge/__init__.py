"""The agent that runs the model beside the camera."""

import os

# Before ONNX Runtime is imported, which else keeps files about this machine in the home and reports them to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
