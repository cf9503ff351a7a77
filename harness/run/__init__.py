"""The loops: they get ports, emit events, and are the only code that acts."""
