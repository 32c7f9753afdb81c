"""Functions that LLVM compiles for the processor at hand, from sources in its own notation."""

import ctypes
from collections.abc import Callable
from struct import pack
from typing import Any

LLVM_TYPES = {"f": ("float", "fpext float"), "d": ("double", "bitcast double")}
"""By NumPy's type code: LLVM's type, and the instruction that makes it a double."""


def literal(value: float) -> str:
    """Return a double in LLVM's notation, e.g. `0x3ff0000000000000` for 1.0."""
    return f"0x{pack('>d', value).hex()}"


def for_type(source: str, code: str) -> str:
    """Return a source for one type of floats, `""` for a type that LLVM has no name for here.

    Args:
        source: in it TYPE, WIDEN and CODE stand for what `LLVM_TYPES` says of the type.
        code: NumPy's code of it.
    """
    if code not in LLVM_TYPES:
        return ""
    type_name, widen = LLVM_TYPES[code]
    return source.replace("TYPE", type_name).replace("WIDEN", widen).replace("CODE", code)


def compiled(source: str, name: str, result: Any, *arguments: Any) -> Callable[..., Any] | None:
    """Return a function of a source; None where LLVM cannot be loaded, or does not compile it.

    It keeps Python's lock: to let it go and take it again takes as long as to read a small tensor.

    Args:
        source: in LLVM's notation.
        name: of the function in it.
        result: what it returns, a type of `ctypes` or None.
        *arguments: the types of what it takes.
    """
    try:
        engine = _engine(source)
    except Exception:  # noqa: BLE001 - whatever is wrong with LLVM, there is a slower way
        return None
    function: Any = ctypes.PYFUNCTYPE(result, *arguments)(engine.get_function_address(name))
    function.engine = engine  # it owns the machine code
    return function


def _engine(source: str) -> Any:
    from llvmlite import binding as llvm  # what only loads the extension does not wait for it

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3
    )
    module = llvm.parse_assembly(source)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine
