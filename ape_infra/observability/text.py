"""Generated files as text, the same for the same data: a changed digest replaces the reader."""

from __future__ import annotations

from typing import Any

import yaml

from ape_contracts.text import plain

# Templates of these are for people to read in a browser.
PAGES = ("html.j2",)


class _Dumper(yaml.SafeDumper):
    """Writes repeated data in full: the readers of Alertmanager and Loki do not share anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def yaml_of(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _shown(value: Any) -> Any:
    """A value of a page as plain text; what was rendered before stays as it is."""
    return plain(value) if type(value) is str else value


def render(package: str, template: str, **values: object) -> str:
    """Fill in a template of the folder `templates` of `package`; in HTML, escape values.

    There, what would turn or hide text is shown, too. Raises jinja2.UndefinedError if a value is
    missing.
    """
    # Imported here: most runs of the program render no template.
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(enabled_extensions=PAGES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown if template.endswith(PAGES) else None,
    )
    return environment.get_template(template).render(values)
