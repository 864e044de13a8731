"""Providers that speak the real wire format on a local port, keep a bill, and fail as the script says."""
