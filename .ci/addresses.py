"""The addresses in what is published, from REPO_URL and SITE_URL: none, where they are not set."""

import os
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Addresses(MetadataHookInterface):
    """Fills in `project.urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Take them from the environment."""
        repository = os.environ.get("REPO_URL", "").rstrip("/")
        site = os.environ.get("SITE_URL", "").rstrip("/")
        urls = {
            "Documentation": site,
            "Source": repository,
            "Issues": repository and f"{repository}/issues",
            "Changelog": repository and f"{repository}/blob/main/CHANGELOG.md",
        }
        metadata["urls"] = {name: url for name, url in urls.items() if url}
