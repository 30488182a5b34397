"""Pages for people: server-made HTML without JavaScript."""
