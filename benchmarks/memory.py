"""How much memory a block of code takes beyond what was there before."""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path

import torch

_TOTALS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
_PAGE = 4096


class _Totals(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in _TOTALS]


class Peak:
    """Growth of memory inside the block, in bytes.

    `growth` is what was allocated at once: of the device's allocator on CUDA, elsewhere of the C library's (glibc 2.33
    or newer), libraries' own buffers included. `resident` is what the system had given to the process by then, freed
    memory that the C library keeps included; 0 on CUDA. Both are sampled on a CPU. `kept` is what is still allocated
    at the block's end.
    """

    def __init__(self, device: str) -> None:
        self.on_card = device.startswith("cuda")
        self.growth = self.resident = self.kept = 0

    def __enter__(self) -> Peak:
        gc.collect()
        if self.on_card:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated(), 0
            return self
        self._libc = ctypes.CDLL(None)
        self._libc.mallinfo2.restype = _Totals
        # What was freed before is not to be used again for nothing.
        self._libc.malloc_trim(0)
        self._before = self._now()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.on_card:
            self.growth = torch.cuda.max_memory_allocated() - self._before[0]
            self.kept = torch.cuda.memory_allocated() - self._before[0]
            return
        self._over.set()
        self._watch.join()
        gc.collect()
        self.kept = self._now()[0] - self._before[0]

    def _sample(self) -> None:
        while not self._over.wait(0.005):
            allocated, resident = self._now()
            self.growth = max(self.growth, allocated - self._before[0])
            self.resident = max(self.resident, resident - self._before[1])

    def _now(self) -> tuple[int, int]:
        totals = self._libc.mallinfo2()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return totals.uordblks + totals.hblkhd, pages * _PAGE
