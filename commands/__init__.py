"""What each command does. A command imports the parts that it needs when it is parsed and run."""
