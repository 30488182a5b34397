"""The search of the text branch: cells, supernet, the two loops, the race of what was found."""
