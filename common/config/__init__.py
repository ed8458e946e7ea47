"""The sections of a configuration (``model``) and how it is read (``loader``)."""
