"""Coverage-guided fuzzing of what comes in over the network: ``python -m tests.fuzz payloads --seconds 60``."""
