"""Arrays and data as scripts, since a page opened from disk may run scripts but cannot fetch files."""

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tti.durable import write_atomically


def array(values: np.ndarray) -> dict[str, Any]:
    """An array as JSON: dtype, shape, and its little-endian bytes in base64; ``web/data.js`` reads it."""
    values = np.ascontiguousarray(values)
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {"dtype": values.dtype.name, "shape": list(values.shape), "base64": base64.b64encode(data).decode()}


def write(folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Write ``<name>.js``, which passes ``data`` to the page that loads it."""
    path = folder / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"tti.deliver({json.dumps(name)},{inline(data)});\n")


def inline(data: Any) -> str:
    """JSON that can be embedded in a script: NaN becomes ``null``, and no text can end the script."""
    return json.dumps(_finite(data), separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, np.ndarray):
        return _finite(data.tolist())
    value = data.item() if isinstance(data, np.generic) else data
    return None if isinstance(value, float) and not math.isfinite(value) else value
