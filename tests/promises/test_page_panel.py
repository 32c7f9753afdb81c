"""The widget's panel in a real page: a layer's pictures and numbers, and running again."""

import json
import os
import re
import signal

import pytest
from lab import notebook_of, run_cell
from playwright.sync_api import expect
from widget_page import (
    AS_DICT,
    AS_LATE,
    COLORS,
    LOAD,
    SOONER,
    all_rows,
    control,
    frames,
    names,
    open_panel,
    row_of,
    rows,
    statistic_texts,
    statistics,
    visit,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RESNET = """
import inspect, torchvision
torch.manual_seed(0)
net = torchvision.models.resnet18().eval()
x = torch.rand(1, 3, 224, 224)
with torch.no_grad():
    t = %nntrace net(x)
t
"""


def test_a_resnet_is_searched_and_its_convolution_seen_whole(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic")
        found = {"all": widget.locator(".nm-count").inner_text()}
        control(widget, "search").fill("conv")
        found["count"] = widget.locator(".nm-count").inner_text()
        found["rows"] = all_rows(widget)
        control(widget, "search").fill("")
        control(widget, "grid").evaluate("grid => { grid.scrollTop = 0; }")
        frames(page)
        found["title"] = open_panel(widget, "conv1")
        panel = control(widget, "panel")
        panel.locator("canvas").nth(1).wait_for()
        found["colors"] = [canvas.evaluate(COLORS) for canvas in panel.locator("canvas").all()]
        height, picture = "e => e.scrollHeight", panel.locator("canvas").first
        says = picture.locator("xpath=..").locator("output")
        found["heights"] = [panel.evaluate(height)]
        found["readouts"] = [says.inner_text()]
        picture.press("ArrowRight")
        found["heights"].append(panel.evaluate(height))
        found["readouts"].append(says.inner_text())
        found["statistics"] = statistics(widget)
        found["text"] = panel.inner_text()
        found["regions"] = page.get_by_role("region", name="conv1 · Conv2d").count()
        found["shapes"] = panel.locator(".nm-shapes").inner_text()
        histogram = panel.locator(".nm-hist").first
        histogram.press("ArrowRight")
        says = histogram.locator("xpath=..").locator("output")
        found["first bin"] = says.inner_text()
        histogram.evaluate("histogram => histogram.blur()")
        found["all bins"] = says.inner_text()
        bars = histogram.locator("path").first.bounding_box()
        for share in (0.01, 0.51):  # the axis may be a common one, and longer
            x = bars["x"] + share * bars["width"]
            page.mouse.move(x, bars["y"] + bars["height"] / 2)
            found.setdefault("hovered", []).append(says.inner_text())
        control(widget, "search").hover()
        found["hovered"].append(says.inner_text())
        before = histogram.locator("path").first.get_attribute("d")
        control(widget, "log").click()
        found["log"] = control(widget, "log").get_attribute("aria-pressed")
        found["is redrawn"] = panel.locator(".nm-hist path").first.get_attribute("d") != before
        record = "[as_dict(t['conv1'].inputs[0]), as_dict(t['conv1'].main)]"
        found["record"] = json.loads(run_cell(page, f"{AS_DICT}\nprint(json.dumps({record}))"))
        found["place"] = run_cell(
            page,
            "lines, first = inspect.getsourcelines(torchvision.models.ResNet._forward_impl)\n"
            "at = next(i for i, line in enumerate(lines) if 'self.conv1(x)' in line)\n"
            "print(f'resnet.py:{first + at}')",
        ).strip()
        found["names"] = json.loads(
            run_cell(page, "print(json.dumps([n for n, _ in net.named_modules()]))")
        )
        whole = panel.get_by_text("all 802,816 values", exact=True)
        found["whole before"] = whole.count()
        control(widget, "all-output-0").click()
        expect(whole).to_be_visible(timeout=30_000)
        expect(control(widget, "all-output-0")).to_have_count(0)
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, RESNET), look)

    convolutions = [n for n in found["names"] if "conv" in n or n.endswith("downsample.0")]
    above = {n.rsplit(".", i)[0] for n in convolutions for i in range(1, n.count(".") + 1)}
    assert len(convolutions) == 20
    assert found["count"] == f"20 of {found['all']}"
    assert sorted(names(found["rows"])) == sorted({"net", *convolutions, *above})
    assert found["title"] == "conv1 · Conv2d"
    assert found["regions"] == 1
    assert found["shapes"] == "(1, 3, 224, 224) → (1, 64, 112, 112)"
    assert re.fullmatch(r"0\.000 … 0\.031: [\d,]+ of [\d,]+ \(\d\.\d %\)", found["first bin"])
    first, middle, after = found["hovered"]
    assert first == found["first bin"]
    assert middle.startswith("0.500 … 0.531: ")
    assert found["all bins"] == after
    assert after.startswith("over ")
    assert (found["log"], found["is redrawn"]) == ("true", True)
    assert len(found["colors"]) == 3  # in, out and the kernels
    assert min(found["colors"]) > 20
    assert found["heights"][0] == found["heights"][1]
    assert found["readouts"][0] == ""
    assert re.fullmatch(r"batch 0, row 0, column 0: 0\.\d+, .*", found["readouts"][1])
    assert found["statistics"] == [statistic_texts(record) for record in found["record"]]
    assert "weight (64, 3, 7, 7) · 9,408" in found["text"].replace("\xa0", " ")
    assert found["place"] in found["text"]
    assert "called at" in found["text"]
    assert found["whole before"] == 0


CLASSIFIER = """
torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10))
x, flat, narrow = torch.rand(1, 28, 28), torch.ones(1, 28, 28) / 2, torch.ones(1, 20)
t = %nntrace net(x)
t
"""

IN_EVAL_MODE = """
def by_torch(x):
    was, _ = net.training, net.eval()
    with torch.no_grad():
        y = net(x)
    net.train(was)
    return was, f"{y.mean():.3f}±{y.std():.3f}", int(y.argmax())
"""


SOURCES = {"noise": "noise", "picture": "a Fashion", "variable": "a variable"}
"""How what to run on is named, as far as it has to be typed."""


def test_run_again_gives_what_torch_gives(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic").first
        heading = widget.locator(".nm-heading")
        found = {}

        def by_torch(x):
            return json.loads(run_cell(page, f"{IN_EVAL_MODE}\nprint(json.dumps(by_torch({x})))"))

        def choose(source):
            control(widget, "source").focus()
            page.keyboard.type(SOURCES[source])
            expect(control(widget, "source")).to_have_value(source)

        def run(source, heading_text):
            expect(control(widget, "source")).to_have_value(source)
            control(widget, "run").focus()
            page.keyboard.press("Enter")
            expect(heading).to_contain_text(heading_text)
            frames(page)
            return rows(widget)[0]["mean"]

        found["linear"] = open_panel(widget, "1")
        widget.locator("[data-nm=panel] table").wait_for()
        found["statistics"] = statistics(widget)
        record = "[as_dict(t['1'].inputs[0]), as_dict(t['1'].main)]"
        found["record"] = json.loads(run_cell(page, f"{AS_DICT}\nprint(json.dumps({record}))"))
        found["recorded"] = rows(widget)[0]["mean"]
        choose("noise")
        page.keyboard.press("Tab")
        expect(control(widget, "seed")).to_be_focused()
        page.keyboard.press("Control+a")
        page.keyboard.type("7")
        found["noise"] = run("noise", "seed 7")
        noise = "torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(7))"
        found["noise by torch"] = by_torch(noise)
        choose("picture")
        code = "pictures = nnmagic.fashion_mnist()\nprint(pictures.classes[pictures[3][1]])"
        found["label"] = run_cell(page, code).strip()
        control(widget, "picture-0").focus()
        for _ in range(3):
            page.keyboard.press("Tab")
        expect(control(widget, "picture-3")).to_be_focused()
        page.keyboard.press("Space")
        found["picture"] = run("picture", f"Fashion-MNIST picture 3 ({found['label']})")
        found["picture by torch"] = by_torch("nnmagic.fashion_mnist()[3][0].reshape(1, 28, 28)")
        found["bars"] = widget.locator(".nm-score-name").all_inner_texts()
        choose("variable")
        page.keyboard.press("Tab")
        page.keyboard.type("flat")
        found["variable"] = run("variable", "on flat")
        found["variable by torch"] = by_torch("flat")
        control(widget, "variable").fill("nope")
        control(widget, "variable").press("Enter")
        alert = widget.locator(".nm-alert")
        expect(alert).not_to_be_empty()
        found["unknown"] = alert.inner_text()
        found["unknown keeps"] = rows(widget)[0]["mean"]
        control(widget, "variable").fill("narrow")
        control(widget, "run").click()
        expect(heading).to_contain_text("failed in")
        found["failed"] = [row["message"] for row in rows(widget) if row["message"]]
        found["alert"] = alert.inner_text()
        return found

    found = visit(lab, notebook_of(tmp_path, LOAD, CLASSIFIER), look)

    assert found["linear"] == "1 · Linear"
    assert found["statistics"] == [statistic_texts(record) for record in found["record"]]
    assert found["noise"] != found["recorded"]
    for source in ("noise", "picture", "variable"):
        was_training, mean, _ = found[f"{source} by torch"]
        assert was_training
        assert found[source] == mean
    classes = [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker"),
        *("Bag", "Ankle boot"),
    ]
    assert len(found["bars"]) == 5
    assert set(found["bars"]) <= set(classes)
    assert found["bars"][0] == classes[found["picture by torch"][2]]
    assert found["unknown"] == "'nope' is no variable; type the name of a tensor in the notebook"
    assert found["unknown keeps"] == found["variable"]
    assert found["alert"] == ""
    failed = "FAILED got (1, 20), weight is (32, 784): the last axis must be 784, it is 20; "
    assert f"{failed}make the layer with in_features=20" in found["failed"]


def test_a_network_that_is_gone_cannot_be_run_again(lab, tmp_path):
    def look(page):
        shown_before = page.locator(".nnmagic").first
        can_before = control(shown_before, "run").is_enabled()
        run_cell(page, "del net\ngc.collect()\nt")
        shown_after = page.locator(".nnmagic").nth(1)
        expect(shown_after.locator(".nm-input")).to_contain_text("the network is gone")
        after = control(shown_after, "run").is_visible()
        if control(shown_before, "run").is_enabled():
            control(shown_before, "run").click()
        expect(shown_before.locator(".nm-input")).to_contain_text("the network is gone")
        return can_before, after, control(shown_before, "run").is_enabled()

    can_before, is_offered, stays = visit(lab, notebook_of(tmp_path, LOAD, CLASSIFIER), look)

    assert can_before
    assert not is_offered
    assert not stays


NO_ANSWER = "no answer yet: the kernel is busy, or gone"


def test_a_kernel_that_has_died_is_said_to_be_gone(lab, tmp_path):
    def look(page):
        widget = page.locator(".nnmagic").first
        status, running = widget.locator(".nm-status"), widget.locator(".nm-input [role=status]")
        panel, run = control(widget, "panel"), control(widget, "run")
        open_panel(widget, "1")
        panel.locator("table").wait_for()
        kernel = int(run_cell(page, "import os\nprint(os.getpid())"))
        page.evaluate(SOONER)

        os.kill(kernel, signal.SIGKILL)
        load = control(widget, "all-input-0")
        load.dispatch_event("click")  # JupyterLab's dialog may lie above it by now
        expect(load).to_be_disabled()
        expect(status).to_have_text(NO_ANSWER)
        expect(load).to_be_enabled()
        row_of(widget, "2").locator(".nm-label").dispatch_event("click")
        expect(status).to_have_text(NO_ANSWER)
        found = [panel.inner_text()]
        # JupyterLab starts another kernel, which knows nothing of the widget.
        page.get_by_role("dialog").get_by_role("button", name="Ok").click()
        row_of(widget, "4").locator(".nm-label").click()
        expect(status).to_have_text(NO_ANSWER)
        found.append(panel.inner_text())
        run.click()
        expect(run).to_be_disabled()
        expect(running).to_have_text(NO_ANSWER)
        expect(run).to_be_enabled()
        control(widget, "source").select_option("picture")
        expect(widget.locator(".nm-strip")).to_have_text(NO_ANSWER)
        page.evaluate(AS_LATE)
        return found

    batch = CLASSIFIER.replace("torch.rand(1, 28, 28)", "torch.rand(64, 28, 28)")
    relu, linear = visit(lab, notebook_of(tmp_path, LOAD, batch), look)

    assert re.match(r"2\s.*\stype\s+ReLU\s", relu, re.DOTALL)
    assert re.match(r"4\s.*\stype\s+Linear\s", linear, re.DOTALL)
