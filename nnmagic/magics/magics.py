"""The three magics: their options, their help, and the maker that each calls when first used."""

from typing import Any

from IPython.core.magic import (
    Magics,
    line_cell_magic,
    line_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
)
from IPython.core.magic_arguments import kwds, magic_arguments

from nnmagic.magics.options import options


@magics_class
class NNMagics(Magics):
    """%nnsummary, %nnparams, %nntrace and %%nntrace."""

    @no_var_expand
    @magic_arguments()
    @options(
        *("depth", "layers", "sort_layers", "top", "input_size", "dtype", "device", "optimizer"),
        *("plan", "real", "engine", "static", "output"),
    )
    @kwds(usage="nnsummary [options] [EXPRESSION]")
    @needs_local_scope
    @line_magic
    def nnsummary(self, line: str, local_ns: dict[str, Any] | None = None) -> Any:
        """Show the structure of a network: shapes, parameters, FLOPs and memory, without a run.

        EXPRESSION is a network, or a call of one; the call is made on the meta device, on shapes
        alone, or for real where those do not do, and everything is put back. Any other expression
        in which networks run is evaluated, once. Options stand before or after it.

            %nnsummary                          the FashionMNIST network of the tutorial
            %nnsummary net                      on an input that is worked out from its layers
            %nnsummary net(x, mask=m)           on these arguments
            %nnsummary net --input-size 1,3,28,28
            %nnsummary loss_fn(net(x), y)       all that runs in it
            %nnsummary --real net(x)            for real, whatever could be had on shapes alone
            %nnsummary net --optimizer adam     and the memory of a training step
            %nnsummary --plan fsdp=8,tp=4 net   and that of each of 32 ranks
            s = %nnsummary net                  keep the record; s.to_frame(), s.total_flops
        """
        __tracebackhide__ = True
        from nnmagic.magics import answers
        from nnmagic.magics.nnsummary import summary_of

        return answers.run(summary_of, self.nnsummary, line, self.shell, local_ns)

    @no_var_expand
    @magic_arguments()
    @options(
        *("depth", "layers", "sort_params", "top", "values", "param_grad", "against_params"),
        *("device", "static", "output"),
    )
    @kwds(usage="nnparams [options] [EXPRESSION]")
    @needs_local_scope
    @line_magic
    def nnparams(self, line: str, local_ns: dict[str, Any] | None = None) -> Any:
        """Show the parameters of a network: shape, size, first values, statistics, gradients.

        EXPRESSION is a network, a state dict, or any mapping of names to tensors.

            %nnparams                           the FashionMNIST network of the tutorial
            %nnparams net --values 3            with the first three rows of each
            %nnparams net --layers "*.bias"
            %nnparams --grad net                with the norms of the gradients that it has now
            %nnparams torch.load("net.pt")      a state dict
            %nnparams --against net.pt net      what is missing, changed or equal
            p = %nnparams net                   keep the record; p["0.weight"].values
        """
        __tracebackhide__ = True
        from nnmagic.magics import answers
        from nnmagic.magics.nnparams import params_of

        return answers.run(params_of, self.nnparams, line, self.shell, local_ns)

    @no_var_expand
    @magic_arguments()
    @options(
        *("depth", "layers", "values", "step", "classes", "input_size", "dtype", "device"),
        *("keep", "ops", "grad", "every", "probe", "against", "isolate", "float64"),
        *("static", "live", "output"),
    )
    @kwds(usage="nntrace [options] [EXPRESSION]")
    @needs_local_scope
    @line_cell_magic
    def nntrace(
        self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None
    ) -> Any:
        """Run a network and show the shapes and the values at every layer.

        EXPRESSION is what you would have typed anyway: it is evaluated once, in your own modes,
        and every module that runs in it is a row. A network alone runs in eval mode on an input
        that is worked out. Options stand before or after it.

            %nntrace                            the FashionMNIST network of the tutorial
            %nntrace net(x)
            %nntrace loss_fn(net(x), y) --depth 2
            t = %nntrace net(x)                 keep the record; t["conv1"].mean, t.to_frame()
            %nntrace net(x) --ops               with the functions between the layers
            %nntrace --grad loss_fn(net(x), y).backward()
            %nntrace --against bfloat16 net(x)  where a copy in bfloat16 differs, and how far
            %nntrace --against other net(x)     where another network parts from this one
            %nntrace --live net                 a widget that follows every later call

        As a cell magic it records all that runs in the cell, a training loop included, or the
        networks that are named only:

            %%nntrace net --every 10 -o t
            for x, y in batches:
                train(net, x, y)
        """
        __tracebackhide__ = True
        from nnmagic.magics import answers, traced_cell

        if cell is None:
            from nnmagic.magics.nntrace import trace_or_comparison

            return answers.run(trace_or_comparison, self.nntrace, line, self.shell, local_ns)
        return traced_cell.run_cell(self.nntrace, line, cell, self.shell, local_ns)
