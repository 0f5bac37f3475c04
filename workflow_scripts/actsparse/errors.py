"""What a user did wrong."""


class ConfigError(ValueError):
    """A mistake in the config, told in one line."""


def check_one_of(where: str, word: str, allowed) -> None:
    """Raise ConfigError, naming the key `where`, when `word` is none of the allowed ones."""
    if word not in allowed:
        raise ConfigError(f"{where}: {word!r} is unknown (allowed: {', '.join(sorted(allowed)) or 'none'})")
