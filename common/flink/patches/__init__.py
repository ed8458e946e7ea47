"""Changes to PyFlink and Beam, one file a patch; ``docs/patches.md`` says when each can go."""
