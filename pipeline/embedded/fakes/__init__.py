"""Providers that speak the real wire format on a local port, keep a bill, and fail as a script says.

For tests, benchmarks and `pipeline dev --fake-providers`; nothing that runs in production imports them.
"""
