"""The process of a vLLM engine on a node beyond its first: vLLM's own headless mode of `vllm serve`.

The `vllm` command does not start from the wheel for CPUs, and the module of the server does not read `--headless`.
"""

from vllm.entrypoints.cli.serve import ServeSubcommand
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.utils.argparse_utils import FlexibleArgumentParser


def main() -> None:
    """Compute what the first node's server asks for, until SIGTERM or until a process of this node ends."""
    cli_env_setup()
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args()
    ServeSubcommand.cmd(arguments)


if __name__ == "__main__":  # the processes that vLLM spawns import this module
    main()
