"""Networks that are built to be filled from a file, and what their start imports."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from showtell.core.initialisation import Uninitialised, built, shapes_only
from showtell.encoders.network import Encoder

COMPILER = "torch._dynamo"  # its import takes as long as that of torch
SLOW = {COMPILER, "sympy"}  # of symbolic shapes


def modules_after(code: str) -> list[str]:
    """Names of the modules that are imported after this code, in a process of its own."""
    command = [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "regnet_x_400mf", "swin_t", "convnext_tiny"])
def test_an_encoder_is_filled_without_torchs_compiler(name):
    code = f"""
from showtell.core.initialisation import Uninitialised
from showtell.encoders.network import Encoder
with Uninitialised():
    config = dict(name={name!r}, output="grid", node=None, size=64, mean=[0.5] * 3, std=[0.2] * 3)
    encoder = Encoder(config)
encoder.load_state_dict(encoder.state_dict())
"""
    imported = modules_after(code)
    assert "torchvision.models" in imported and not SLOW & {*imported}


def test_shapes_are_known_without_torchs_compiler():
    code = """
from torch import nn
from showtell.core.initialisation import shapes_only
with shapes_only():
    nn.init.normal_(nn.Linear(3, 3).weight)
    nn.init.kaiming_normal_(nn.Embedding(3, 3).weight)
"""
    assert not SLOW & {*modules_after(code)}


def test_torchvision_asks_the_compiler_when_it_is_called():
    code = """
import sys
from showtell.encoders.torchvision_package import torchvision_models
torchvision_models()
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
from torch._dynamo import utils
assert asked == utils.is_compile_supported("cpu")
"""
    assert COMPILER in modules_after(code)


def test_a_torchvision_that_needs_more_of_the_compiler_is_imported(tmp_path):
    """With the stand-ins its import fails; then it is imported as usual."""
    (tmp_path / "torchvision/models").mkdir(parents=True)
    (tmp_path / "torchvision/__init__.py").write_text("from torchvision import models\n")
    (tmp_path / "torchvision/models/__init__.py").write_text("from torch._dynamo.config import verbose\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from showtell.encoders.torchvision_package import torchvision_models
assert torchvision_models().verbose in (True, False)
"""
    assert COMPILER in modules_after(code)


@pytest.mark.parametrize("initialise", [nn.init.trunc_normal_, nn.init.kaiming_normal_, nn.init.xavier_uniform_])
def test_initialisations_that_draw_by_themselves_do(initialise):
    """One that draws again until all numbers lie in its bounds would not end if none were drawn."""
    weight = torch.full((64, 64), 9.0)
    with Uninitialised():
        initialise(weight)
    assert (weight != 9.0).all()


@pytest.mark.parametrize("context", [Uninitialised, shapes_only])
def test_layers_are_built_without_random_weights(context):
    state = torch.get_rng_state()
    with context():
        layers = nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.Embedding(5, 6), nn.LSTMCell(3, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert [layer.weight.shape for layer in layers[:3]] == [(4, 3), (4, 3, 3, 3), (5, 6)]
    assert all(tensor.is_meta == (context is shapes_only) for layer in layers for tensor in layer.parameters())


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "swin_t", "regnet_y_400mf"])
def test_an_encoder_that_is_filled_equals_one_with_random_weights_before(name):
    config = {"name": name, "output": "grid", "node": None, "size": 64, "mean": [0.5] * 3, "std": [0.2] * 3}
    first = Encoder(config).eval()
    with Uninitialised():
        filled = Encoder(first.config).eval()
    filled.load_state_dict(first.state_dict())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(filled(images), first(images))
    assert filled.hash() == first.hash()


class Computed(nn.Module):
    """With a tensor that no state dict has."""

    def __init__(self, as_buffer: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        if as_buffer:
            self.register_buffer("computed", torch.arange(3.0), persistent=False)
        else:
            self.computed = torch.arange(3.0)


@pytest.mark.parametrize("as_buffer", [True, False])
def test_tensors_that_no_file_has_are_computed(as_buffer):
    with Uninitialised():
        network = built(lambda: Computed(as_buffer))
    assert network.computed.tolist() == [0, 1, 2]


def test_a_network_that_reads_values_while_it_is_built_has_them():
    with Uninitialised():
        assert built(lambda: nn.Linear(int(torch.tensor([3]).sum()), 2)).in_features == 3


def test_a_network_is_built_by_its_shapes_only_where_its_weights_are_any():
    network = built(lambda: nn.BatchNorm2d(3))
    assert network.weight.tolist() == [1, 1, 1]
    with Uninitialised():
        allocated = built(lambda: nn.BatchNorm2d(3))
    assert allocated.weight.device.type == "cpu" and allocated.num_batches_tracked == 0
    with shapes_only():
        assert built(lambda: nn.BatchNorm2d(3)).weight.is_meta
    assert built(lambda: nn.BatchNorm2d(3)).weight.tolist() == [1, 1, 1]  # nothing is left of the contexts


def test_other_threads_have_random_weights():
    with Uninitialised(), ThreadPoolExecutor(1) as thread:
        layer = thread.submit(built, lambda: nn.Linear(64, 64)).result()
        again = thread.submit(built, lambda: nn.Linear(64, 64)).result()
    assert 0 < layer.weight.abs().max() < 1 and not torch.equal(layer.weight, again.weight)
