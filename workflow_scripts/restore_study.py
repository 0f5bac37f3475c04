"""Put an archived study back into this folder: python workflow_scripts/restore_study.py STUDY.crate.zip"""

import sys
from pathlib import Path

from actsparse.report.archive import restore_study

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        study = restore_study(Path(sys.argv[1]), Path.cwd())
    except (OSError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    print(f"restored results/{study}; its config is results/{study}/config.yaml")
