"""Dtypes, devices, and what stands in place of a tensor."""

from catalogue.case import Case

DTYPES = (
    Case(
        title="float64, as NumPy makes it",
        setup="net, data = nn.Linear(8, 3), torch.from_numpy(np.ones((4, 8)))",
        line="%nntrace net(data)",
        remedy="convert the input",
        mend=(("net(data)", "net(data.to(torch.float32))"),),
    ),
    Case(
        title="integers for a layer of floats",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace net(torch.ones(4, 8, dtype=torch.int64))",
        remedy="convert the input",
        mend=(("dtype=torch.int64)", "dtype=torch.int64).to(torch.float32)"),),
    ),
    Case(
        title="pictures in bytes",
        setup="net, picture = nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)",
        line="%nntrace net(picture)",
        remedy="convert and scale them",
        mend=(("net(picture)", "net(picture.to(torch.float32) / 255)"),),
    ),
    Case(
        title="a network in half precision on floats",
        setup="net = nn.Linear(8, 3).bfloat16()",
        remedy="convert the input, or call it under torch.autocast instead",
        mend=(("net(x)", "net(x.to(torch.bfloat16))"),),
    ),
    Case(
        title="floats for an Embedding",
        setup="net = nn.Embedding(10, 4)",
        line="%nntrace net(torch.tensor([1.0, 2.0]))",
        remedy="give ids",
        mend=(("torch.tensor([1.0, 2.0])", "torch.tensor([1.0, 2.0]).long()"),),
    ),
    Case(
        title="a hidden state in float64",
        setup="net, h = nn.GRU(8, 16, batch_first=True), torch.zeros(1, 4, 16).double()",
        line="%nntrace net(sequences, h)",
        remedy="convert it",
        mend=(("net(sequences, h)", "net(sequences, h.to(torch.float32))"),),
    ),
    Case(
        title="a layer in a plain list, which net.double() passes over",
        layers="self.layers = [nn.Linear(8, 3)]",
        forward="return self.layers[0](x)",
        line="%nntrace net.double()(x.double())",
        remedy="register it",
        mend=(("[nn.Linear(8, 3)]", "nn.ModuleList([nn.Linear(8, 3)])"),),
    ),
    Case(
        title="a constant in another dtype",
        layers="self.weight = nn.Parameter(torch.rand(8, 3).double())",
        forward="return x @ self.weight",
        remedy="make it of the network's dtype",
        mend=((".double()", ""),),
    ),
    Case(
        title="a network without values, on meta",
        setup="net = nn.Linear(8, 3, device='meta')",
        remedy="give it values: to_empty, then load a state dict",
        mend=(("device='meta')", "device='meta').to_empty(device='cpu')"),),
    ),
    Case(
        title="an input without values, on meta",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace net(torch.empty(4, 8, device='meta'))",
        remedy="make it where the network is, or ask %nnsummary",
        mend=(("torch.empty(4, 8, device='meta')", "torch.rand(4, 8)"),),
    ),
)

VALUES = (
    Case(
        title="a Linear after an LSTM in a Sequential",
        setup="net = nn.Sequential(nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3))",
        line="%nntrace net(sequences)",
        remedy="write a forward that takes the first of what the LSTM returns",
        mend=(
            (
                "net = nn.Sequential(nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3))",
                "lstm, fc = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)\n"
                "def net(x):\n    output, (h, c) = lstm(x)\n    return fc(output)",
            ),
        ),
    ),
    Case(
        title="what an LSTM returned, not unpacked",
        layers="self.lstm, self.fc = nn.LSTM(8, 16), nn.Linear(16, 3)",
        forward="h = self.lstm(x)\nreturn self.fc(h)",
        line="%nntrace net(sequences)",
        remedy="unpack it",
        mend=(("h = self.lstm(x)", "h, _ = self.lstm(x)"),),
    ),
    Case(
        title="the last step of what an LSTM returned, not unpacked",
        layers="self.lstm, self.fc = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)",
        forward="h = self.lstm(x)\nreturn self.fc(h[:, -1])",
        line="%nntrace net(sequences)",
        remedy="unpack it",
        mend=(("h = self.lstm(x)", "h, _ = self.lstm(x)"),),
    ),
    Case(
        title="what an attention returned, not unpacked",
        layers="self.attention = nn.MultiheadAttention(8, 2)\nself.norm = nn.LayerNorm(8)",
        forward="h = self.attention(x, x, x)\nreturn self.norm(h)",
        line="%nntrace net(sequences)",
        remedy="unpack it",
        mend=(("h = self.att", "h, _ = self.att"),),
    ),
    Case(
        title="a packed sequence for a Linear",
        layers="self.gru, self.fc = nn.GRU(8, 16), nn.Linear(16, 3)",
        forward="h, _ = self.gru(nn.utils.rnn.pack_sequence(list(x)))\nreturn self.fc(h)",
        line="%nntrace net(sequences)",
        remedy="pad it again",
        mend=(
            (
                "return self.fc(h)",
                "h, lengths = nn.utils.rnn.pad_packed_sequence(h, batch_first=True)\n"
                "        return self.fc(h)",
            ),
        ),
    ),
    Case(
        title="a comma at the end of a line",
        layers="self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)",
        forward="h = self.a(x),\nreturn self.b(h)",
        remedy="take it away",
        mend=(("self.a(x),", "self.a(x)"),),
    ),
    Case(
        title="a forward that returns nothing",
        layers="self.fc = nn.Linear(8, 3)",
        forward="self.fc(x)",
        line="%nntrace loss_fn(net(x), y)",
        remedy="return what it makes",
        mend=(("        self.fc(x)", "        return self.fc(x)"),),
    ),
    Case(
        title="a layer that is made in place of applied",
        layers="self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)",
        forward="return self.b(nn.ReLU(self.a(x)))",
        remedy="take the function, or make the layer in __init__",
        mend=(("nn.ReLU(self.a(x))", "F.relu(self.a(x))"),),
    ),
    Case(
        title="a Dropout that is made in place of applied",
        layers="self.fc = nn.Linear(8, 3)",
        forward="return self.fc(nn.Dropout(x))",
        remedy="take the function, or make the layer in __init__",
        mend=(("nn.Dropout(x)", "F.dropout(x)"),),
    ),
    Case(
        title="the class of a layer kept in place of a layer",
        layers="self.act, self.fc = nn.GELU, nn.Linear(8, 3)",
        forward="return self.fc(self.act(x))",
        remedy="make it, with brackets",
        mend=(("nn.GELU,", "nn.GELU(),"),),
    ),
    Case(
        title="a NumPy array",
        setup="net, data = nn.Linear(8, 3), np.ones((4, 8))",
        line="%nntrace net(data)",
        remedy="make a tensor of it",
        mend=(("net(data)", "net(torch.from_numpy(data).float())"),),
    ),
    Case(
        title="a picture of PIL",
        setup="from PIL import Image\n"
        "from torchvision.transforms.functional import to_tensor\n"
        "net, picture = nn.Conv2d(3, 8, 3), Image.new('RGB', (32, 24))",
        line="%nntrace net(picture)",
        remedy="make a batch of it",
        mend=(("net(picture)", "net(to_tensor(picture)[None])"),),
    ),
    Case(
        title="a data frame",
        setup="import pandas as pd\n"
        "net, table = nn.Linear(2, 3), pd.DataFrame({'a': [1, 2], 'b': [3, 4]})",
        line="%nntrace net(table)",
        remedy="make a tensor of it",
        mend=(("net(table)", "net(torch.tensor(table.to_numpy()).float())"),),
    ),
    Case(
        title="a list of numbers",
        setup="net = nn.Linear(2, 3)",
        line="%nntrace net([[1.0, 2.0]])",
        remedy="make a tensor of it",
        mend=(("[[1.0, 2.0]]", "torch.tensor([[1.0, 2.0]])"),),
    ),
    Case(
        title="a list of tensors",
        setup="net = nn.Linear(8, 3)",
        line="%nntrace net([x[0], x[1], x[2]])",
        remedy="stack them",
        mend=(("[x[0], x[1], x[2]]", "torch.stack([x[0], x[1], x[2]])"),),
    ),
    Case(
        title="a whole batch of a DataLoader, with its targets",
        setup="net, batch = nn.Linear(8, 3), [x, y]",
        line="%nntrace net(batch)",
        remedy="pass its first",
        mend=(("net(batch)", "net(batch[0])"),),
    ),
    Case(
        title="a DataLoader",
        setup="net, loader = nn.Linear(8, 3), torch.utils.data.DataLoader(x, batch_size=2)",
        line="%nntrace net(loader)",
        remedy="take a batch of it",
        mend=(("net(loader)", "net(next(iter(loader)))"),),
    ),
    Case(
        title="a tokenizer's batch that is not spread",
        layers="self.words = nn.Embedding(10, 8)",
        forward="return self.words(input_ids) * attention_mask[..., None]",
        arguments="input_ids=None, attention_mask=None",
        setup="batch = {'input_ids': ids, 'attention_mask': torch.ones(2, 3)}",
        line="%nntrace net(batch)",
        remedy="pass its items by name",
        mend=(("net(batch)", "net(**batch)"),),
    ),
    Case(
        title="the same for a forward that requires all",
        layers="self.words = nn.Embedding(10, 8)",
        forward="return self.words(input_ids) * attention_mask[..., None]",
        arguments="input_ids, attention_mask",
        setup="batch = {'input_ids': ids, 'attention_mask': torch.ones(2, 3)}",
        line="%nntrace net(batch)",
        remedy="pass its items by name",
        mend=(("net(batch)", "net(**batch)"),),
    ),
    Case(
        title="a dict of a data set",
        setup="net, batch = nn.Linear(8, 3), {'image': x, 'label': y}",
        line="%nntrace net(batch)",
        remedy="pass one of its items",
        mend=(("net(batch)", "net(batch['image'])"),),
    ),
    Case(
        title="what a pretrained body returned, a dict",
        setup="class Body(nn.Module):\n    def forward(self, x):\n"
        "        return {'last_hidden_state': x, 'pooler_output': x[:, 0]}\n"
        "body, head = Body(), nn.Linear(8, 3)",
        line="%nntrace head(body(sequences))",
        remedy="take the hidden state out of it",
        mend=(("body(sequences)", "body(sequences)['last_hidden_state']"),),
    ),
    Case(
        title="text in place of ids",
        setup="net = nn.Embedding(10, 8)",
        line="%nntrace net(['a text', 'another'])",
        remedy="give ids, as a tokenizer makes them",
        mend=(("['a text', 'another']", "ids"),),
    ),
    Case(
        title="a method without its brackets",
        setup="net = nn.Linear(5, 3)",
        line="%nntrace net(sequences.mean(1).mT.squeeze)",
        remedy="call it",
        mend=(("nn.Linear(5", "nn.Linear(4"), ("squeeze)", "squeeze())")),
    ),
    Case(
        title="targets of a detector as one dict",
        layers="self.conv = nn.Conv2d(3, 4, 3)",
        forward="losses = [each['boxes'].sum() for each in targets]\n"
        "return sum(losses) + self.conv(images).mean()",
        arguments="images, targets",
        line="%nntrace net(pictures[:1], {'boxes': torch.rand(2, 4)})",
        remedy="one dict for each picture, in a list",
        mend=(("{'boxes': torch.rand(2, 4)}", "[{'boxes': torch.rand(2, 4)}]"),),
    ),
)
