"""`lab chaos`: faults by a seed on a fabric that is up, while what its hosts send is checked."""
