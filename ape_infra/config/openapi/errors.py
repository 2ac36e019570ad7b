"""The error of a document that cannot be used."""


class OpenApiError(Exception):
    """The document cannot be used. The message has the rule and the remedy."""
