#!/usr/bin/env bash
# Which changes of the code would no test notice? See docs/development.md. Argument: a folder that is not there yet.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir "$1"
git -C "$here" archive HEAD | tar x -C "$1"
cd "$1"
mkdir src
mv workflow_scripts/actsparse src/actsparse
ln -s ../src/actsparse workflow_scripts/actsparse
sed -i 's/^pythonpath = \[/pythonpath = ["src", /' pyproject.toml
cat >> pyproject.toml <<'END'

[tool.mutmut]
source_paths = ["src/actsparse"]
only_mutate = [
    "src/actsparse/methods/scorers/*.py",
    "src/actsparse/methods/patterns/n_of_m.py",
    "src/actsparse/methods/patterns/full.py",
    "src/actsparse/methods/patterns/notation.py",
    "src/actsparse/methods/patterns/threshold.py",
    "src/actsparse/methods/patterns/top_k.py",
    "src/actsparse/methods/patterns/top_k_table.py",
    "src/actsparse/methods/mitigations/*.py",
    "src/actsparse/methods/thresholds.py",
    "src/actsparse/codebooks/update.py",
    "src/actsparse/codebooks/assign.py",
    "src/actsparse/models/windows.py",
    "src/actsparse/evaluation/perplexity.py",
    "src/actsparse/report/fidelity.py",
    "src/actsparse/report/shapes.py",
]
pytest_add_cli_args_test_selection = [
    "tests/test_masks.py",
    "tests/test_methods.py",
    "tests/test_definitions_at_their_edges.py",
    "tests/test_windows.py",
    "tests/test_perplexity.py",
    "tests/test_fidelity.py",
    "tests/test_clustering_algorithms.py",
    "tests/test_codebook_kernels.py",
    "tests/test_codebook_fitting.py",
    "tests/test_packing.py",
    "tests/test_histograms.py",
    "tests/test_presets.py",
    "tests/test_joint.py",
]
also_copy = [
    "workflow_scripts", "rules", "published", "tests", "configs", "config.yaml", "Snakefile", "envs", "profiles",
    "pyproject.toml", "docs", "README.md", "results",
]
END
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
exec python -m mutmut run --max-children 2
