"""Networks that are not written as torch expects, lines that cannot be followed, silent ones."""

from catalogue.case import Case

NETWORKS = (
    Case(
        title="a network without super().__init__()",
        setup="class Net(nn.Module):\n    def __init__(self):\n        self.scale = 2\n"
        "    def forward(self, x):\n        return x * self.scale\nnet = Net()",
        remedy="add it as the first line",
        mend=(("        self.scale = 2", "        super().__init__()\n        self.scale = 2"),),
    ),
    Case(
        title="a forward that is misspelled",
        setup="class Net(nn.Module):\n    def foward(self, x):\n        return x\nnet = Net()",
        remedy="rename it",
        mend=(("foward", "forward"),),
    ),
    Case(
        title="a layer that is misspelled",
        layers="self.conv1 = nn.Conv2d(3, 8, 3)",
        forward="return self.conv_1(x)",
        line="%nntrace net(pictures)",
        remedy="write it as in __init__",
        mend=(("self.conv_1", "self.conv1"),),
    ),
    Case(
        title="a layer without self",
        layers="self.fc = nn.Linear(8, 3)",
        forward="return fc(x)",
        remedy="write self.fc",
        mend=(("return fc(x)", "return self.fc(x)"),),
    ),
    Case(
        title="a list of layers that is called",
        layers="self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 3)])",
        forward="return self.layers(x)",
        remedy="call its layers one after another, or take a Sequential",
        mend=(
            (
                "nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 3)])",
                "nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3))",
            ),
        ),
    ),
    Case(
        title="a forward that calls the network itself",
        layers="self.fc = nn.Linear(8, 3)",
        forward="return self(x)",
        remedy="call a layer",
        mend=(("return self(x)", "return self.fc(x)"),),
    ),
    Case(
        title="an argument too few",
        layers="self.fc = nn.Linear(8, 3)",
        forward="return self.fc(x) * mask",
        arguments="x, mask",
        remedy="give it, or give it a default",
        mend=(("%nntrace net(x)", "%nntrace net(x, mask=torch.ones(4, 3))"),),
    ),
    Case(
        title="an argument too many for a Sequential",
        setup="net = nn.Sequential(nn.Linear(8, 3), nn.ReLU())",
        line="%nntrace net(x, y)",
        remedy="give it the input alone",
        mend=(("net(x, y)", "net(x)"),),
    ),
    Case(
        title="an argument of another name",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace net(x=x)",
        remedy="give it by its place, or by the name that the forward has",
        mend=(("net(x=x)", "net(input=x)"),),
    ),
    Case(
        title="a pair of inputs in one tuple",
        layers="self.fc = nn.Linear(8, 3)",
        forward="return self.fc(a) + self.fc(b)",
        arguments="a, b",
        setup="pair = (x, x)",
        line="%nntrace net(pair)",
        remedy="spread it",
        mend=(("net(pair)", "net(*pair)"),),
    ),
)

LINES = (
    Case(
        title="the class of a network",
        setup="class Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Linear(8, 3))",
        line="%nntrace Net",
        remedy="make a network of it",
        mend=(("%nntrace Net", "%nntrace Net()"),),
    ),
    Case(
        title="a size beside a network",
        setup="net = nn.Linear(8, 3)",
        line="%nnsummary net, (1, 8)",
        remedy="give it as an option",
        mend=(("net, (1, 8)", "net --input-size 1,8"),),
    ),
    Case(
        title="an input beside a network",
        setup="net = nn.Linear(8, 3)",
        line="%nnsummary net, x",
        remedy="type the call",
        mend=(("net, x", "net(x)"),),
    ),
    Case(
        title="an assignment in a line",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace record = net(x)",
        remedy="name the record by -o, or write record = %nntrace net(x)",
        mend=(("record = net(x)", "net(x) -o record"),),
    ),
    Case(
        title="a loop in a line",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace for _ in range(2): net(x)",
        remedy="make it a cell",
        mend=(("%nntrace for", "%%nntrace\nfor"),),
    ),
    Case(
        title="a bracket that is not closed",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace net(x",
        remedy="close it",
        mend=(("net(x", "net(x)"),),
    ),
    Case(
        title="an option that does not exist",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace net(x) --dephth 2",
        remedy="take the one that was meant",
        mend=(("--dephth", "--depth"),),
    ),
    Case(
        title="a call for the parameters",
        setup="net = nn.Linear(8, 3)",
        line="%nnparams net(x)",
        remedy="type the network alone",
        mend=(("net(x)", "net"),),
    ),
    Case(
        title="the parameters in place of the network",
        setup="net = nn.Linear(8, 3)",
        line="%nnparams net.parameters()",
        remedy="type the network alone",
        mend=(("net.parameters()", "net"),),
    ),
    Case(
        title="a network whose input cannot be worked out",
        layers="self.weight = nn.Parameter(torch.rand(7, 3))",
        forward="return x @ self.weight",
        line="%nntrace net",
        remedy="give the input, or its size",
        mend=(("%nntrace net", "%nntrace net --input-size 4,7"),),
    ),
    Case(
        title="gradients without a backward",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace --grad net",
        remedy="type one",
        mend=(("--grad net", "--grad loss_fn(net(x), y).backward()"),),
    ),
)

SILENT = (
    Case(
        title="pictures that were not scaled",
        setup="net = nn.Conv2d(3, 8, 3)",
        line="%nntrace net((pictures * 255).round())",
        shows="values up to",
        remedy="divide by 255",
        mend=(("(pictures * 255).round()", "(pictures * 255).round() / 255"),),
    ),
    Case(
        title="a logarithm of a negative number",
        layers="self.fc = nn.Linear(8, 3)",
        forward="return torch.log(self.fc(x))",
        shows="first NaN",
        remedy="keep what goes in positive",
        mend=(("torch.log(self.fc(x))", "F.logsigmoid(self.fc(x))"),),
    ),
    Case(
        title="a ReLU that is dead",
        setup="net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))\n"
        "nn.init.constant_(net[0].bias, -9.0)",
        shows="identical for all",
        remedy="look at the weights and the bias before it",
        mend=(("-9.0", "0.0"),),
    ),
)
