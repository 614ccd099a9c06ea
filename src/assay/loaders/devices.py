"""Devices of torch: is there one of this name."""

from __future__ import annotations

from typing import Any

from assay.errors import InvalidInput
from assay.loaders.frameworks import reason


def device_of(torch: Any, device: object) -> Any:
    """The device that is named, once something was put there.

    Raises:
        InvalidInput: torch has none, or cannot use it (code ``no-device``).
    """
    try:
        found = torch.device("cpu" if device is None else device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, ImportError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"torch cannot use the device {device!s:.60} ({reason(error)})",
            code="no-device",
            hint="device='cpu', or a torch that was built for it",
        ) from error
    return found
