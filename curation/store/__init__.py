"""What is stored, and the two mechanisms: the inbox and the job queue."""
