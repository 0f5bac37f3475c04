"""Build the C++ kernels at first use and load them into torch.

The library lies in a cache folder of the user, under a name made from the source, the flags, the versions of
torch and the compiler, and the processor, so that nothing is ever loaded that was built from or for another.
"""

import hashlib
import logging
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock
from torch.utils import cpp_extension

from actsparse.jobs.files import atomic_path

log = logging.getLogger(__name__)

SOURCES = [Path(__file__).with_name(name) for name in ("products.cpp", "steps.cpp")]
FLAGS = (
    "-std=c++20",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-fPIC",
    "-shared",
)
SECONDS = 600  # that a build may take


@cache
def load_kernels() -> str | None:
    """Make torch.ops.actsparse known; return None, or in one line why it cannot be."""
    try:
        torch.ops.load_library(build())
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        reason = _reason(error)
        log.warning("products are skipped in plain torch, slowly: %s", reason)
        return reason
    _describe()
    return None


def build() -> Path:
    """Return the library, built unless it lies in the cache. Raises OSError or SubprocessError."""
    compiler = os.environ.get("CXX", "g++")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [source.read_text() for source in SOURCES]
    digest = _digest(*sources, *FLAGS, torch.__version__, version, _processor())
    target = cache_folder() / f"kernels-{digest}.so"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            log.info("building %s", target)
            with atomic_path(target) as temporary:
                subprocess.run(
                    _command(compiler, temporary), capture_output=True, text=True, check=True, timeout=SECONDS
                )
    return target


def cache_folder() -> Path:
    """Where built kernels lie: actsparse in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actsparse"


def _command(compiler: str, target: Path) -> list[str]:
    includes = [f"-I{folder}" for folder in cpp_extension.include_paths()]
    libraries = [
        folder for path in cpp_extension.library_paths() for folder in (f"-L{path}", f"-Wl,-rpath,{path}")
    ]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    # OpenMP is compiled in but not linked: torch has brought one along, and a second would have threads that
    # wait, spinning, where the first one's work.
    link = ["-nodefaultlibs", "-lstdc++", "-lm", "-lc", "-lgcc_s", "-ltorch", "-ltorch_cpu", "-lc10"]
    return [compiler, *FLAGS, abi, *includes, *map(str, SOURCES), "-o", str(target), *libraries, *link]


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What tells processors with different instructions apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no C++ compiler {error.filename!r} was found (set CXX, or install g++)"
    said = getattr(error, "stderr", None) or str(error)
    lines = (
        [line for line in said.splitlines() if "error" in line] or said.splitlines() or [type(error).__name__]
    )
    return f"the kernels could not be built or loaded: {lines[0]}"


def _describe() -> None:
    """Tell torch.compile the shapes of results, so that it keeps the operators in its graph."""
    for name, outputs in (("dense", 0), ("skip_inputs", 1), ("skip_outputs", 0)):

        def shape(x, w, *rest, outputs=outputs):
            return x.new_empty((*x.shape[:-1], w.shape[outputs]))

        torch.library.register_fake(f"actsparse::{name}", shape)
