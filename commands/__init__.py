"""What each command does; each imports what it needs when it runs, so that no other command loads it."""
