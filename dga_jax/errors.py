"""The one exception a user may meet."""


class UserError(Exception):
    """Something only the user can put right.

    The message is one line: what is wrong, where (file, line, config field or domain),
    and what to do. Entry points print it without a traceback; see `dga_jax.cli`.
    """
