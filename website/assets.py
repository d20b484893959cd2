"""What the site takes from npm: fonts, the style sheet of formulas, a shim for offline search."""

import re
import shutil
from pathlib import Path

MODULES = Path(__file__).parents[1] / "node_modules"

# The alphabets that the pages use; each font has a file for each of them.
FONTS = ["source-serif-4", "source-sans-3", "source-code-pro"]
ALPHABETS = ["latin", "latin-ext", "greek", "greek-ext"]


class Missing(Exception):
    """Node, or what `npm ci` installs, is not there."""


def require() -> None:
    """Raise `Missing`, with what to do, unless node and the npm packages are there."""
    if shutil.which("node") is None:
        raise Missing(
            "The site needs Node.js 18 or newer, which typesets its formulas, and no `node` "
            "command was found. Install Node.js (https://nodejs.org), then run `npm ci` in the "
            "root of the repository."
        )
    wanted = ["katex", "iframe-worker", "@fontsource/source-sans-3", "@fontsource/noto-sans-sc"]
    wanted += [f"@fontsource-variable/{font}" for font in FONTS]
    if absent := [name for name in wanted if not (MODULES / name / "package.json").is_file()]:
        raise Missing(
            f"The site needs npm packages that are not installed ({', '.join(absent)}). Run "
            "`npm ci` in the root of the repository."
        )


def files() -> dict[str, str | bytes]:
    """Return the contents of all files that come from npm, by address."""
    styles = "assets/stylesheets"
    katex = MODULES / "katex" / "dist"
    sheet = (katex / "katex.min.css").read_text(encoding="utf-8")
    # woff2 alone: every browser that can show the site reads it
    sheet = re.sub(r",url\([^)]+\.(?:woff|ttf)\) format\([^)]+\)", "", sheet)
    shim = (MODULES / "iframe-worker" / "shim" / "index.js").read_text(encoding="utf-8")
    shim = re.sub(r"\n?//# sourceMappingURL=.*", "", shim)
    found: dict[str, str | bytes] = {
        f"{styles}/katex.css": sheet,
        "assets/javascripts/iframe-worker.js": shim,
    }
    for font in (katex / "fonts").glob("*.woff2"):
        found[f"{styles}/fonts/{font.name}"] = font.read_bytes()
    faces = []
    for name in FONTS:
        folder = MODULES / "@fontsource-variable" / name
        for style in ("wght.css", "wght-italic.css"):
            for face in re.findall(r"@font-face \{.*?\}", (folder / style).read_text(), re.DOTALL):
                (file,) = re.findall(r"url\(\./files/([^)]+)\)", face)
                if file.removeprefix(f"{name}-").rsplit("-wght-")[0] in ALPHABETS:
                    faces.append(face.replace("./files/", "fonts/"))
                    found[f"{styles}/fonts/{file}"] = (folder / "files" / file).read_bytes()
    for name in ["katex", *(f"@fontsource-variable/{font}" for font in FONTS)]:
        licence = (MODULES / name / "LICENSE").read_bytes()
        found[f"{styles}/fonts/LICENSE-{Path(name).name}.txt"] = licence
    found[f"{styles}/fonts.css"] = "\n".join(faces) + "\n"
    return found
