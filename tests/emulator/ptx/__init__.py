"""Run the PTX that NVRTC makes of the kernels on a CPU: each instruction becomes one statement of C++ for the emulator.

It sees what the emulator of sources cannot: contractions and flushes that the compiler chooses, inline PTX, layouts of
parameters.  It does not see ptxas, nor what the emulator itself does not model.

parse.py reads PTX, opcodes.py is the table of instructions, writer.py writes C++, device.py compiles and launches.
"""

from .device import PtxDevice, translated
from .parse import PtxError
from .writer import translate

__all__ = ["PtxDevice", "PtxError", "translate", "translated"]
