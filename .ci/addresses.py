"""The addresses in what is published, from REPO_URL and SITE_URL: none, where they are not set."""

import email
import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Addresses(MetadataHookInterface):
    """Fills in `project.urls`, and the README, whose links lead to files of the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Take them from the environment, or from what an sdist was made with."""
        made = Path(self.root, "PKG-INFO")
        if made.exists():
            told = email.message_from_string(made.read_text("utf-8"))
            urls = dict(url.split(", ", 1) for url in told.get_all("Project-URL", []))
            text = told.get_payload()
        else:
            urls, text = self.here()
        metadata["urls"] = {name: url for name, url in urls.items() if url}
        metadata["readme"] = {"content-type": "text/markdown", "text": text}

    def here(self) -> tuple[dict[str, str], str]:
        """The same for a checkout."""
        repository = os.environ.get("REPO_URL", "").rstrip("/")
        urls = {"Documentation": os.environ.get("SITE_URL", "")}
        text = Path(self.root, "README.md").read_text("utf-8")
        if repository:
            file = f"{repository}/blob/main"
            urls |= {
                "Source": repository,
                "Issues": f"{repository}/issues",
                "Changelog": f"{file}/CHANGELOG.md",
            }
            text = re.sub(r"(?<=\]\()(?!https?:|#)", f"{file}/", text)
        return urls, text
