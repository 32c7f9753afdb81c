"""Networks of many kinds, small, as cells of a notebook that each show one widget."""

from dataclasses import dataclass

SETUP = """
%load_ext nnmagic
import nnmagic, torch, torchvision
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)

def stripes(size):
    '''A picture of three stripes: red, green and blue.'''
    picture = torch.zeros(1, 3, size, size)
    for i in range(3):
        picture[:, i, :, i * size // 3 : (i + 1) * size // 3] = 1
    return picture

class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 32 * 7 * 7)
        self.up1 = nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.up2 = nn.ConvTranspose2d(16, 1, 4, 2, 1)

    def forward(self, z):
        maps = self.fc(z).view(-1, 32, 7, 7)
        return torch.tanh(self.up2(F.relu(self.norm(self.up1(maps)))))

class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 4, 2, 1), nn.Conv2d(8, 16, 4, 2, 1)
        self.fc = nn.Linear(16 * 7 * 7, 1)

    def forward(self, x):
        x = F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), 0.2)), 0.2)
        return self.fc(x.flatten(1))

class UNet(nn.Module):
    '''Joins what it made on its way down to what it makes on its way up.'''

    def __init__(self):
        super().__init__()
        self.in1, self.in2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.pool, self.middle = nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1)
        self.up1, self.up2 = nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.out1, self.out2 = nn.Conv2d(32, 16, 3, padding=1), nn.Conv2d(16, 1, 1)

    def forward(self, x):
        wide = self.in1(x).relu()
        half = self.in2(self.pool(wide)).relu()
        low = self.middle(self.pool(half)).relu()
        half = self.out1(torch.cat([half, self.up1(low)], 1)).relu()
        return self.out2(torch.cat([wide, self.up2(half)], 1))

class Translator(nn.Module):
    '''Reads a text both ways, then writes eight words, one after the other.'''

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.reader = nn.LSTM(16, 24, 2, bidirectional=True, batch_first=True)
        self.writer, self.words = nn.LSTMCell(48, 48), nn.Linear(48, 50)

    def forward(self, ids, mask):
        read, _ = self.reader(self.embed(ids) * mask[..., None])
        state = read[:, -1], read[:, 0]
        written = []
        for _ in range(8):
            state = self.writer(read.mean(1), state)
            written.append(self.words(state[0]))
        return torch.stack(written, 1)

class Logarithm(nn.Module):
    def forward(self, x):
        return torch.log(x - 9)
"""


@dataclass(frozen=True)
class Network:
    """A cell that shows a network's widget.

    Attributes:
        cell: the code.
        row: the name of the row whose panel is looked at.
        red: the names of the rows in which something is wrong.
    """

    cell: str
    row: str
    red: frozenset[str] = frozenset()


NETWORKS = {
    "cell": Network(
        """%%nntrace
picture = torch.linspace(0, 1, 784).reshape(1, 28, 28)
flatten, layer1 = nn.Flatten(), nn.Linear(784, 20)
hidden = nn.ReLU()(layer1(flatten(picture)))
seq = nn.Sequential(flatten, layer1, nn.ReLU(), nn.Linear(20, 10))
nn.Softmax(dim=1)(seq(picture)).argmax(1)
""",
        "flatten",
    ),
    "gan": Network(
        """generator, discriminator = Generator(), Discriminator()
of_generator = torch.optim.Adam(generator.parameters(), 2e-4)
of_discriminator = torch.optim.Adam(discriminator.parameters(), 2e-4)
criterion = nn.BCEWithLogitsLoss()
real, fake = torch.ones(16, 1), torch.zeros(16, 1)
#---
%%nntrace
for _ in range(12):
    z = torch.randn(16, 16)
    of_discriminator.zero_grad()
    loss = criterion(discriminator(torch.rand(16, 1, 28, 28)), real)
    (loss + criterion(discriminator(generator(z).detach()), fake)).backward()
    of_discriminator.step()
    of_generator.zero_grad()
    criterion(discriminator(generator(z)), real).backward()
    of_generator.step()
""",
        "generator",
    ),
    "detector": Network(
        """from torchvision.models import detection
detector = detection.ssdlite320_mobilenet_v3_large(
    weights=None, weights_backbone=None, num_classes=5).eval()
with torch.no_grad():
    trace = %nntrace detector([stripes(96)[0]])
trace
""",
        "detector",
    ),
    "gpt2": Network(
        """special = {"bos_token_id": 0, "eos_token_id": 0, "loss_type": "ForCausalLM"}
config = GPT2Config(n_layer=2, n_head=4, n_embd=32, vocab_size=64, **special)
gpt2 = GPT2LMHeadModel(config).eval()
ids = torch.arange(24).reshape(2, 12)
%nntrace gpt2(ids, labels=ids)
""",
        "gpt2",
    ),
    "gpt2 ops": Network(
        "%nntrace --ops gpt2(ids, labels=ids)\n",
        "transformer.h.0.attn.scaled_dot_product_attention()",
    ),
    "unet": Network(
        """unet = UNet()
across = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
%nntrace --ops unet(across)
""",
        "unet",
    ),
    "lstm": Network(
        """translator = Translator()
words = torch.arange(24).reshape(4, 6)
%nntrace translator(words, words % 6 < 4)
""",
        "reader",
    ),
    "vit": Network(
        """vit = torchvision.models.VisionTransformer(
    image_size=48, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64,
    num_classes=10).eval()
nn.init.normal_(vit.heads.head.weight)
%nntrace vit(stripes(48))
""",
        "encoder.layers.encoder_layer_0.self_attention",
    ),
    "frozen": Network(
        """backbone = torchvision.models.resnet18().eval()
backbone.requires_grad_(False)
backbone.fc = nn.Linear(512, 5)
targets = torch.tensor([1, 2])
%nntrace --grad F.cross_entropy(backbone(torch.rand(2, 3, 64, 64)), targets).backward()
""",
        "conv1",
    ),
    "nan": Network(
        """fragile = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), Logarithm(), nn.Linear(8, 2))
%nntrace fragile(torch.rand(2, 8))
""",
        "2",
        frozenset({"2"}),
    ),
    "failed": Network(
        """# raises
broken = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(100, 10))
%nntrace broken(torch.rand(1, 3, 10, 10))
""",
        "2",
        frozenset({"2"}),
    ),
    "grad": Network(
        """small = nn.Sequential(
    nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(1152, 4))
%nntrace --grad F.cross_entropy(small(stripes(48)), torch.tensor([2])).backward()
""",
        "0",
    ),
    "bright": Network("bright = nn.Conv2d(3, 4, 3)\n%nntrace bright(255 * stripes(9))\n", "bright"),
    "summary": Network("%nnsummary unet(across)\n", "out1"),
    "params": Network("%nnparams backbone\n", "conv1.weight"),
}


def notebook_cells():
    """Return the code of all, in the order of `NETWORKS`, each with one widget."""
    return [SETUP, *(cell for each in NETWORKS.values() for cell in each.cell.split("#---\n"))]
