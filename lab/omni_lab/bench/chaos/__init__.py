"""`lab chaos`: faults by a seed on a fabric that is up, while all that its hosts send is checked."""
