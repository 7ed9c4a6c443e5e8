"""What users read, the README and the pages of the guide, and the examples in it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = sorted(ROOT.joinpath("httpx_tokenflow", "guide").glob("*.md"))
TEXTS = {page.name: page.read_text("utf-8") for page in (README, *GUIDE)}
EXAMPLES = [text for page in TEXTS.values() for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


def example(word: str) -> str:
    """The one example with that word in it."""
    (found,) = [one for one in EXAMPLES if word in one]
    return found
