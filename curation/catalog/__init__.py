"""Listings in: ingest, taxonomy, photos, features, scorer, sample catalog."""
