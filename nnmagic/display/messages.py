"""What the widget and its page send each other, key by key; the page reads no other keys."""

from typing import Any, TypedDict


class ColumnContent(TypedDict, total=False):
    """A column: `strings` and `index` of texts, else numbers as bytes, little-endian.

    A pair has `first` and `second`; a histogram has ten bytes a row in `values`, the fullest bin
    255, and in `zero` how many bins are below zero, -1 for none. Errors that are drawn have in
    `bounds` where their tick is, NaN for none. Lanes have in
    `edges` pairs of rows: one, and one that gets what it made; and in `values` for each
    row the one that made what it returns as it got it, -1 for none.
    `texts` has what cells say in place of their number, or of the numbers of a pair, by row.
    """

    key: str
    title: str
    meaning: str
    kind: str
    always: bool
    hidden: bool
    priority: int
    narrowest: int | None
    joiner: str
    values: bytes
    bounds: bytes
    first: bytes
    second: bytes
    zero: bytes
    edges: bytes
    strings: list[str]
    index: bytes
    texts: dict[str, str]


class StepsContent(TypedDict):
    """The recorded iterations of the place in the code that has most, and the one that is shown."""

    iterations: list[int]
    shown: int


class ItemScoresContent(TypedDict):
    """The likeliest classes of one item of a batch, each with its probability."""

    item: int
    best: list[tuple[str, float]]


class ScoresContent(TypedDict):
    """Outputs read as class scores: how they became probabilities, of how many items."""

    how: str
    items: int
    rows: list[ItemScoresContent]


class RunContent(TypedDict):
    """What the page may ask to be run again, or the reason why it may not."""

    enabled: bool
    reason: str
    sources: list[str]


class CurveContent(TypedDict, total=False):
    """A quantity of a layer over the iterations of a run; None where it is unknown.

    `low` and `high` are the ends of a band around it, if there is one, and `mark` a value that is
    drawn as a line across.
    """

    title: str
    iterations: list[int]
    values: list[float | None]
    low: list[float | None]
    high: list[float | None]
    is_log: bool
    mark: float | None


class FindingContent(TypedDict):
    """A finding: `name` is that of the row that it is about, whether it is in the table or not."""

    text: str
    level: str
    name: str
    iteration: int


class SheetContent(TypedDict, total=False):
    """A table: `level`, `label`, `name` and `state` have an entry a row, as bytes.

    `labels` and `names` are the different texts, which `label` and `name` number. `keys` has the
    rows' keys that are not their names, and `message` what stands in place of a row's cells.
    `flat` tells whether rows that only group are left out at first; `total` is how many of `noun`
    the heading counts, None for as many as there are rows. `first` is the row to which a button
    goes, -1 for none, `first_name` what the button says, and `first_meaning` what the row is.
    """

    static: str
    heading: str
    notes: list[str]
    title: str
    count: int
    level: bytes
    labels: list[str]
    label: bytes
    names: list[str]
    name: bytes
    keys: dict[str, str]
    state: bytes
    opened: int
    flat: bool
    noun: str
    total: int | None
    first: int
    first_name: str
    first_meaning: str
    failed: int
    columns: list[ColumnContent]
    message: dict[str, str]
    steps: StepsContent | None
    losses: list[CurveContent]
    findings: list[FindingContent]
    scores: ScoresContent | None
    structure: str
    run: RunContent | None


class HistogramContent(TypedDict):
    """A histogram: the counts of 32 bins between two limits, and of which values."""

    counts: list[int]
    low: float
    high: float
    of: str


class PictureContent(TypedDict):
    """A grid of values to draw, the number of its buffer in the message.

    `start` is the place in the tensor at which its sliders stand at first. `odd` has how many
    values of the whole tensor are NaN, +Inf and -Inf, and is empty where that is not known.
    `wide` tells that the values in the buffer are float64, not float32. `names` are those of the
    last axis, or of a kind that is written out the texts of all values, where numbers are too few.
    """

    kind: str
    buffer: int
    shape: list[int]
    steps: list[int]
    start: list[int]
    odd: list[int]
    full: list[int]
    axes: list[str]
    caption: str
    low: float
    high: float
    diverging: bool
    wide: bool
    names: list[str]


class MeasuredContent(TypedDict):
    """The numbers of a tensor."""

    shape: str
    stats: dict[str, Any]
    histogram: HistogramContent | None


class TensorContent(MeasuredContent):
    """A tensor in a panel, or a figure: a grid of values worked out from tensors.

    `caption` says in words what it is, above its picture; a figure may have no `stats`. `loadable`
    is how many values may be loaded: all, of a very large tensor the first, or none. Where not all
    are there and they cannot be loaded, `reason` says why.
    """

    title: str
    caption: str
    place: int
    dtype: str
    device: str
    numel: int
    unknown: str
    picture: PictureContent | None
    loadable: int
    offers_new_run: bool
    reason: str


class ParameterContent(MeasuredContent):
    """A parameter in a layer's panel, as it is now, and its gradient in the run."""

    name: str
    count: int | None
    first: str
    flags: str
    picture: PictureContent | None
    gradient: MeasuredContent | None
    gradient_norm: float | None


class PanelContent(TypedDict):
    """The panel of a row.

    `shapes` says what goes in and comes out, `wrong` what is wrong, `facts` what else is known,
    each with its name. `figures` are drawn after the outputs, as these are, those of one list side
    by side. `parameters_heading` says of when the parameters are.
    """

    title: str
    type: str
    shapes: str
    wrong: list[str]
    notes: list[str]
    inputs: list[TensorContent]
    outputs: list[TensorContent]
    figures: list[list[TensorContent]]
    curves: list[CurveContent]
    parameters: list[ParameterContent]
    parameters_heading: str
    parameters_reason: str
    doc: str
    facts: list[tuple[str, str]]


class PointContent(TypedDict):
    """The iteration that a running loop has come to, as a point of each curve.

    `curves` are the curves' titles and looks. In the buffer of the number `values` are float32,
    (rows, curves), in those of `low` and `high` (rows,) the ends of the band around the first
    curve; NaN where a row has none.
    """

    iteration: int
    curves: list[CurveContent]
    values: int
    low: int
    high: int


class PageMessage(SheetContent, total=False):
    """To the page: `tell` is values, point, panel, pictures, error or begun.

    "values" has new cells for the same rows: what a `SheetContent` has, but columns by their keys,
    and in place of bytes the number of a buffer. "point" has the `point` that a loop has come to.
    "panel" has the `panel` of the row of a `key`, or None where there is none, and why in `lines`,
    "pictures" the `labels` of pictures and the number of their `buffer`, "error" `lines`. "begun"
    says at once that what the page asked for, and takes its time, began.
    """

    tell: str
    point: PointContent
    key: str
    panel: PanelContent | None
    buffer: int
    lines: list[str]


class AskMessage(TypedDict, total=False):
    """From the page: `ask` is panel, latest, all, run, pictures, pause, resume or close.

    "all" asks for the values of a `tensor` ("input" or "output"), the one of this `index`, of a
    `new` run or of the recorded one.
    """

    ask: str
    tensor: str
    index: int
    new: bool
    on: str
    seed: int
    name: str
