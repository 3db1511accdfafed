#!/usr/bin/env python3
"""A bill of materials of omni-engine, omni and omni-nucleus: CycloneDX 1.5, as JSON.

Every package that is linked into them, and, with scope `excluded`, every one that their build runs;
each with version, licence and the checksum of Cargo.lock. The same Cargo.lock gives the same
octets. Not in it: libc, libelf and zlib, which are the system's. Needs cargo.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from omni_lab import supply
from omni_lab.supply import SupplyError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="a file, in place of standard output")
    output: Path | None = parser.parse_args().output
    try:
        linked = supply.used("normal")
        building = supply.used("normal,build") - linked
        locked = supply.read_lock((supply.REPOSITORY / "Cargo.lock").read_text())
        document = supply.bill(supply.metadata(), locked, linked, building)
        text = json.dumps(document, indent=1) + "\n"
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text)
    except (OSError, SupplyError) as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
