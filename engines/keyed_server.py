"""Run a server's module with a key that its command line, which every user of the machine can read, does not show.

`keyed_server.py FLAG -m MODULE ARGUMENTS` takes the key out of the environment and appends it as FLAG to the arguments
that the module sees. The Python of the engine runs this file, so the standard library is all that is imported here.
"""

import logging
import os
import runpy
import sys

KEY_VARIABLE = "LORRY_SERVER_KEY"


def main() -> None:
    """Become the server."""
    del sys.path[0]  # the folder of this file, whose modules are not the engine's
    key = os.environ.pop(KEY_VARIABLE)
    _, flag, _, module, *arguments = sys.argv
    _keep_out_of_logs(key)
    sys.argv = [module, *arguments, flag, key]
    # `alter_sys`: processes that the server spawns import its module as their main one, not this file.
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _keep_out_of_logs(key: str) -> None:
    # SGLang logs all of its arguments.
    make = logging.getLogRecordFactory()

    def without_key(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if key in (text := record.getMessage()):
            record.msg, record.args = text.replace(key, "***"), ()
        return record

    logging.setLogRecordFactory(without_key)


if __name__ == "__main__":
    main()
