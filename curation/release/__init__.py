"""Snapshots, exports, registry, gates and the retrain policy."""
