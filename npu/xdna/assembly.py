"""The custom form of MLIR's text: each operation as its dialect likes to be written, which is what people read and what
mlir-aie's examples look like. `mlir` says which release it follows, and that nothing of it was ever tried.

Sources: that release's pages of the dialects `aie` and `aiex`; for `arith`, `func`, `memref` and `scf` MLIR's own.
"""

from __future__ import annotations

from collections.abc import Iterator

from npu.xdna.operations import (
    INDENT,
    Integers,
    Loops,
    LoopsOfEach,
    Operation,
    Region,
    Symbol,
    Value,
    assigned,
    dictionary,
    generic_form,
    plain,
    types,
)

_HEADS = {  # what an operation is written like up to its region; the words in braces are those of `_words`
    "builtin.module": "module {symbol}",
    "aie.device": "aie.device({device})",
    "aie.tile": "aie.tile({col}, {row})",
    "aie.objectfifo": "aie.objectfifo {symbol}({producer}, {{{consumers}}}, {elemNumber}) : {elemType}",
    "aie.objectfifo.link": "aie.objectfifo.link {fifoIns} -> {fifoOuts}({src_offsets} {dst_offsets})",
    "aie.objectfifo.acquire": "aie.objectfifo.acquire {objFifo_name}({port}, {results}) : {gives}",
    "aie.objectfifo.release": "aie.objectfifo.release {objFifo_name}({port}, {size})",
    "aie.buffer": "aie.buffer({operands}) {{sym_name = {sym_name}}} : {gives} = {initial_value}",
    "aie.core": "aie.core({operands})",
    "aie.end": "aie.end",
    "aie.runtime_sequence": "aie.runtime_sequence {symbol}({arguments})",
    "aie.dma_bd": "aie.dma_bd({operands} : {takes} offset = {static_offset} len = {static_len}{order})",
    "aiex.dma_configure_task_for": "aiex.dma_configure_task_for {alloc}",
    "aiex.dma_start_task": "aiex.dma_start_task({operands})",
    "aiex.dma_await_task": "aiex.dma_await_task({operands})",
    "aiex.dma_free_task": "aiex.dma_free_task({operands})",
    "arith.bitcast": "arith.bitcast {operands} : {takes} to {gives}",
    "arith.constant": "arith.constant {value} : {gives}",
    "arith.extui": "arith.extui {operands} : {takes} to {gives}",
    "arith.index_cast": "arith.index_cast {operands} : {takes} to {gives}",
    "arith.ori": "arith.ori {operands} : {gives}",
    "arith.shli": "arith.shli {operands} : {gives}",
    "func.call": "func.call {callee}({operands}) : ({takes}) -> ()",
    "func.func": "func.func {visibility} {symbol}{function_type} attributes {{{attributes}}}",
    "memref.load": "memref.load {first}[{others}] : {first_type}",
    "scf.for": "scf.for {arguments_alone} = {bounds}",
    "scf.index_switch": "scf.index_switch {operands}",
    "scf.yield": "scf.yield",
}
_TAILS = {  # the properties that follow a region
    "aie.core": ("dynamic_objfifo_lowering", "stack_size"),
    "aiex.dma_configure_task_for": ("issue_token", "repeat_count"),
}
_ENDS_UNSAID = ("aie.device", "scf.for")  # whose last operation goes without saying
_DECLARED = "func.func"  # its body is elsewhere

_DEVICES = {"4": "npu1"}  # of the enumeration AIEDevice
_PORTS = {"0": "Produce", "1": "Consume"}  # of ObjectFifoPort


def custom_form(operation: Operation, depth: int = 0) -> Iterator[str]:
    """The lines of its custom form; where none is known, of its generic form, which can stand beside others."""
    if operation.name not in _HEADS:
        yield from generic_form(operation, depth, custom_form)
        return
    indent = INDENT * depth
    head = f"{indent}{assigned(operation.results)}{_HEADS[operation.name].format_map(_words(operation))}"
    if operation.name == "scf.index_switch":
        yield head
        yield from _cases(operation, depth)
    elif operation.name == _DECLARED or not operation.regions:
        yield head
    else:
        yield f"{head} {{"
        yield from _body(operation.regions[0], depth + 1, operation.name in _ENDS_UNSAID)
        properties = operation.properties
        rest = {name: properties[name] for name in _TAILS.get(operation.name, ()) if name in properties}
        yield f"{indent}}}{f' {{{dictionary(rest)}}}' if rest else ''}"


def _body(region: Region, depth: int, end_unsaid: bool) -> Iterator[str]:
    for operation in region.operations[:-1] if end_unsaid else region.operations:
        yield from custom_form(operation, depth)


def _cases(switch: Operation, depth: int) -> Iterator[str]:
    """The regions of a switch: the cases, then what is done in every other."""
    default, *bodies = switch.regions
    numbers = switch.properties["cases"]
    assert isinstance(numbers, Integers)
    named = [(f"case {number}", body) for number, body in zip(numbers.values, bodies, strict=True)]
    for name, body in (*named, ("default", default)):
        yield f"{INDENT * depth}{name} {{"
        yield from _body(body, depth + 1, end_unsaid=False)
        yield f"{INDENT * depth}}}"


def _words(operation: Operation) -> dict[str, str]:
    """All that a form may say of an operation."""
    words = {name: plain(attribute) for name, attribute in operation.properties.items()}
    operands, results = operation.operands, operation.results
    words["operands"] = _listed(operands)
    words["takes"] = types(operands)[1:-1]
    words["gives"] = types(results)[1:-1]
    words["results"] = str(len(results))
    words["attributes"] = dictionary(operation.attributes)
    if operands:
        words["first"], words["first_type"] = str(operands[0]), operands[0].type
        words["others"] = _listed(operands[1:])
    if (name := operation.properties.get("sym_name")) is not None:
        words["symbol"] = str(Symbol(str(name)))
    if operation.regions:
        arguments = operation.regions[0].arguments
        words["arguments"] = ", ".join(f"{value}: {value.type}" for value in arguments)
        words["arguments_alone"] = _listed(arguments)
    return words | _own_words(operation, words)


def _own_words(operation: Operation, words: dict[str, str]) -> dict[str, str]:
    """Those of one kind of operation."""
    match operation.name:
        case "aie.device":
            return {"device": _DEVICES[words["device"]]}
        case "aie.objectfifo":
            return _ends(operation)
        case "aie.objectfifo.acquire" | "aie.objectfifo.release":
            return {"port": _PORTS[words["port"]]}
        case "aie.dma_bd":
            ordered = "static_sizes" in words
            return {
                "order": " sizes = {static_sizes} strides = {static_strides}".format_map(words)
                if ordered
                else ""
            }
        case "func.func":
            return {
                "visibility": words["sym_visibility"].strip('"'),
                "function_type": words["function_type"].removesuffix(" -> ()"),
            }
        case "scf.for":
            return {"bounds": "{} to {} step {}".format(*operation.operands)}
    return {}


def _ends(fifo: Operation) -> dict[str, str]:
    """Both ends of a fifo, with the order of each where it has one."""
    sent, received = (
        fifo.properties[name] for name in ("dimensionsToStream", "dimensionsFromStreamPerConsumer")
    )
    assert isinstance(sent, Loops)
    assert isinstance(received, LoopsOfEach)
    producer, *consumers = fifo.operands
    return {
        "producer": _end(producer, "dimensionsToStream", sent),
        "consumers": ", ".join(
            _end(tile, "dimensionsFromStream", order)
            for tile, order in zip(consumers, received.orders, strict=True)
        ),
    }


def _end(tile: Value, keyword: str, order: Loops) -> str:
    return f"{tile} {keyword} {order.plain}" if order.loops else str(tile)


def _listed(values: tuple[Value, ...]) -> str:
    return ", ".join(map(str, values))
