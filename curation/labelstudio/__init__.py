"""Label Studio: bodies to events, project set-up, task push, reconciliation. Alone imports its SDK, lazily."""
