"""Does a budget hold on the wire? A proxy that counts, and the windows that hold most."""
