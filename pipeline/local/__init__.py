"""Parsing and embedding on this machine, with untrusted bytes in a limited child process."""
