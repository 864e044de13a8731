"""What runs beside the database: the listener that turns committed uploads into searchable chunks."""
