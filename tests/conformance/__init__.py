"""Cases that other projects publish with their packages."""
