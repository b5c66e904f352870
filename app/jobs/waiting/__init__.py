"""The line of jobs that wait to be sent: who is next, and where each stands."""
