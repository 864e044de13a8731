"""What operators do, as the command line calls it."""
