"""An engine's own parser, as a program for the interpreter of its environment; `tests.contract.test_parsers` runs it.

`own_parser.py KIND`: command lines by name come in as JSON; what was read of each goes out in the last line, null where
it was refused. A command line begins with `-m` and the module.
`known` has the names of the engine's parsers of answers.
"""

import json
import sys


def vllm(arguments: list[str]) -> dict[str, object]:
    """Read by vLLM."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    found = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments[2:])
    validate_parsed_serve_args(found)
    return {
        "tensor": found.tensor_parallel_size,
        "pipeline": found.pipeline_parallel_size,
        "data": found.data_parallel_size,
        "context": found.max_model_len,
        "batch": found.max_num_seqs,
        "extra": found.seed,
        "parsers": [found.tool_call_parser, found.reasoning_parser or None],
    }


def sglang(arguments: list[str]) -> dict[str, object]:
    """Read by SGLang."""
    from sglang.srt.server_args import prepare_server_args

    found = prepare_server_args(arguments[2:])
    return {
        "tensor": found.tp_size,
        "pipeline": found.pp_size,
        "data": found.dp_size,
        "context": found.context_length,
        "batch": found.max_running_requests,
        "extra": found.random_seed,
        "parsers": [found.tool_call_parser, found.reasoning_parser or None],
    }


def lmdeploy(arguments: list[str]) -> dict[str, object]:
    """Read by LMDeploy."""
    from lmdeploy.cli.cli import CLI
    from lmdeploy.cli.serve import SubCliServe

    if "api_server" not in SubCliServe.subparsers.choices:
        SubCliServe.add_parsers()
    found = CLI.parser.parse_args(arguments[2:])
    return {
        "tensor": found.tp,
        "pipeline": 1,
        "data": found.dp,
        "context": found.session_len,
        "batch": found.max_batch_size,
        "extra": found.max_prefill_iters,
        "parsers": [found.tool_call_parser, found.reasoning_parser or None],
    }


def vllm_parsers() -> list[list[str]]:
    """Return the names of the parsers of tool calls and of reasoning in vLLM."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager

    return [list(ToolParserManager.list_registered()), list(ReasoningParserManager.list_registered())]


def sglang_parsers() -> list[list[str]]:
    """Return those of SGLang."""
    from sglang.srt.function_call.parser_names import TOOL_CALL_PARSER_NAMES
    from sglang.srt.parser.reasoning_parser_names import REASONING_PARSER_NAMES

    return [list(TOOL_CALL_PARSER_NAMES), list(REASONING_PARSER_NAMES)]


def lmdeploy_parsers() -> list[list[str]]:
    """Return those of LMDeploy."""
    from lmdeploy.serve.parsers.reasoning_parser import ReasoningParserManager
    from lmdeploy.serve.parsers.tool_parser import ToolParserManager

    return [list(ToolParserManager.module_dict), list(ReasoningParserManager.module_dict)]


PARSERS = {"vllm": vllm_parsers, "sglang": sglang_parsers, "lmdeploy": lmdeploy_parsers}
READERS = {"vllm": vllm, "sglang": sglang, "lmdeploy": lmdeploy}


def main() -> None:
    """Read them all."""
    found: dict[str, object] = {"known": PARSERS[sys.argv[1]]()}
    for name, arguments in json.load(sys.stdin).items():
        try:
            found[name] = READERS[sys.argv[1]](arguments)
        except SystemExit:
            found[name] = None
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
