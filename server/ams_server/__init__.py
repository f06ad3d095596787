"""The server that adapts one model per device."""
