"""The Flask service: receives decisions, serves photos, tells its health. No torch."""
