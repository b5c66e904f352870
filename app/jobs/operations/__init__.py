"""What operators see of all jobs, and do with them by hand; health and metrics."""
