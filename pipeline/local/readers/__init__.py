"""From bytes to Markdown pages, a kind of file each. Runs in the limited child process alone."""
