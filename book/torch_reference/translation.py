"""The tasks of the translation pages in PyTorch. `make torch` compares the results.

The pages show the lines between `# show NAME` and `# end`. What a part prints is
kept with its numbers, and at the end the file prints all of it as JSON. A weight of
PyTorch is the transposed kernel of Flax.
"""

import contextlib
import io
import json

# show model
import torch

torch.set_default_dtype(torch.float64)

x = torch.tensor([[1.0, 2.0], [2.0, -1.0], [-1.0, 1.0], [0.5, -2.0]])
y = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5]])
kernel, bias = torch.tensor([[0.5, -0.3], [0.2, 0.4]]), torch.tensor([0.1, -0.1])
head_kernel = torch.tensor([[0.6, 0.1], [-0.2, 0.7]])
head_bias = torch.tensor([0.0, 0.2])


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.body.weight.copy_(kernel.T)
            self.body.bias.copy_(bias)
            self.head.weight.copy_(head_kernel.T)
            self.head.bias.copy_(head_bias)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


def torch_loss(model):
    return ((model(x) - y) ** 2).mean()


# end

results, printed = {}, io.StringIO()
redirected = contextlib.redirect_stdout(printed)
redirected.__enter__()


def record(name, **numbers):
    """Keep the numbers of a part, and what it printed since the last one."""
    values = {key: value.item() for key, value in numbers.items()}
    results[name] = {"printed": printed.getvalue().splitlines(), **values}
    printed.seek(0)
    printed.truncate()


record("model", loss=torch_loss(TorchNet()))


# show fix
def train_torch(model, weight_decay=0.0):
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, weight_decay=weight_decay
    )
    for _ in range(100):
        optimizer.zero_grad()
        torch_loss(model).backward()
        optimizer.step()


model = TorchNet()
model.get_parameter("body.weight").requires_grad_(False)
train_torch(model)
assert torch.equal(model.body.weight, kernel.T)
# end

record("fix", loss=torch_loss(model))

# show free
model.get_parameter("body.weight").requires_grad_(True)
train_torch(model)
assert not torch.equal(model.body.weight, kernel.T)
# end

record("free", loss=torch_loss(model))

# show list
model.body.weight.requires_grad_(False)
listed = [name for name, p in model.named_parameters() if p.requires_grad]
print(listed)
assert listed == ["body.bias", "head.weight", "head.bias"]

try:
    model.get_parameter("body.wieght")
except AttributeError as refusal:
    print("refused:", refusal)
else:
    raise AssertionError("a misspelt path is refused")

misspelt = TorchNet()
misspelt.body.weight.requires_gard = False  # no error, and nothing is fixed
assert all(p.requires_grad for p in misspelt.parameters())
# end

record("list")

# show replace
model = TorchNet()
model.body.weight.requires_grad_(False)
with torch.no_grad():
    model.body.weight.copy_(torch.eye(2))
loss_at_once = torch_loss(model)

train_torch(model)
assert torch.equal(model.body.weight, torch.eye(2))
# end

record("replace", loss=torch_loss(model), at_once=loss_at_once)

# show gradient
model = TorchNet()
model.body.weight.requires_grad_(False)
torch_loss(model).backward()
gradient = [p.grad for p in model.parameters() if p.grad is not None]
assert model.body.weight.grad is None and len(gradient) == 3
squares = sum((g**2).sum() for g in gradient)
# end

record("gradient", squares=squares)

# show decay
model = TorchNet()
model.body.weight.requires_grad_(False)
train_torch(model, weight_decay=0.1)
assert torch.equal(model.body.weight, kernel.T)
# end

record("decay", loss=torch_loss(model))

# show part
model = TorchNet()
try:
    model.body.weight[:, 0].requires_grad_(False)
except RuntimeError as refusal:
    print("refused:", str(refusal).split(".")[0])
else:
    raise AssertionError("requires_grad is for whole parameters")


class OneColumn(torch.nn.Module):  # the weight, with a column that trains
    def __init__(self, weight):
        super().__init__()
        self.register_buffer("fixed", weight.detach()[:, 0].clone())

    def forward(self, column):
        return torch.stack([self.fixed, column], dim=1)

    def right_inverse(self, weight):
        return weight[:, 1]


torch.nn.utils.parametrize.register_parametrization(
    model.body, "weight", OneColumn(model.body.weight)
)
train_torch(model)
assert torch.equal(model.body.weight[:, 0], kernel[0])
assert not torch.equal(model.body.weight[:, 1], kernel[1])
# end

record("part", loss=torch_loss(model))

# show tie
model = TorchNet()
model.head.weight = model.body.weight  # one parameter, two names
train_torch(model)
before = model.body.weight.detach().clone()
assert not torch.equal(before, kernel.T)

model.head.weight.requires_grad_(False)  # either name will do
train_torch(model)
assert model.head.weight is model.body.weight
assert torch.equal(model.body.weight, before)
# end

record("tie", loss=torch_loss(model))

redirected.__exit__(None, None, None)
version = torch.__version__.split("+")[
    0
]  # without the kind of build: +cpu, or a version of CUDA
print(json.dumps({"torch": version, "results": results}, indent=2))
