"""What goes wrong because of what the caller gave: one clear sentence, no traceback at the command line."""


class OvdetError(Exception):
    """Base of the errors that this package raises on purpose."""


class InputError(OvdetError, ValueError):
    """The caller's input is wrong: the message says what, where (file, field, index) and what to do.

    The command line prints the message and exits with code 2.
    """


class CapabilityError(OvdetError, NotImplementedError):
    """A model was asked for something that its kind cannot do, such as text embeddings of a captioner."""
