"""What the owner of a file is told of it, where more than one reader says so."""

DAMAGED = "The file is damaged or incomplete and cannot be read. Save it anew and upload it again."
PROTECTED = "The file is protected by a password. Upload a copy without one."
