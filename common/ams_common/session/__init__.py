"""The protocol as state machines without I/O: messages in, events out; sockets are elsewhere."""
