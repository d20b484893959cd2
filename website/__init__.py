"""What makes the documentation site: plain scripts, which the hooks of MkDocs call."""
