"""What a plan costs: `python -m benchmarks.plan`, best on an idle machine.

`%nnsummary --plan fsdp=8,tp=4 net --optimizer adam --dtype bfloat16` of a Llama of 405 billion
parameters on the meta device: the median of five, and the first one, which imports what it needs.
"""

from statistics import median
from time import perf_counter

import torch
from IPython.core.interactiveshell import InteractiveShell
from transformers import LlamaConfig, LlamaForCausalLM

LINE = "--plan fsdp=8,tp=4 net --optimizer adam --dtype bfloat16"

LLAMA_405B = LlamaConfig(
    hidden_size=16384,
    intermediate_size=53248,
    num_hidden_layers=126,
    num_attention_heads=128,
    num_key_value_heads=8,
    vocab_size=128256,
)


def main() -> None:
    """Print the seconds."""
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "nnmagic")
    with torch.device("meta"):
        shell.user_ns["net"] = LlamaForCausalLM(LLAMA_405B)
    seconds = []
    for _ in range(6):
        start = perf_counter()
        summary = shell.run_line_magic("nnsummary", LINE)
        seconds.append(perf_counter() - start)
    print(f"%nnsummary {LINE}")
    print(f"{summary.total_params:,} parameters, {torch.get_num_threads()} threads")
    print(f"first {seconds[0]:.2f} s, then a median of {median(seconds[1:]):.2f} s")
    print(*summary.plan.lines(), sep="\n")


if __name__ == "__main__":
    main()
