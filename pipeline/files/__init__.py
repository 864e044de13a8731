"""What is known of files: how they are fetched, what they are, how bytes become text."""
