"""What moderators should see next, and why."""
