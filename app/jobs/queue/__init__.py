"""What workers claim: jobs to send and jobs to poll, leased to one worker at a time."""
