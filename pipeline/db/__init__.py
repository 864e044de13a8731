"""The database: how connections are opened, what a listener may ask, and which connections it refuses."""
