"""Pure functions on arrays: label issues, consensus, metrics. No I/O."""
