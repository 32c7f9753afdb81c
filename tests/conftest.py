"""Real parts for the tests: a real IPython shell, pictures on disk."""

import gc
import os
import shutil
import struct
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import comm
import pytest
import torch
from hypothesis import settings
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from nnmagic.widget.widget import close_all


class Session:
    """A real shell with the extension loaded, and what it displayed."""

    def __init__(self, shell):
        self.shell = shell
        self.displayed = []
        shell.InteractiveTB.set_mode("Plain")  # colouring code takes half a second an exception

    def run(self, cell):
        """Run a cell and return its result; an exception is raised."""
        result = self.shell.run_cell(cell, store_history=True)
        if result.error_before_exec or result.error_in_exec:
            raise result.error_before_exec or result.error_in_exec
        return result.result

    def refusal(self, line):
        """Return what the UsageError of a line says, which is one line."""
        with pytest.raises(UsageError) as caught:
            self.run(line)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    @property
    def tables(self):
        """The records that were displayed, as text."""
        return [data["text/plain"] for data in self.displayed if "text/html" in data]

    def __getitem__(self, name):
        return self.shell.user_ns[name]


def pytest_configure(config):
    """Let hypothesis try few examples, in CI always the same; `NNMAGIC_EXAMPLES=1000`: so many."""
    examples = int(os.environ.get("NNMAGIC_EXAMPLES", "25"))
    is_fixed = os.environ.get("CI") == "true"
    settings.register_profile("nnmagic", max_examples=examples, deadline=None, derandomize=is_fixed)
    settings.load_profile("nnmagic")
    if os.environ.get("PYTEST_XDIST_WORKER"):
        torch.set_num_threads(1)  # the other cores have workers of their own
        os.environ["OMP_NUM_THREADS"] = "1"  # and kernels: threads that wait for a core take turns


def pytest_ignore_collect(collection_path, config):
    """Leave out the files for a browser where their tests are: they import much."""
    if collection_path.name.startswith("test_page_") and "not browser" in config.option.markexpr:
        return True
    return None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Take several processes, unless files are named: those are done before workers have begun."""
    are_named = config.args_source is config.ArgsSource.ARGS
    return 0 if are_named else min(os.cpu_count() or 1, 4)


ROUGH_SECONDS = {"browser": 10, "slow": 2, "": 0.04}
"""How long a test takes, by its marker."""


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that all processes end at the same time."""
    seconds = Counter()
    for item in items:
        kind = next(filter(item.get_closest_marker, ("browser", "slow")), "")
        seconds[item.path] += ROUGH_SECONDS[kind]
    items.sort(key=lambda item: (-seconds[item.path], item.path))


SEED = int(os.environ.get("NNMAGIC_SEED", "0"))
HAS_DEVICE = torch.accelerator.is_available()  # without one torch's seed takes milliseconds


def pytest_runtest_setup():
    """Let each test draw the same numbers, whichever tests ran before."""
    torch.manual_seed(SEED) if HAS_DEVICE else torch.default_generator.manual_seed(SEED)


@pytest.fixture(scope="module", autouse=True)
def what_was_imported_is_no_garbage():
    """Spare the collector the libraries imported so far: the many tests that collect are quick."""
    gc.collect()
    gc.freeze()


@contextmanager
def shell_session():
    """A real shell with the extension loaded, for the length of the block."""
    shell = InteractiveShell.instance()
    shell.reset(new_session=False)
    shell.display_formatter.active_types = shell.display_formatter.format_types
    session = Session(shell)
    publish = shell.display_pub.publish
    shell.display_pub.publish = lambda data, *args, **kwargs: session.displayed.append(data)
    shell.run_line_magic("load_ext", "nnmagic")
    shell.user_ns.update(torch=torch, nn=nn)
    yield session
    shell.run_line_magic("unload_ext", "nnmagic")
    shell.display_pub.publish = publish


@pytest.fixture
def session():
    with shell_session() as session:
        yield session


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """The root of a Fashion-MNIST data set, also in the environment: real pictures, or noise."""
    if os.environ.get("NNMAGIC_DATA"):
        yield Path(os.environ["NNMAGIC_DATA"])
        return
    root = tmp_path_factory.mktemp("pictures")
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for split, size in (("train", 64), ("t10k", 16)):
        images = torch.randint(0, 256, (size, 28, 28), generator=generator, dtype=torch.uint8)
        labels = torch.arange(size, dtype=torch.uint8) % 10
        (raw / f"{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, size, 28, 28) + images.numpy().tobytes()
        )
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 2049, size) + labels.numpy().tobytes()
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNMAGIC_DATA", str(root))
        yield root


class Doubling(nn.Module):
    """Returns a dict, calls one layer twice, and takes a keyword argument."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x, *, scale=None):
        y = self.act(self.shared(x))
        y = self.shared(y)
        return {"out": y if scale is None else y * scale, "rest": (y, None)}


@pytest.fixture
def doubling():
    torch.manual_seed(0)
    return Doubling()


@pytest.fixture(scope="session")
def lab_folder(tmp_path_factory):
    """Where a JupyterLab may keep what it needs; a skip, in CI a failure, without Chromium."""
    from lab import CHROMIUM  # takes a second

    if not shutil.which(CHROMIUM):
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium; install it with apt-get install chromium")
        pytest.skip("no Chromium")
    return tmp_path_factory


@pytest.fixture(scope="session")
def lab(lab_folder, pictures):
    from lab import Lab  # takes a second

    with Lab(lab_folder.mktemp("lab")) as lab:
        yield lab


class Page:
    """The other end of the widgets' comms: keeps what a page would get, and answers as one."""

    def __init__(self):
        self.messages = []

    def create_comm(self, **kwargs):
        page = self

        class RecordingComm(comm.base_comm.BaseComm):
            def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
                page.messages.append((self.comm_id, msg_type, data or {}, buffers or []))

        return RecordingComm(**kwargs)

    def told(self, kind):
        """The custom messages of a kind, each with its buffers."""
        contents = [(data.get("content"), buffers) for _, _, data, buffers in self.messages]
        return [(c, b) for c, b in contents if isinstance(c, dict) and c.get("tell") == kind]

    def ask(self, widget, **message):
        """Send what a page sends."""
        data = {"method": "custom", "content": message}
        widget.comm.handle_msg({"content": {"data": data}, "buffers": []})

    def show(self, widget):
        """Show a widget, and return it."""
        assert widget._repr_mimebundle_()
        return widget

    def set(self, widget, **traits):
        """Set traits as a page does."""
        data = {"method": "update", "state": traits, "buffer_paths": []}
        widget.comm.handle_msg({"content": {"data": data}, "buffers": []})


@pytest.fixture
def page(monkeypatch):
    page = Page()
    monkeypatch.setattr(comm, "create_comm", page.create_comm)
    yield page
    close_all()


def valueless(*, collected=True):
    """All tensors without values that are alive, once garbage is collected if that is wanted."""
    if collected:
        gc.collect()
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    return {id(t): t for t in tensors if t.is_meta or isinstance(t, FakeTensor)}


@pytest.fixture
def none_without_values():
    """See to it that a test leaves no tensor without values behind."""
    before = valueless()
    yield
    assert valueless().keys() <= before.keys()
