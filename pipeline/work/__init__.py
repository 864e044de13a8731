"""One job's journey, from the stored bytes to published chunks."""
