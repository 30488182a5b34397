"""What can run code that lies in data: found in the syntax tree, so that neither another name nor another import hides it.

Names are followed through `import … as`, `from … import … as` and `getattr` with a constant.
"""

import ast
from collections.abc import Iterator

MODULES = ("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle")
"""Not even imported."""

CALLS = {
    *("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "os.system", "os.popen"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.serialization.load"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("pandas.read_pickle", "pandas.eval", "numpy.lib.format.read_array", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("logging.config.listen", "ctypes.CDLL", "runpy.run_path"),
}
METHODS = ("read_pickle", "to_pickle", "load_pickle", "unsafe_load")
FLAGS = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}
TORCH_OBJECTS = ("broadcast_object_list", "all_gather_object", "gather_object", "scatter_object_list", "send_object_list")
"""What pickles between processes."""

EXAMPLES = (
    "import pickle",
    "from pickle import loads as read",
    "import joblib.memory",
    "import torch as t\nt.load('x')",
    "from torch import load\nload('x', weights_only=True)",
    "import yaml\nyaml.load(x, Loader=yaml.SafeLoader)",
    "eval('1')",
    "import builtins\nbuiltins.exec(x)",
    "getattr(torch, 'load')('x')",
    "import subprocess\nsubprocess.run(x, shell=True)",
    "import subprocess\nsubprocess.run(x, shell=wanted)",
    "import numpy as np\nnp.load(x, allow_pickle=True)",
    "import numpy as np\nnp.load(x, **kwargs, allow_pickle=flag)",
    "import pandas as pd\npd.read_pickle(x)",
    "import os\nos.system(x)",
    "torch.distributed.broadcast_object_list(box)",
    "AutoModel.from_pretrained(x, trust_remote_code=True)",
    "import importlib\nimportlib.import_module('pickle')",
)
SAFE = (
    "model.eval()",
    "import numpy as np\nnp.load(x, allow_pickle=False)",
    "import numpy as np\nnp.load(x)",
    "import yaml\nyaml.safe_load(x)",
    "import subprocess\nsubprocess.run([x], shell=False)",
    "import re\nre.compile(x)",
    "from safetensors.torch import load\nload(data)",
    "import torch\ntorch.compile(model)",
)


def uses(source: str) -> list[str]:
    """The names of what this source uses."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    return [name for node in ast.walk(tree) for name in _unsafe(node, names)]


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What each name stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                top = one.name.partition(".")[0]
                yield (one.asname, one.name) if one.asname else (top, top)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((one.asname or one.name, f"{node.module}.{one.name}") for one in node.names)


def _unsafe(node: ast.AST, names: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (one.name for one in node.names if one.name.partition(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (node.module for _ in (1,) if node.module.partition(".")[0] in MODULES)
    elif isinstance(node, ast.Call):
        name = _name(node.func, names)
        if name in CALLS or name.rpartition(".")[2] in (*METHODS, *TORCH_OBJECTS):
            yield name
        if name.endswith("import_module") and any(_constant(value) in MODULES for value in node.args):
            yield name
        for one in node.keywords:
            if one.arg in FLAGS and _constant(one.value) is not (not FLAGS[one.arg]):
                yield f"{name}({one.arg}=…)"


def _name(node: ast.AST, names: dict[str, str]) -> str:
    """The dotted name behind an expression, as far as it can be told."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value, names)}.{node.attr}"
    if isinstance(node, ast.Call) and _name(node.func, names) == "getattr" and len(node.args) > 1:
        return f"{_name(node.args[0], names)}.{_constant(node.args[1])}"
    return "?"


def _constant(node: ast.AST) -> object:
    return node.value if isinstance(node, ast.Constant) else None
