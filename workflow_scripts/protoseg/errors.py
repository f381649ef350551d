"""The error of bad input: one message that names the file, the id or the setting, and the cure."""


class InputError(ValueError):
    """Something the user can mend; commands show the message alone, without a traceback."""
