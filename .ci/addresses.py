"""The addresses in what is published, from REPO_URL and SITE_URL: none, where they are not set."""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Addresses(MetadataHookInterface):
    """Fills in `project.urls`, and the README, whose links lead to files of the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Take them from the environment."""
        repository = os.environ.get("REPO_URL", "").rstrip("/")
        site = os.environ.get("SITE_URL", "").rstrip("/")
        file, text = f"{repository}/blob/main", Path(self.root, "README.md").read_text("utf-8")
        urls = {"Documentation": site}
        if repository:
            urls |= {
                "Source": repository,
                "Issues": f"{repository}/issues",
                "Changelog": f"{file}/CHANGELOG.md",
            }
            text = re.sub(r"(?<=\]\()(?!https?:|#)", f"{file}/", text)
        metadata["urls"] = {name: url for name, url in urls.items() if url}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
