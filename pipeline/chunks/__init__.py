"""From Markdown pages to chunks; pure functions."""
